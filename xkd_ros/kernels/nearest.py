"""The nearest kept point of every raw point, found by walking along neighbours from one that is near."""

from __future__ import annotations

import numpy as np

from xkd_ros.kernels.compiler import compiled

_FOUR = np.float32(4.00001)
"""A little more than 4, against rounding."""


@compiled
def follow(part, parts, gate, queries, guess, points, indices, reach, nearest):
    """Find the nearest point of each query, given one that is near it.

    A point nearer to the query than the best one so far, at distance b, lies within 2 b of that one. So the neighbours of the best
    point are tried in order, moving on to any that is nearer, until the next one is more than 2 b away, which proves the result.

    Args:
        part, parts, gate: From `team.run`.
        queries: (M, 3) float32.
        guess: (M,) int64 where to begin.
        points: (N, 3) float32.
        indices, reach: Neighbours (N, K) of the points, nearest first, none twice, and their squared distances, float32.
        nearest: (M,) int64 to fill; -1 where a walk ran out of neighbours before it was proven.
    """
    near, count = indices.shape[1], len(queries)
    for p in range(part * count // parts, (part + 1) * count // parts):
        best, k = guess[p], 0
        x, y, z = points[best, 0] - queries[p, 0], points[best, 1] - queries[p, 1], points[best, 2] - queries[p, 2]
        smallest = x * x + y * y + z * z
        while k < near and reach[best, k] < _FOUR * smallest:
            tried = indices[best, k]
            x, y, z = points[tried, 0] - queries[p, 0], points[tried, 1] - queries[p, 1], points[tried, 2] - queries[p, 2]
            squared = x * x + y * y + z * z
            k += 1
            if squared < smallest:
                best, smallest, k = tried, squared, 0
        nearest[p] = best if k < near else -1
