"""Numbers that say how good labels are: confusion, IoU, accuracy, calibration. Numpy only."""
