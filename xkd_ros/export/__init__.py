"""Checkpoints to ONNX graphs that were compared with torch before they were written."""
