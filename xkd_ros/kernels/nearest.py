"""Exact nearest neighbours in 3D: on grids of bins, and from a guess by walking along neighbours.

Points are sorted into bins of a few points each, and into coarser grids for the few queries that have no neighbours nearby. A query
visits bins in shells around its own until what it found is nearer than anything that it has not seen.
"""

from __future__ import annotations

import numpy as np

from xkd_ros.kernels.compiler import compiled
from xkd_ros.kernels.team import take

_LEVELS, _COARSER, _SHELLS = 3, 4, 3
_MOST_BINS = 1 << 20
_QUERIES = 128
"""Queries that a thread takes at once."""
_NOTHING = 0x7F800000 << 32
"""Key of an infinite distance."""
_ROUNDING = 1e-5
"""Part of a bin's edge by which a border may be wrong."""
_FOUR = np.float32(4.00001)
"""A little more than 4, against rounding."""


@compiled
def build_bins(points, size):
    """Sort points into grids.

    Args:
        points: (N, 3) float32, finite, N >= 1.
        size: Edge of the finest bins; larger ones are taken where there would be too many.
    Returns:
        origin (3,), edge (L,), dims (L, 3) and the first bin (L,) of each grid, starts of all bins, and by grid the points sorted
        by bin (L, N, 4) with their numbers (L, N).
    """
    count = len(points)
    origin, top = np.empty(3), np.empty(3)
    for a in range(3):
        origin[a], top[a] = points[0, a], points[0, a]
    for p in range(count):
        for a in range(3):
            origin[a], top[a] = min(origin[a], points[p, a]), max(top[a], points[p, a])
    edge, dims, first = np.empty(_LEVELS), np.empty((_LEVELS, 3), np.int64), np.empty(_LEVELS, np.int64)
    total = 0
    for level in range(_LEVELS):
        edge[level] = size if level == 0 else _COARSER * edge[level - 1]
        bins = np.inf
        while bins > _MOST_BINS:
            edge[level] *= 1.0 if bins == np.inf else 2.0
            bins = 1.0
            for a in range(3):
                bins *= np.floor((top[a] - origin[a]) / edge[level]) + 1.0
        for a in range(3):
            dims[level, a] = int((top[a] - origin[a]) / edge[level]) + 1
        first[level] = total
        total += dims[level, 0] * dims[level, 1] * dims[level, 2] + 1
    starts, where = np.zeros(total, np.int32), np.empty(count, np.int64)
    # Rows of four: a cache line then holds whole points.
    rows, number = np.empty((_LEVELS, count, 4), np.float32), np.empty((_LEVELS, count), np.int32)
    for level in range(_LEVELS):
        base, last = first[level], dims[level, 0] * dims[level, 1] * dims[level, 2]
        for p in range(count):
            place = 0
            for a in range(3):
                place = place * dims[level, a] + min(int((points[p, a] - origin[a]) / edge[level]), dims[level, a] - 1)
            where[p] = base + place
            starts[base + place + 1] += 1
        for b in range(last):
            starts[base + b + 1] += starts[base + b]
        # Filled from behind, the end of a bin becomes its start.
        for p in range(count - 1, -1, -1):
            starts[where[p] + 1] -= 1
            place = starts[where[p] + 1]
            number[level, place] = p
            for a in range(3):
                rows[level, place, a] = points[p, a]
        for b in range(last):
            starts[base + b] = starts[base + b + 1]
        starts[base + last] = count
    return origin, edge, dims, first, starts, rows, number


@compiled
def _scan(low, high, level, query, own, rows, number, keys, bits, integer, worst):
    """Put the points low to high of a grid among the nearest so far; return the squared distance of the last of those."""
    most = len(keys)
    for i in range(low, high):
        x, y, z = rows[level, i, 0] - query[0], rows[level, i, 1] - query[1], rows[level, i, 2] - query[2]
        squared = x * x + y * y + z * z
        if squared >= worst or number[level, i] == own:
            continue
        # Bits of positive floats sort as the floats do: distance and number in one integer are moved at once.
        bits[0] = squared
        key = (np.int64(integer[0]) << 32) | np.int64(number[level, i])
        k = most - 1
        while k > 0 and keys[k - 1] > key:
            keys[k] = keys[k - 1]
            k -= 1
        keys[k] = key
        integer[0] = np.int32(keys[most - 1] >> 32)
        worst = bits[0]
    return worst


@compiled
def _search(query, own, bins, centre, outside, keys, bits, integer):
    """Fill the keys of the nearest points of one query, nearest first; `centre` and `outside` (3,) are room to work in."""
    origin, edge, dims, first, starts, rows, number = bins
    for level in range(_LEVELS):
        worst = np.float32(np.inf)
        for k in range(len(keys)):
            keys[k] = _NOTHING
        for a in range(3):
            place = (query[a] - origin[a]) / edge[level]
            centre[a] = int(min(max(np.floor(place), 0.0), dims[level, a] - 1.0))
            apart = max(-place, place - dims[level, a]) - _ROUNDING
            outside[a] = (max(apart, 0.0) * edge[level]) ** 2
        shell = 0
        while level == _LEVELS - 1 or shell < _SHELLS:
            bottom, top = max(centre[2] - shell, 0), min(centre[2] + shell, dims[level, 2] - 1)
            for i in range(max(centre[0] - shell, 0), min(centre[0] + shell, dims[level, 0] - 1) + 1):
                for j in range(max(centre[1] - shell, 0), min(centre[1] + shell, dims[level, 1] - 1) + 1):
                    column = first[level] + (i * dims[level, 1] + j) * dims[level, 2]
                    if abs(i - centre[0]) == shell or abs(j - centre[1]) == shell:
                        low, high = starts[column + bottom], starts[column + top + 1]
                        worst = _scan(low, high, level, query, own, rows, number, keys, bits, integer, worst)
                        continue
                    for k in (centre[2] - shell, centre[2] + shell):
                        if 0 <= k < dims[level, 2]:
                            low, high = starts[column + k], starts[column + k + 1]
                            worst = _scan(low, high, level, query, own, rows, number, keys, bits, integer, worst)
            unseen = np.inf
            for a in range(3):
                gap = np.inf
                if centre[a] - shell > 0:
                    gap = query[a] - (origin[a] + (centre[a] - shell) * edge[level])
                if centre[a] + shell < dims[level, a] - 1:
                    gap = min(gap, origin[a] + (centre[a] + shell + 1) * edge[level] - query[a])
                gap = max(gap - _ROUNDING * edge[level], 0.0)
                # From outside the grid, what lies beyond a border is also as far as the grid is in the other directions.
                unseen = min(unseen, gap * gap + outside[(a + 1) % 3] + outside[(a + 2) % 3])
            if unseen == np.inf or worst <= unseen:
                return
            shell += 1


@compiled
def search(part, parts, gate, counters, queries, own, bins, indices, squares):
    """Find the nearest points of each query.

    Args:
        part, parts, gate: From `team.run`.
        counters: (1,) int64 zero.
        queries: (M, 3) float32.
        own: True when query p is point p, which is then left out.
        bins: From `build_bins`.
        indices, squares: (M, K) int64 and float32 to fill: numbers, nearest first, and squared distances. K is no more than there are
            points to find.
    """
    count, near = len(queries), indices.shape[1]
    centre, outside = np.empty(3, np.int64), np.empty(3)
    keys, bits = np.empty(near, np.int64), np.empty(1, np.float32)
    integer = bits.view(np.int32)
    i = take(counters, 0)
    while i * _QUERIES < count:
        for p in range(i * _QUERIES, min(count, i * _QUERIES + _QUERIES)):
            _search(queries[p], p if own else -1, bins, centre, outside, keys, bits, integer)
            for k in range(near):
                integer[0] = np.int32(keys[k] >> 32)
                squares[p, k] = bits[0]
                indices[p, k] = keys[k] & 0x7FFFFFFF
        i = take(counters, 0)


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
