"""Scribbles: strokes that a person would draw on the surfaces of a place, as labels of a small part of its points.

In: true labels of a simulated place, gathered from its scans. Out: labels of the points near a stroke, 255 elsewhere, for any scan of it.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from xkd_ros.core.types import UNKNOWN
from xkd_ros.points.voxels import voxel_sample

_STEP_M = 0.05
_LONGEST_M = 2.5
_BATCH = 64


class Scribbles:
    """Strokes of one place.

    Attributes:
        share: Part of the known points that they label.
    """

    def __init__(self, points_m: np.ndarray, labels: np.ndarray, share: float, seed: int, width_m: float = 0.1) -> None:
        """Draw strokes until they label the wanted share of the points; each class gets its part of it, and at least one stroke.

        A stroke goes straight from one point towards another of the same class, at most 2.5 m, and labels points of that class only, as
        a person who sees the scene would. Where it starts does not depend on how densely the sensor saw the place: strokes on a wall
        that it stood beside would use up the share, and leave the other walls without one.

        Args:
            points_m: (N, 3) a sample of the place, in one frame.
            labels: (N,) uint8, 255 unknown.
            share: Of the known points, 0 to 1.
            seed: Of the strokes.
            width_m: Points nearer to a stroke than this are labelled.
        """
        rng = np.random.default_rng(seed)
        self._width_m = width_m
        self._trees: dict[int, cKDTree] = {}
        labelled = known = 0
        for label in np.unique(labels[labels != UNKNOWN]).tolist():
            own = points_m[labels == label].astype(np.float64)
            done = self._draw(label, own, share, rng)
            labelled, known = labelled + done, known + len(own)
        self.share = labelled / max(known, 1)

    def label(self, points_m: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Keep the labels of (N, 3) points near a stroke of their class.

        Returns:
            (N,) uint8, 255 elsewhere.
        """
        kept = np.full(len(labels), UNKNOWN, np.uint8)
        for label, tree in self._trees.items():
            rows = np.flatnonzero(labels == label)
            distance, _ = tree.query(points_m[rows], distance_upper_bound=self._width_m)
            kept[rows[np.isfinite(distance)]] = label
        return kept

    def _draw(self, label: int, points: np.ndarray, share: float, rng: np.random.Generator) -> int:
        """Draw strokes of one class; returns how many of its points they label."""
        everything = cKDTree(points)
        surface = points[voxel_sample(points, self._width_m, rng.permutation(len(points)))]
        covered = np.zeros(len(points), bool)
        strokes: list[np.ndarray] = []
        while not strokes or covered.mean() < share:
            stroke = self._stroke(surface, everything, rng)
            strokes.append(stroke)
            for near in everything.query_ball_point(stroke, self._width_m):
                covered[near] = True
        self._trees[label] = cKDTree(np.concatenate(strokes))
        return int(covered.sum())

    def _stroke(self, surface: np.ndarray, everything: cKDTree, rng: np.random.Generator) -> np.ndarray:
        """Draw (S, 3) samples of one stroke between two of the (M, 3) points, ending where the surface ends."""
        start = surface[rng.integers(len(surface))]
        away = surface[rng.choice(len(surface), _BATCH)] - start
        length = np.linalg.norm(away, axis=1)
        reachable = np.flatnonzero((length > _STEP_M) & (length < _LONGEST_M))
        if not len(reachable):
            return start[None]
        end = rng.choice(reachable)
        stroke = start + np.arange(0, length[end], _STEP_M)[:, None] * (away[end] / length[end])
        gap = everything.query(stroke, distance_upper_bound=2 * self._width_m)[0]
        left = np.flatnonzero(~np.isfinite(gap))
        return stroke[: max(1, left[0])] if len(left) else stroke
