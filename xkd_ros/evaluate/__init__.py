"""How good are the labels? Runs a model over labelled scans; tables and pictures."""
