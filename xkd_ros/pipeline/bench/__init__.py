"""`xkd bench`: every figure of speed in the docs, measured as ratios in one run."""
