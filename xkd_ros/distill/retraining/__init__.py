"""A second training on what the student of the first says, where frames of one place agree on it; next: `methods`."""
