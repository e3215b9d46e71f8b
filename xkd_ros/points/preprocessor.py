"""From a raw scan to what the network reads: one object for training, export and the robot.

In: points of a scan in the lidar frame, intensity or None, and the rotation that levels them. Out: `NetInput`.
Next room: runtime backends, training.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from xkd_ros.core.card import GeometryConfig, IntensityConfig
from xkd_ros.core.se3 import rotation_from_rpy
from xkd_ros.core.types import NetInput
from xkd_ros.points.grid import inside_field_of_view, plane_cells
from xkd_ros.points.heading import estimate_heading
from xkd_ros.points.intensity import normalise
from xkd_ros.points.neighbours import NeighbourGraph
from xkd_ros.points.places import places
from xkd_ros.points.voxels import AXIS_BITS, voxel_groups

_BIN_VOXELS = 3.5
"""Edge of the bins of the neighbour search: 16 neighbours on a surface of one point per voxel lie within 2.3 voxels."""


class Preprocessor:
    """Level, sample one point per voxel, crop to the field of view, find cells, neighbours and the way back.

    Source: METHODS 1.2 to 1.4. Differs: neighbours without the point itself, grids cropped, invalid points removed
    first, points too far away to be packed into voxel keys leave before the sampling instead of after it.
    """

    def __init__(self, geometry: GeometryConfig, intensity: IntensityConfig, threads: int = -1) -> None:
        """Configure from a model card.

        Args:
            geometry: Voxel, field of view, cells, neighbours.
            intensity: Statistics of the sensor.
            threads: Threads of the neighbour searches, -1 for all.
        """
        self.geometry = geometry
        self.intensity = intensity
        self.threads = threads
        self._far_m = 2.0 ** (AXIS_BITS - 2) * geometry.voxel_m

    def __call__(
        self,
        points_m: np.ndarray,
        intensity: np.ndarray | None = None,
        rotation: np.ndarray | None = None,
        order: np.ndarray | None = None,
        undo: bool = True,
        sampled: bool = False,
        limit: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
        stage_ms: dict[str, float] | None = None,
    ) -> NetInput:
        """Prepare one scan.

        Args:
            points_m: (M, 3) metres, lidar frame; NaN, infinite and (0, 0, 0) are no measurements.
            intensity: (M,) in the sensor's unit, or None.
            rotation: (3, 3) levelled_from_lidar; None is the identity.
            order: (M,) permutation; the first point of each voxel in this order is kept. None: array order.
            undo: False leaves `undo` -1 everywhere, for training on the sampled points only.
            sampled: True: the points are one per voxel already, in the order of the voxels; for recipes that augment after sampling.
            limit: Given the (n, 3) sampled points, levelled, and the (n,) raw point of each, says which of them stay: for training on
                parts of scans, or to save time.
            stage_ms: Filled with the wall time of each stage.
        Returns:
            Features of the N points that were kept, their cells and neighbours, and for each raw point the nearest
            kept one (-1 for no measurement, and for all points when none is inside the field of view).
        """
        clock = _Clock(stage_ms)
        rotation = np.eye(3) if rotation is None else np.asarray(rotation, dtype=np.float64)
        raw = np.asarray(points_m, dtype=np.float32).reshape(-1, 3)
        valid, near = self._measurements(raw)
        levelled = _rotated(raw[near], rotation)
        if self.geometry.align_heading:
            rotation = rotation_from_rpy(0.0, 0.0, estimate_heading(levelled)) @ rotation
            levelled = _rotated(raw[near], rotation)
        clock.lap("level")

        order_near = None if order is None else _restrict(np.asarray(order), near, len(raw))
        if sampled:
            chosen, voxel_of = np.arange(len(near)), np.arange(len(near), dtype=np.int32)
        else:
            chosen, voxel_of = voxel_groups(levelled, self.geometry.voxel_m, order_near)
        clock.lap("voxels")

        points = levelled[chosen]
        surviving = inside_field_of_view(points, self.geometry)
        if limit is not None:
            inside = np.flatnonzero(surviving)
            surviving[:] = False
            surviving[inside[limit(points[inside], near[chosen[inside]])]] = True
        points = points[surviving]
        cells, grids = plane_cells(points, self.geometry)
        kept = near[chosen[surviving]]
        features = self._features(points, None if intensity is None else np.asarray(intensity)[kept])
        clock.lap("cells")

        graph = NeighbourGraph(points, self.geometry.neighbours, self.threads, _BIN_VOXELS * self.geometry.voxel_m)
        clock.lap("neighbours")

        undo_map = np.full(len(raw), -1, dtype=np.int64)
        if undo and len(points):
            rank = np.cumsum(surviving) - 1
            rank[~surviving] = -1
            undo_map[near] = _undo(graph, levelled, rank[voxel_of])
            if len(valid) != len(near):
                far = np.setdiff1d(valid, near, assume_unique=True)
                undo_map[far] = graph.nearest(raw[far].astype(np.float64) @ rotation.T)
            clock.lap("undo")
        return NetInput(
            features=features,
            cells=cells,
            grids=grids,
            neighbours=graph.indices,
            kept=kept,
            undo=undo_map,
            rotation=rotation,
        )

    def _measurements(self, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of all measurements, and of those near enough to be packed into voxel keys."""
        with np.errstate(invalid="ignore", over="ignore"):
            size = np.abs(raw[:, 0])
            size += np.abs(raw[:, 1])
            size += np.abs(raw[:, 2])
            near = np.flatnonzero((size > 0) & (size < self._far_m))
        if len(near) == len(raw):
            return near, near
        valid = np.flatnonzero(np.isfinite(raw).all(axis=1) & (raw != 0).any(axis=1))
        return valid, near

    def _features(self, points: np.ndarray, intensity: np.ndarray | None) -> np.ndarray:
        """Columns intensity, x, y, z, range of the levelled points."""
        features = np.empty((len(points), 5), dtype=np.float32)
        features[:, 0] = normalise(intensity, self.intensity, len(points))
        features[:, 1:4] = points
        features[:, 4] = np.sqrt(np.einsum("ij,ij->i", points, points))
        return features


def _rotated(points: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    if np.array_equal(rotation, np.eye(3)):
        return points
    return points @ rotation.T.astype(np.float32)


def _restrict(order: np.ndarray, near: np.ndarray, count: int) -> np.ndarray:
    """Turn a permutation of all raw points into the same order of the near ones, in their own numbering."""
    order = places(near, count)[order]
    return order[order >= 0]


def _undo(graph: NeighbourGraph, points: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Nearest kept point of each point; `guess` is the one kept in its voxel, -1 where that was cropped away."""
    if guess.min() >= 0:
        return graph.nearest_from_guess(points, guess)
    known = guess >= 0
    undo = np.empty(len(points), dtype=np.int64)
    undo[known] = graph.nearest_from_guess(points[known], guess[known])
    undo[~known] = graph.nearest(points[~known])
    return undo


class _Clock:
    """Write the time since the last lap into a dictionary, if there is one."""

    def __init__(self, stage_ms: dict[str, float] | None) -> None:
        self._stage_ms = stage_ms
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        if self._stage_ms is not None:
            now = time.perf_counter()
            self._stage_ms[stage] = self._stage_ms.get(stage, 0.0) + 1e3 * (now - self._last)
            self._last = now
