"""Lidar passes window panes: what the image calls a window may stand in the garden."""

from __future__ import annotations

import numpy as np

_NEIGHBOURS, _FEWEST = 24, 8
_WIDEST_RAD = 0.35
# One wall point per cell of this size, so that the nearest ones are not all of one spot.
_CELL_RAD = 0.03
# The wall around a window must look like one vertical plane: flat to within, and seen over so much more.
_FLAT_M, _LENGTH_RATIO = 0.1, 2.0


def behind_glass(levelled_m: np.ndarray, window: np.ndarray, wall: np.ndarray, depth_m: float) -> np.ndarray:
    """Find the window points that lie well behind the wall around them.

    The wall around a window point is the vertical plane through the wall points nearest in direction; where they do not form one
    plane (a corner, too few points) nothing is rejected. A line in the floor plan is fitted instead of a plane in space, because a
    lidar with few beams often sees the wall around a window along a single beam.

    Args:
        levelled_m: (P, 3) metres from the sensor, z up.
        window: (P,) bool, points called a window.
        wall: (P,) bool, points called a wall.
        depth_m: How far behind the wall is too far.
    Returns:
        (P,) bool, a part of `window`.
    Source: METHODS 8.3, last paragraph.
    """
    from scipy.spatial import cKDTree

    rejected = np.zeros(len(levelled_m), bool)
    suspects, around = np.flatnonzero(window), np.flatnonzero(wall)
    points = levelled_m.astype(np.float64, copy=False)
    direction = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)
    around = around[np.unique(np.floor(direction[around] / _CELL_RAD), axis=0, return_index=True)[1]]
    if not len(suspects) or len(around) < _FEWEST:
        return rejected
    distance, index = cKDTree(direction[around]).query(direction[suspects], k=_NEIGHBOURS, distance_upper_bound=_WIDEST_RAD)
    enough = np.isfinite(distance).sum(1) >= _FEWEST
    suspects, near, index = suspects[enough], np.isfinite(distance[enough])[..., None], index[enough]
    plan = points[around[np.minimum(index, len(around) - 1)], :2]  # (S, K, 2)
    counts = near.sum(1)
    middle = np.where(near, plan, 0).sum(1) / counts
    offset = np.where(near, plan - middle[:, None], 0)
    spread, axes = np.linalg.eigh(np.einsum("ski,skj->sij", offset, offset) / counts[..., None])
    flat = (spread[:, 0] < _FLAT_M**2) & (spread[:, 1] > _LENGTH_RATIO**2 * spread[:, 0])
    normal = axes[:, :, 0]
    sensor_side = -(normal * middle).sum(1)
    point_side = (normal * (points[suspects, :2] - middle)).sum(1)
    rejected[suspects[flat & (sensor_side * point_side < 0) & (np.abs(point_side) > depth_m)]] = True
    return rejected
