"""Turn a levelled scan so that its walls run along x and y.

The network sees the world through axis-aligned cells: a wall that fills one row of cells looks different from one that cuts across
many. Turning every scan to its dominant wall direction, in training and on the robot, removes that difference where a building has
one. In: levelled points. Out: a yaw. Next room: `preprocessor`.
"""

from __future__ import annotations

import numpy as np

from xkd_ros.kernels.heading import peakedness
from xkd_ros.points.voxels import voxel_sample

VOXEL_M = 0.2  # one vote per voxel, so that near points do not outvote far walls
BIN_M = 0.1
LEAST_POINTS, LARGEST_VOTES = 50, 4000
COARSE_DEG, FINE_DEG = 2.0, 0.5
REACH_M = 25.0


def estimate_heading(points_m: np.ndarray) -> float:
    """Find the yaw that makes the marginal distributions of x and y most peaked.

    Args:
        points_m: (N, 3) float32, finite, levelled.
    Returns:
        Radians in [-pi/4, pi/4): rotate the points by it about z and the dominant walls run along x and y (which of the two
        directions is x stays open); 0 when there is nothing to go by.
    """
    near = points_m[(np.abs(points_m[:, 0]) < REACH_M) & (np.abs(points_m[:, 1]) < REACH_M)]
    if len(near) < LEAST_POINTS:
        return 0.0
    xy = near[voxel_sample(near, VOXEL_M), :2].astype(np.float64)
    if len(xy) > LARGEST_VOTES:
        xy = xy[:: -(-len(xy) // LARGEST_VOTES)]
    coarse = np.radians(np.arange(-45.0, 45.0, COARSE_DEG))
    best = coarse[np.argmax(_peakedness(xy, coarse))]
    fine = best + np.radians(np.arange(-COARSE_DEG, COARSE_DEG + FINE_DEG / 2, FINE_DEG))
    angle = fine[np.argmax(_peakedness(xy, fine))]
    return float((angle + np.pi / 4) % (np.pi / 2) - np.pi / 4)


def _peakedness(xy: np.ndarray, angles_rad: np.ndarray) -> np.ndarray:
    """How peaked the counts of 0.1 m bins along both axes are after turning by each angle."""
    return peakedness(np.ascontiguousarray(xy), angles_rad, 2 * REACH_M, BIN_M)
