"""The training engine: loop, schedule, checkpoint, resume, moving average. It knows no method and no data."""
