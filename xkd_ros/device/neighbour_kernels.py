"""Nearest points by a Triton kernel: one program asks the bins around one query, then coarser ones, then all points.

Distance and number of a point are one integer, as bits of positive floats sort as the floats do. Same result as `kernels.nearest`.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from xkd_ros.device.neighbours import BinnedPoints

_NOTHING = tl.constexpr(0x7F800000 << 32)
"""Smallest key of an infinite distance."""
_NEVER = tl.constexpr(2**63 - 1)
_ROUNDING = tl.constexpr(1e-4)
"""Part of a bin's edge by which a border may be wrong."""
_AT_ONCE = 32


def search_bins(queries: Tensor, binned: BinnedPoints, count: int, own: bool) -> Tensor:
    """Find the nearest points: (Q, K) int32, -1 where there is none; arguments as for `neighbours.nearest`."""
    found = torch.empty(len(queries), count, dtype=torch.int32, device=queries.device)
    if not len(queries):
        return found
    grids = [(edge, *size, first) for edge, size, first in zip(binned.edges, binned.sizes, binned.firsts)]
    _search[(len(queries),)](
        queries.contiguous(),
        binned.rows,
        binned.number,
        binned.starts,
        found,
        len(binned.points),
        *binned.low,
        *grids[0],
        *grids[1],
        *grids[2],
        COUNT=count,
        KEEP=triton.next_power_of_2(count),
        AT_ONCE=_AT_ONCE,
        OWN=own,
        num_warps=1,
    )
    return found


@triton.jit
def _scan(keys, low, high, x, y, z, own, rows, number, AT_ONCE: tl.constexpr):
    """Put the rows low to high among the nearest so far, in any order."""
    worst, start = tl.max(keys, 0), low
    while start < high:
        place = start + tl.arange(0, AT_ONCE)
        there = place < high
        dx = tl.load(rows + 3 * place, mask=there, other=0.0) - x
        dy = tl.load(rows + 3 * place + 1, mask=there, other=0.0) - y
        dz = tl.load(rows + 3 * place + 2, mask=there, other=0.0) - z
        index = tl.load(number + place, mask=there, other=-1)
        squared = dx * dx + dy * dy + dz * dz
        key = (squared.to(tl.int32, bitcast=True).to(tl.int64) << 32) | index.to(tl.int64)
        key = tl.where(there & (index != own), key, _NEVER)
        best = tl.min(key, 0)
        # Few of them are among the nearest, and all keys differ, so one at a time takes the place of the worst.
        while best < worst:
            keys = tl.where(keys == worst, best, keys)
            key = tl.where(key == best, _NEVER, key)
            worst, best = tl.max(keys, 0), tl.min(key, 0)
        start += AT_ONCE
    return keys


@triton.jit
def _nobody(COUNT: tl.constexpr, KEEP: tl.constexpr):
    """Return COUNT keys of infinite distance, all different, and as many as are missing to KEEP that nothing replaces."""
    place = tl.arange(0, KEEP)
    return tl.where(place < COUNT, _NOTHING + place.to(tl.int64), -1)


@triton.jit
def _along(value, low, edge, size):
    """Bin along one axis, at most two outside the grid."""
    return tl.minimum(tl.maximum(tl.floor((value - low) / edge), -2.0), size + 1.0).to(tl.int32)


@triton.jit
def _unseen(value, low, edge, size, centre):
    """How far away the nearest bin is that was not asked along one axis."""
    below = tl.where(centre > 1, value - (low + (centre - 1) * edge), float("inf"))
    above = tl.where(centre < size - 2, low + (centre + 2) * edge - value, float("inf"))
    return tl.minimum(below, above)


@triton.jit
def _ask(x, y, z, own, rows, number, starts, lx, ly, lz, edge, nx, ny, nz, COUNT: tl.constexpr, KEEP: tl.constexpr, AT_ONCE: tl.constexpr):
    """Ask the 27 bins around a query; tell the nearest, and whether nothing that was not asked can be nearer."""
    cx, cy, cz = _along(x, lx, edge, nx), _along(y, ly, edge, ny), _along(z, lz, edge, nz)
    bottom, top = tl.maximum(cz - 1, 0), tl.minimum(cz + 1, nz - 1)
    keys = _nobody(COUNT, KEEP)
    for turn in range(9):
        i, j = cx - 1 + turn // 3, cy - 1 + turn % 3
        if (i >= 0) & (i < nx) & (j >= 0) & (j < ny) & (bottom <= top):
            column = (i * ny + j) * nz
            low, high = tl.load(starts + column + bottom), tl.load(starts + column + top + 1)
            keys = _scan(keys, low, high, x, y, z, own, rows, number, AT_ONCE)
    unseen = tl.minimum(_unseen(x, lx, edge, nx, cx), tl.minimum(_unseen(y, ly, edge, ny, cy), _unseen(z, lz, edge, nz, cz)))
    sure = tl.maximum(unseen - _ROUNDING * edge, 0.0)
    worst = (tl.max(keys, 0) >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    return keys, worst <= sure * sure


@triton.jit(do_not_specialize=["points", "x0", "y0", "z0", "f0", "x1", "y1", "z1", "f1", "x2", "y2", "z2", "f2"])
def _search(
    queries, rows, number, starts, found, points,
    lx, ly, lz, e0, x0, y0, z0, f0, e1, x1, y1, z1, f1, e2, x2, y2, z2, f2,
    COUNT: tl.constexpr, KEEP: tl.constexpr, AT_ONCE: tl.constexpr, OWN: tl.constexpr,
):  # fmt: skip
    """Find the nearest points of one query on three grids, each with its edge, sizes and first bin; not itself where it is its OWN."""
    query = tl.program_id(0)
    x, y, z = tl.load(queries + 3 * query), tl.load(queries + 3 * query + 1), tl.load(queries + 3 * query + 2)
    barred = query if OWN else -1
    keys, sure = _ask(x, y, z, barred, rows, number, starts + f0, lx, ly, lz, e0, x0, y0, z0, COUNT, KEEP, AT_ONCE)
    if not sure:
        more, numbers = rows + 3 * points, number + points
        keys, sure = _ask(x, y, z, barred, more, numbers, starts + f1, lx, ly, lz, e1, x1, y1, z1, COUNT, KEEP, AT_ONCE)
    if not sure:
        more, numbers = rows + 6 * points, number + 2 * points
        keys, sure = _ask(x, y, z, barred, more, numbers, starts + f2, lx, ly, lz, e2, x2, y2, z2, COUNT, KEEP, AT_ONCE)
    if not sure:
        real = tl.load(starts + f0 + x0 * y0 * z0)
        keys = _scan(_nobody(COUNT, KEEP), 0, real, x, y, z, barred, rows, number, AT_ONCE)
    column = tl.arange(0, KEEP)
    index = tl.where(keys < _NOTHING, keys & 0x7FFFFFFF, -1).to(tl.int32)
    tl.store(found + query * COUNT + column, index, mask=column < COUNT)
