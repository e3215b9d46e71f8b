"""`xkd study NAME`: comparisons on simulated buildings, as queues of small cells that any machine can go on with."""
