"""Simulated buildings, people, lidars and cameras with true labels.

A seed becomes a `Building`; a `Raycaster` and a `LidarModel` take scans in it; `sample_scan` does all of it for training.
"""
