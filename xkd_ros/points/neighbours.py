"""Nearest neighbours in 3D: the graph of the embedding layer, and the map back to the raw scan.

In: sampled points. Out: neighbour indices, and the nearest sampled point of any other point. Next room: `NetInput`.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from xkd_ros.kernels.nearest import follow
from xkd_ros.kernels.team import run, threads_for

LEAF_SIZE = 16


class NeighbourGraph:
    """The K nearest neighbours of every point, and quick exact nearest-point queries on top of them."""

    def __init__(self, points_m: np.ndarray, neighbours: int, threads: int = -1) -> None:
        """Search the neighbours.

        Args:
            points_m: (N, 3), metres, finite.
            neighbours: K, neighbours per point, the point itself not counted.
            threads: Number of threads, -1 for all.
        """
        self._points = np.ascontiguousarray(points_m, dtype=np.float64).reshape(-1, 3)
        self._threads = threads
        # Sliding-midpoint splits build in half the time of median splits and answer as fast on scans.
        self._tree = cKDTree(self._points, leafsize=LEAF_SIZE, balanced_tree=False) if len(self._points) else None
        self.indices, self.distances_m = self._search(neighbours)

    def _search(self, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (N, K) int64 indices without the point itself, nearest first, and their distances."""
        count = len(self._points)
        if self._tree is None or neighbours == 0:
            return np.empty((count, neighbours), np.int64), np.empty((count, neighbours))
        found = min(neighbours + 1, count)
        distance, index = self._tree.query(self._points, k=found, workers=self._threads)
        index = index.reshape(count, found).astype(np.int64, copy=False)
        distance = distance.reshape(count, found)
        own = np.arange(count)
        if np.array_equal(index[:, 0], own):
            index, distance = index[:, 1:], distance[:, 1:]
        else:
            # Duplicate coordinates: the point itself may stand anywhere in its row, or have been crowded out of it.
            is_own = index == own[:, None]
            is_own[~is_own.any(axis=1), -1] = True
            index = index[~is_own].reshape(count, found - 1)
            distance = distance[~is_own].reshape(count, found - 1)
        if found == 1:
            return np.zeros((count, neighbours), np.int64), np.zeros((count, neighbours))
        if found - 1 < neighbours:
            # A maximum over neighbours does not change when some are repeated.
            repeated = np.arange(neighbours) % (found - 1)
            index, distance = index[:, repeated], distance[:, repeated]
        return np.ascontiguousarray(index), distance

    def nearest(self, queries_m: np.ndarray) -> np.ndarray:
        """Find the nearest point of each query by the tree.

        Args:
            queries_m: (M, 3), metres, finite.
        Returns:
            (M,) int64; -1 everywhere when there are no points.
        """
        queries = np.asarray(queries_m, dtype=np.float64).reshape(-1, 3)
        if self._tree is None:
            return np.full(len(queries), -1, dtype=np.int64)
        return self._tree.query(queries, workers=self._threads)[1].astype(np.int64, copy=False)

    def nearest_from_guess(self, queries_m: np.ndarray, guess: np.ndarray) -> np.ndarray:
        """Find the nearest point of each query, given a point that is near it; ten times faster than the tree.

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
        reach = np.square(self.distances_m, dtype=np.float32, casting="same_kind")
        best = np.empty(len(queries), np.int64)
        threads = threads_for(self._threads if self._threads > 0 else None)
        run(follow, threads, queries, guess.astype(np.int64), self._points.astype(np.float32), self.indices, reach, best)
        left_over = np.flatnonzero(best < 0)
        if len(left_over):
            best[left_over] = self.nearest(queries[left_over])
        return best


def knn(points_m: np.ndarray, neighbours: int, threads: int = -1) -> np.ndarray:
    """Find the K nearest neighbours of each point, itself excluded.

    Args:
        points_m: (N, 3), metres, finite.
        neighbours: K. With fewer than K other points those are repeated; a lone point is its own neighbour.
        threads: Number of threads, -1 for all.
    Returns:
        (N, K) int64, nearest first.
    """
    return NeighbourGraph(points_m, neighbours, threads).indices


def nearest(points_m: np.ndarray, queries_m: np.ndarray, threads: int = -1) -> np.ndarray:
    """Find the nearest point of each query.

    Args:
        points_m: (N, 3), metres, finite.
        queries_m: (M, 3), metres, finite.
        threads: Number of threads, -1 for all.
    Returns:
        (M,) int64 index into `points_m`; -1 everywhere when there are no points.
    """
    return NeighbourGraph(points_m, 0, threads).nearest(queries_m)
