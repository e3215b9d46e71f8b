"""Voxel sampling: one existing point per voxel.

In: the valid points of a scan. Out: which of them stay, and the voxel of every point. Next room: the crop and the
neighbours in `preprocessor`.
"""

from __future__ import annotations

import numpy as np

AXIS_BITS = 21  # three axes of 21 bits fill a non-negative int64


def voxel_groups(points_m: np.ndarray, voxel_m: float, order: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Choose one point per occupied voxel and tell the voxel of every point.

    The voxel grid starts at the minimum of the points. Chosen points come out in the order of their voxels (x slowest,
    z fastest), which is what a row-wise unique of the voxel indices gives, and keeps neighbours close in memory.

    Args:
        points_m: (M, 3) float32, metres, finite. Voxels beyond 2**21 along an axis share the last one.
        voxel_m: Edge of a voxel in metres.
        order: (M,) permutation; the first point of a voxel in this order is chosen. None: array order.
    Returns:
        kept (N,) int64, index of the chosen point of each voxel, and voxel_of (M,) int32, index into `kept`.
    Source: METHODS 1.2; the voxel index is computed in float32 as the public WaffleIron implementation does.
    """
    count = len(points_m)
    if count == 0:
        return np.empty(0, np.int64), np.empty(0, np.int32)
    key, bits = _packed_keys(points_m, voxel_m)
    if order is not None:
        key = key[order]
    index_bits = max(1, (count - 1).bit_length())
    if bits + index_bits <= 63:
        # Key and position in one integer: all values differ, so the fastest (unstable, vectorised) sort is enough.
        key <<= index_bits
        key |= np.arange(count)
        key.sort()
        position = key & ((1 << index_bits) - 1)
        key >>= index_bits
    else:
        position = np.argsort(key, kind="stable")
        key = key[position]
    first = np.empty(count, dtype=bool)
    first[0] = True
    np.not_equal(key[1:], key[:-1], out=first[1:])
    if order is not None:
        position = np.asarray(order, dtype=np.int64)[position]
    voxel_of = np.empty(count, dtype=np.int32)
    voxel_of[position] = np.cumsum(first, dtype=np.int32) - 1
    return position[first], voxel_of


def voxel_sample(points_m: np.ndarray, voxel_m: float, order: np.ndarray | None = None) -> np.ndarray:
    """Choose one point per occupied voxel, see `voxel_groups`.

    Args:
        points_m: (M, 3) float32, metres, finite.
        voxel_m: Edge of a voxel in metres.
        order: (M,) permutation, random for training. None: array order.
    Returns:
        kept (N,) int64, indices into `points_m` in the order of the voxels.
    """
    return voxel_groups(points_m, voxel_m, order)[0]


def _packed_keys(points_m: np.ndarray, voxel_m: float) -> tuple[np.ndarray, int]:
    """Pack the three voxel indices of each point into one integer; say how many bits the largest needs."""
    key = np.zeros(len(points_m), dtype=np.int64)
    bits = 0
    for axis in range(3):
        column = np.array(points_m[:, axis], dtype=np.float32)
        with np.errstate(over="ignore"):
            column -= column.min()
            column /= np.float32(voxel_m)
        np.minimum(column, np.float32(2**AXIS_BITS - 1), out=column)
        index = column.astype(np.int32)
        axis_bits = int(index.max()).bit_length()
        key <<= axis_bits
        key |= index
        bits += axis_bits
    return key, bits
