"""What past scans said about places in the world: voxels as rows, found by a hash table, read and added to once per scan.

A row holds evidence for each class, in nats against the likeliest class that stays in place, and last its mass: how many scans stand
behind it, each by its weight. `runtime.temporal` has the formula.
"""

from __future__ import annotations

import numpy as np

from xkd_ros.kernels.compiler import compiled

_AXIS_BITS = 21
_AXIS_MASK = (1 << _AXIS_BITS) - 1
_FREE = -1
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""2**64 / golden ratio: neighbouring places land far apart (multiplicative hashing)."""
_HIGH = np.uint64(32)


@compiled
def _slot_of(places, rows, place):
    """Find the slot of a place, or the free one where it belongs."""
    mask = len(places) - 1
    slot = np.int64((np.uint64(place) * _SPREAD) >> _HIGH) & mask
    while rows[slot] != _FREE and places[slot] != place:
        slot = (slot + 1) & mask
    return slot


@compiled
def fill_table(places, rows, place_of, used):
    """Make the table from the places of the rows.

    Args:
        places, rows: (S,) int64 and (S,) int32 to fill, S a power of two and larger than the number of rows.
        place_of: (R,) int64.
        used: Rows in use.
    """
    for slot in range(len(rows)):
        rows[slot] = _FREE
    for row in range(used):
        slot = _slot_of(places, rows, place_of[row])
        places[slot], rows[slot] = place_of[row], row


@compiled
def find_rows(points, pose, voxel_m, places, rows, place_of, used, row_of):
    """Find the row of each point's voxel; places that have none get the next free row.

    Args:
        points: (N, 3) float32, finite, lidar frame.
        pose: (4, 4) float64 world_from_lidar.
        voxel_m: Edge of a voxel; the grid repeats after 2**21 voxels.
        places, rows: The table.
        place_of: (R,) int64, R >= used + N.
        used: Rows in use.
        row_of: (N,) int64 to fill.
    Returns:
        Rows in use.
    """
    for p in range(len(points)):
        place = np.int64(0)
        for a in range(3):
            at = pose[a, 0] * points[p, 0] + pose[a, 1] * points[p, 1] + pose[a, 2] * points[p, 2] + pose[a, 3]
            place = (place << _AXIS_BITS) | (np.int64(np.floor(at / voxel_m)) & _AXIS_MASK)
        slot = _slot_of(places, rows, place)
        if rows[slot] == _FREE:
            places[slot], rows[slot], place_of[used] = place, used, place
            used += 1
        row_of[p] = rows[slot]
    return used


@compiled
def voxel_distances(place_of, pose, voxel_m):
    """Distance of places from the lidar.

    Args:
        place_of: (R,) int64.
        pose: (4, 4) float64 world_from_lidar.
        voxel_m: Edge of a voxel.
    Returns:
        (R,) float64 metres, right to a voxel.
    """
    half = (_AXIS_MASK + 1) // 2
    distances = np.empty(len(place_of))
    for row in range(len(place_of)):
        square = 0.0
        for a in range(3):
            index = place_of[row] >> (_AXIS_BITS * (2 - a))
            away = ((index - np.int64(np.floor(pose[a, 3] / voxel_m)) + half) & _AXIS_MASK) - half
            square += (away * voxel_m) ** 2
        distances[row] = np.sqrt(square)
    return distances


@compiled
def _fading(movable, decay, movable_decay, ages):
    """What is left of each class, and last of the mass, after so many scans; (A, C + 1) float32."""
    classes = len(movable)
    left = np.ones((ages, classes + 1), np.float32)
    for age in range(1, ages):
        for c in range(classes + 1):
            left[age, c] = left[age - 1, c] * (movable_decay if c < classes and movable[c] else decay)
    return left


@compiled
def _add(row, v, weight, movable, limit, said, evidence):
    """Add what one scan said of a voxel, and keep it in log-odds against the likeliest class that stays in place."""
    classes = len(movable)
    for c in range(classes + 1):
        evidence[row, c] += said[v, c] * weight
    best = np.float32(-np.inf)
    for c in range(classes):
        best = best if movable[c] else max(best, evidence[row, c])
    for c in range(classes):
        evidence[row, c] = min(max(evidence[row, c] - best, -limit), limit)


@compiled
def fuse_scan(scores, row_of, scan, oldest, movable, decay, movable_decay, strength, limit, seen, evidence, number, fused):
    """Join what a scan says with what is known of its places, then add it to that.

    Args:
        scores: (N, C) float32 logits; rows that are not finite are passed on and add nothing.
        row_of: (N,) int64, from `find_rows`.
        scan: Number of the scan, growing.
        oldest: What was last seen before this scan is forgotten; 0 or more.
        movable: (C,) bool, not all.
        decay, movable_decay: Factors per scan.
        strength: Weight of a scan that is certain, float32.
        limit: Of the evidence, float32.
        seen, evidence: (R,) int64 last scan of each row, negative for a new one, and (R, C + 1) float32.
        number: (R,) int64, memory to work in.
        fused: (N, C) float32 to fill with log-probabilities.
    Returns:
        Number of points whose place was known.
    """
    count, classes = scores.shape
    row_of_voxel, points_in = np.empty(count, np.int64), np.zeros(count, np.int64)
    said = np.zeros((count, classes + 1), np.float32)
    one = np.float32(1)
    scale = one / np.float32(np.log(classes)) if classes > 1 else one
    left = _fading(movable, np.float32(decay), np.float32(movable_decay), scan - oldest + 1)
    voxels, known = 0, 0
    for p in range(count):
        row, top = row_of[p], scores[p, 0]
        for c in range(classes):
            top = max(top, scores[p, c])
        total, sum_of_logs = np.float32(0), np.float32(0)
        for c in range(classes):
            log_share = scores[p, c] - top
            share = np.exp(log_share)
            total += share
            sum_of_logs += share * log_share
        if not abs(total + sum_of_logs) < np.inf:  # unlike isfinite, right in the presence of fast mathematics
            for c in range(classes):
                fused[p, c] = scores[p, c]
            continue
        if seen[row] != scan:
            # At the first touch in a scan the row is brought up to date.
            age, remembered = scan - seen[row], seen[row] >= oldest
            for c in range(classes + 1):
                evidence[row, c] *= left[age, c] if remembered else np.float32(0)
            seen[row] = scan
            number[row], row_of_voxel[voxels] = voxels, row
            voxels += 1
        v, log_total = number[row], np.log(total)
        # With p = share / total: -sum p log p = log total - sum share * log share / total.
        weight = strength * max(np.float32(0), one - scale * (log_total - sum_of_logs / total))
        for c in range(classes):
            fused[p, c] = scores[p, c] - top - log_total
            said[v, c] += weight * fused[p, c]
        said[v, classes] += weight
        points_in[v] += 1
        mass = evidence[row, classes]
        known += mass > 0
        softer = one / (one + min(one, mass))
        for c in range(classes):
            fused[p, c] = (fused[p, c] + evidence[row, c]) * softer
    for v in range(voxels):
        _add(row_of_voxel[v], v, one / np.float32(points_in[v]), movable, limit, said, evidence)
    return known
