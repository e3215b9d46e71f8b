"""How well each of many yaws lines the points of a scan up with the axes; see `points.heading`."""

from __future__ import annotations

import numpy as np

from xkd_ros.kernels.compiler import compiled


@compiled
def peakedness(xy, angles, reach, width):
    """Sum, for each angle, the squared counts of bins along both turned axes, and the products of neighbouring ones.

    Args:
        xy: (N, 2) float64, metres.
        angles: (A,) radians.
        reach: Largest distance of a point from the origin, metres.
        width: Of a bin, metres.
    Returns:
        (A,) float64.
    """
    scores = np.empty(len(angles))
    bins = int(2 * reach / width) + 2
    for a in range(len(angles)):
        cosine, sine = np.cos(angles[a]), np.sin(angles[a])
        counts = np.zeros((2, bins), np.int64)
        for p in range(len(xy)):
            x, y = xy[p, 0], xy[p, 1]
            counts[0, int((cosine * x - sine * y + reach) / width)] += 1
            counts[1, int((sine * x + cosine * y + reach) / width)] += 1
        total = 0
        for axis in range(2):
            for b in range(bins):
                # Neighbouring bins count too: a wall with 2 cm of noise falls into two bins at any angle.
                total += counts[axis, b] * counts[axis, b]
                if b:
                    total += counts[axis, b] * counts[axis, b - 1]
        scores[a] = total
    return scores
