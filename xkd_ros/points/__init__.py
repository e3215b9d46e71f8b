"""Lidar preprocessing: levelling, voxels, field of view, features, 2D cells, neighbours, and the map back."""
