"""The robot's own body in its scans: what never leaves its place beside the lidar although the robot moves.

Scans from all over a recording come in, a mask over small cubes around the lidar goes out; next: the frame store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

VOXEL_M = 0.1
# Cubes in nearly all scans are body; one of a worn edge may be seen itself in fewer, as long as its neighbours fill in.
_SHARE, _OWN_SHARE = 0.9, 0.3
_FEWEST_SCANS = 8
# Below this the floor begins, which follows the robot as faithfully as its body does.
_ABOVE_FLOOR_M = 0.15
# Upright things this far away tell whether the robot went anywhere: along one corridor the walls stay where they are.
_AROUND_M, _AROUND_HEIGHT_M, _AROUND_CELL_M = (2.0, 12.0), (0.3, 1.8), 0.3
_MOST_STANDING = 0.2
# More of a scan than this is never the robot.
_LARGEST_SHARE = 0.35
_OFFSET = 1 << 9


@dataclass(frozen=True, eq=False)
class BodyMask:
    """Cubes that belong to the robot.

    Attributes:
        voxels: (V, 3) int32, cube indices in the lidar frame; cube 0 begins at the origin.
        reason: Why nothing was learnt; empty when something was, even if it is no cube at all.
    """

    voxels: np.ndarray
    reason: str = ""

    def covers(self, points_m: np.ndarray) -> np.ndarray:
        """Tell (N,) bool which points (N, 3), metres, lidar frame, are the robot's own."""
        own = np.zeros(len(points_m), bool)
        if not len(self.voxels):
            return own
        reach = (np.abs(self.voxels).max() + 1) * VOXEL_M
        near = np.flatnonzero((np.abs(points_m) < reach).all(axis=1))
        own[near] = np.isin(_keys(np.floor(points_m[near] / VOXEL_M)), _keys(self.voxels))
        return own


def learn_body(scans: Sequence[np.ndarray], heights_m: Sequence[np.ndarray], radius_m: float) -> BodyMask:
    """Find the cubes near the lidar that are occupied in nearly all scans of a robot that moves.

    Args:
        scans: (N, 3) float32 each, metres, lidar frame, measurements only, from all over a recording.
        heights_m: (N,) each, height of every point above the floor.
        radius_m: The body lies within this distance.
    Returns:
        The mask; empty with a reason where it cannot be told.
    """
    if len(scans) < _FEWEST_SCANS:
        return _nothing(f"{len(scans)} scans with a floor are too few")
    standing = _standing_share(scans, heights_m)
    if standing > _MOST_STANDING:
        return _nothing(f"{standing:.0%} of the surroundings stay in place: the robot stood, or went straight on")
    occupied: dict[int, int] = {}
    widened: dict[int, int] = {}
    for points, height in zip(scans, heights_m, strict=True):
        near = (np.linalg.norm(points, axis=1) < radius_m) & (height > _ABOVE_FLOOR_M)
        cubes = np.unique(_keys(np.floor(points[near] / VOXEL_M)))
        _count(occupied, cubes)
        _count(widened, np.unique((cubes[:, None] + _NEIGHBOURS).reshape(-1)))
    least = _SHARE * len(scans)
    body = sorted(key for key, count in occupied.items() if count > _OWN_SHARE * len(scans) and widened[key] > least)
    mask = BodyMask(_indices(np.array(body, np.int64)))
    share = float(np.mean([mask.covers(points).mean() if len(points) else 0.0 for points in scans]))
    if share > _LARGEST_SHARE:
        return _nothing(f"{share:.0%} of all points would be the robot: not believed")
    return mask


def _nothing(reason: str) -> BodyMask:
    return BodyMask(np.zeros((0, 3), np.int32), reason)


def _keys(cubes: np.ndarray) -> np.ndarray:
    """Pack (V, 3) cube indices between -512 and 511 into one integer each."""
    shifted = np.asarray(cubes).astype(np.int64) + _OFFSET
    return (shifted[:, 0] << 20) | (shifted[:, 1] << 10) | shifted[:, 2]


def _indices(keys: np.ndarray) -> np.ndarray:
    columns = [(keys >> 20) - _OFFSET, ((keys >> 10) & 1023) - _OFFSET, (keys & 1023) - _OFFSET]
    return np.stack(columns, axis=1).astype(np.int32)


_NEIGHBOURS = np.array([(x << 20) + (y << 10) + z for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)], np.int64)


def _count(counts: dict[int, int], keys: np.ndarray) -> None:
    for key in keys.tolist():
        counts[key] = counts.get(key, 0) + 1


def _standing_share(scans: Sequence[np.ndarray], heights_m: Sequence[np.ndarray]) -> float:
    """Share of the upright surroundings of a scan that is in the same place in nearly all scans."""
    low, high = _AROUND_M
    cells = []
    for points, height in zip(scans, heights_m, strict=True):
        distance = np.hypot(points[:, 0], points[:, 1])
        around = (distance > low) & (distance < high) & (height > _AROUND_HEIGHT_M[0]) & (height < _AROUND_HEIGHT_M[1])
        column = np.floor(points[around, :2] / _AROUND_CELL_M)
        cells.append(np.unique(_keys(np.column_stack([column, np.zeros(len(column))]))))
    unique, counts = np.unique(np.concatenate(cells), return_counts=True)
    lasting = unique[counts > _SHARE * len(scans)]
    shares = [float(np.isin(found, lasting).mean()) for found in cells if len(found)]
    return float(np.mean(shares)) if shares else 1.0
