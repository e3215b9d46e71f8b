"""Nearest neighbours in 3D: the graph of the embedding layer, and the map back to the raw scan.

In: sampled points. Out: neighbour indices, and the nearest sampled point of any other point. Next room: `NetInput`.
"""

from __future__ import annotations

import numpy as np

from xkd_ros.kernels.nearest import build_bins, follow, search
from xkd_ros.kernels.team import run, threads_for

_PER_BIN = 1.5
"""Spread over the faces of their bounding box, so many points would share the face of a bin."""


class NeighbourGraph:
    """The K nearest neighbours of every point, and quick exact nearest-point queries on top of them."""

    def __init__(self, points_m: np.ndarray, neighbours: int, threads: int = -1, bin_m: float | None = None) -> None:
        """Search the neighbours.

        Args:
            points_m: (N, 3), metres, finite; distances are computed in float32.
            neighbours: K, neighbours per point, the point itself not counted.
            threads: Number of threads, -1 for all.
            bin_m: Edge of the bins that points are sorted into, a little more than the distance of the last neighbour where points
                are dense; decides on the time alone. None guesses.
        """
        self._points = np.ascontiguousarray(points_m, dtype=np.float32).reshape(-1, 3)
        self._threads = threads_for(threads if threads > 0 else None)
        self._bins = build_bins(self._points, bin_m or _guess_bin(self._points)) if len(self._points) else None
        self.indices, self._reach = self._search(neighbours)

    def _search(self, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (N, K) int64 indices without the point itself, nearest first, and squared distances."""
        count = len(self._points)
        found = min(neighbours, count - 1)
        if found < 1:
            return np.zeros((count, neighbours), np.int64), np.zeros((count, neighbours), np.float32)
        index, squared = self._ask(self._points, found, own=True)
        if found < neighbours:
            # A maximum over neighbours does not change when some are repeated.
            repeated = np.arange(neighbours) % found
            index, squared = index[:, repeated], squared[:, repeated]
        return index, squared

    def _ask(self, queries: np.ndarray, count: int, own: bool) -> tuple[np.ndarray, np.ndarray]:
        index, squared = np.empty((len(queries), count), np.int64), np.empty((len(queries), count), np.float32)
        run(search, self._threads, np.zeros(1, np.int64), queries, own, self._bins, index, squared)
        return index, squared

    def nearest(self, queries_m: np.ndarray) -> np.ndarray:
        """Find the nearest point of each query.

        Args:
            queries_m: (M, 3), metres, finite.
        Returns:
            (M,) int64; -1 everywhere when there are no points.
        """
        queries = np.ascontiguousarray(queries_m, dtype=np.float32).reshape(-1, 3)
        if self._bins is None:
            return np.full(len(queries), -1, dtype=np.int64)
        return self._ask(queries, 1, own=False)[0][:, 0]

    def nearest_from_guess(self, queries_m: np.ndarray, guess: np.ndarray) -> np.ndarray:
        """Find the nearest point of each query, given a point that is near it; several times faster than `nearest`.

        Args:
            queries_m: (M, 3) float32, metres, finite.
            guess: (M,) index of a near point, for example the one kept in the query's voxel.
        Returns:
            (M,) int64 index of the nearest point, exact up to float32 rounding of the distances.
        """
        count, neighbours = self.indices.shape
        if len(guess) == 0 or count <= neighbours:
            return self.nearest(queries_m)
        queries = np.ascontiguousarray(queries_m, dtype=np.float32)
        best = np.empty(len(queries), np.int64)
        run(follow, self._threads, queries, guess.astype(np.int64), self._points, self.indices, self._reach, best)
        left_over = np.flatnonzero(best < 0)
        if len(left_over):
            best[left_over] = self.nearest(queries[left_over])
        return best


def _guess_bin(points: np.ndarray) -> float:
    x, y, z = (points.max(0) - points.min(0)).astype(np.float64)
    return max(float(np.sqrt(_PER_BIN * (x * y + y * z + x * z) / len(points))), 1e-3)
