"""The whole way of a scan on one device, with fixed shapes: what a GPU can do without asking the host."""
