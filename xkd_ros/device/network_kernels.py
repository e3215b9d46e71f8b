"""The steps of the network that are no matrix products, as Triton kernels; what each computes says its twin in `network_plain`.

In: contiguous tensors on one device, the current one. Shapes depend on shapes alone, nothing waits for the device, and sums have a
fixed order, without atomics: a CUDA graph can hold them, and the same scan gives the same bits. Speed: unmeasured.
Threads of a warp stand side by side along the channels, so that they read whole lines. Sizes of the network are compiled in, those of a
scan are not looked at by the compiler: no scan makes it compile again. Offsets of rows are 64 bits wide, numbers of rows 32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from xkd_ros.device.plane_table import PlaneTable

_ELEMENTS_PER_WARP = 512
"""16 values per thread: two to four loads of 16 bytes."""
_MOST_WARPS = 8
_LEAST_SIDE = 16
"""Of a matrix that the tensor cores take."""


@triton.jit
def _activated(x, ACTIVATION: tl.constexpr):
    if ACTIVATION == "relu":
        x = tl.maximum(x, 0.0)
    elif ACTIVATION == "gelu":
        x = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    return x


@triton.jit
def _standardised(token, real, eps, CHANNELS: tl.constexpr):
    """Standardise rows that hold zeros where they are not real; zeros stay there."""
    mean = tl.sum(token, axis=1) / CHANNELS
    away = tl.where(real, token - mean[:, None], 0.0)
    variance = tl.sum(away * away, axis=1) / CHANNELS
    return away * tl.rsqrt(variance + eps)[:, None]


@triton.jit(do_not_specialize=["points"])
def _neighbour_max(
    features, neighbours, weight1, bias1, weight2, best, points,
    FEATURES: tl.constexpr, CHANNELS: tl.constexpr, NEAR: tl.constexpr,
    POINTS: tl.constexpr, GROUP: tl.constexpr, INNER: tl.constexpr, OUTER: tl.constexpr,
):  # fmt: skip
    """One program: POINTS points with GROUP >= NEAR neighbours each, the last one repeated, and OUTER outputs."""
    pair = tl.arange(0, POINTS * GROUP)
    first = tl.program_id(0) * POINTS
    here = tl.minimum(first + pair // GROUP, points - 1)
    there = tl.load(neighbours + here * NEAR + tl.minimum(pair % GROUP, NEAR - 1))
    outer = tl.program_id(1) * OUTER + tl.arange(0, OUTER)
    answer = tl.zeros((POINTS * GROUP, OUTER), tl.float32)
    for start in range(0, CHANNELS, INNER):
        inner = start + tl.arange(0, INNER)
        hidden = tl.zeros((POINTS * GROUP, INNER), tl.float32) + tl.load(bias1 + inner, mask=inner < CHANNELS, other=0.0)[None, :]
        # From the few raw features: that costs less than reading (points, neighbours, channels) values that were prepared.
        for feature in tl.static_range(FEATURES):
            difference = tl.load(features + there * FEATURES + feature) - tl.load(features + here * FEATURES + feature)
            weight = tl.load(weight1 + feature * CHANNELS + inner, mask=inner < CHANNELS, other=0.0)
            hidden += difference[:, None] * weight[None, :]
        hidden = tl.maximum(hidden, 0.0).to(weight2.dtype.element_ty)
        inside = (inner < CHANNELS)[:, None] & (outer < CHANNELS)[None, :]
        weights = tl.load(weight2 + inner[:, None] * CHANNELS + outer[None, :], mask=inside, other=0.0)
        answer = tl.dot(hidden, weights, answer, input_precision="ieee")
    largest = tl.max(tl.reshape(answer, (POINTS, GROUP, OUTER)), axis=1)
    point = first + tl.arange(0, POINTS)
    inside = (point < points)[:, None] & (outer < CHANNELS)[None, :]
    tl.store(best + point.to(tl.int64)[:, None] * CHANNELS + outer[None, :], largest.to(best.dtype.element_ty), mask=inside)


@triton.jit
def _flatten(
    tokens, branch, order, bounds, inverse_count, scale, shift, cells, eps,
    LAYER_NORM: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One program: one cell, ROWS of its points at a time. Nothing is written where there are none, which is most of the room."""
    cell = tl.program_id(0)
    channel = tl.arange(0, COLUMNS)
    start, stop = tl.load(bounds + cell), tl.load(bounds + cell + 1)
    if start < stop:
        total = tl.zeros((COLUMNS,), tl.float32)
        while start < stop:
            place = start + tl.arange(0, ROWS)
            point = tl.load(order + place, mask=place < stop, other=0)
            real = (place < stop)[:, None] & (channel < CHANNELS)[None, :]
            at = point.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
            token = tl.load(tokens + at, mask=real, other=0.0) + tl.load(branch + at, mask=real, other=0.0).to(tl.float32)
            if LAYER_NORM:
                token = _standardised(token, real, eps, CHANNELS)
            total += tl.sum(token, axis=0)
            start += ROWS
        inside = channel < CHANNELS
        mean = total * tl.load(inverse_count + cell)
        mean = mean * tl.load(scale + channel, mask=inside, other=0.0) + tl.load(shift + channel, mask=inside, other=0.0)
        tl.store(cells + cell.to(tl.int64) * CHANNELS + channel, mean.to(cells.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["sources", "rows"])
def _convolve(
    source, table, kernel, bias, out, sources, rows,
    ACTIVATION: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One program: ROWS cells, COLUMNS channels. Nothing is written where none of them sees another, which is most of the room."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    every = tl.arange(0, 16)
    seen = tl.load(table + row[:, None] * 9 + every[None, :], mask=(row < rows)[:, None] & (every < 9)[None, :], other=sources)
    if tl.min(seen) < sources:
        channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        inside = channel < CHANNELS
        total = tl.zeros((ROWS, COLUMNS), tl.float32) + tl.load(bias + channel, mask=inside, other=0.0)[None, :]
        for tap in tl.static_range(9):
            near = tl.load(table + row * 9 + tap, mask=row < rows, other=sources)
            at = near.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
            value = tl.load(source + at, mask=(near < sources)[:, None] & inside[None, :], other=0.0)
            total += value.to(tl.float32) * tl.load(kernel + tap * CHANNELS + channel, mask=inside, other=0.0)[None, :]
        total = _activated(total, ACTIVATION)
        at = row.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
        tl.store(out + at, total.to(out.dtype.element_ty), mask=(row < rows)[:, None] & inside[None, :])


@triton.jit(do_not_specialize=["points", "cells"])
def _inflate(
    tokens, branch, mixed, cell, scale, shift, out, points, cells, eps,
    LAYER_NORM: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One program: ROWS points."""
    point = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, COLUMNS)
    inside = channel < CHANNELS
    real = (point < points)[:, None] & inside[None, :]
    at = point.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
    own = tl.load(cell + point, mask=point < points, other=cells)
    token = tl.load(tokens + at, mask=real, other=0.0) + tl.load(branch + at, mask=real, other=0.0).to(tl.float32)
    covered = (own < cells)[:, None] & inside[None, :]
    token += tl.load(mixed + own.to(tl.int64)[:, None] * CHANNELS + channel[None, :], mask=covered, other=0.0).to(tl.float32)
    tl.store(tokens + at, token, mask=real)
    if LAYER_NORM:
        token = _standardised(token, real, eps, CHANNELS)
    token = token * tl.load(scale + channel, mask=inside, other=0.0)[None, :] + tl.load(shift + channel, mask=inside, other=0.0)[None, :]
    tl.store(out + at, token.to(out.dtype.element_ty), mask=real)


def neighbour_max(features: Tensor, neighbours: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor) -> Tensor:
    """See `network_plain.neighbour_max`."""
    (points, near), channels = neighbours.shape, len(weight2)
    best = weight2.new_empty(points, channels)
    # Products of float32 run outside the tensor cores and hold their operands in registers, which larger tiles overflow.
    most_pairs, most_inner, most_outer = (64, 16, 64) if weight2.dtype == torch.float32 else (128, 64, 128)
    group = triton.next_power_of_2(near)
    together = max(1, most_pairs // group)
    side = max(_LEAST_SIDE, triton.next_power_of_2(channels))
    inner, outer = min(most_inner, side), min(most_outer, side)
    _neighbour_max[(triton.cdiv(points, together), triton.cdiv(channels, outer))](
        features, neighbours, weight1, bias1, weight2, best, points,
        FEATURES=features.shape[1], CHANNELS=channels, NEAR=near, POINTS=together, GROUP=group, INNER=inner, OUTER=outer,
        num_warps=8 if outer > 64 else 4,
    )  # fmt: skip
    return best


def flatten(
    tokens: Tensor, branch: Tensor, table: PlaneTable, scale: Tensor, shift: Tensor, layer_norm: bool, eps: float, dtype: torch.dtype
) -> Tensor:
    """See `network_plain.flatten`."""
    count, channels = len(table.inverse_count), tokens.shape[1]
    cells = torch.empty(count, channels, dtype=dtype, device=tokens.device)
    # Some hundred cells hold 20 to 40 points each: few programs, which should take few steps, each a wait for memory.
    columns = triton.next_power_of_2(channels)
    rows = max(8, min(64, 4096 // columns))
    _flatten[(count,)](
        tokens, branch, table.order, table.bounds, table.inverse_count, scale, shift, cells, eps,
        LAYER_NORM=layer_norm, CHANNELS=channels, ROWS=rows, COLUMNS=columns, num_warps=_warps(rows * columns),
    )  # fmt: skip
    return cells


def convolve(source: Tensor, table: Tensor, kernel: Tensor, bias: Tensor, activation: str) -> Tensor:
    """See `network_plain.convolve`."""
    rows, (sources, channels) = len(table), source.shape
    out = source.new_empty(rows, channels)
    columns = min(128, triton.next_power_of_2(channels))
    together = 1024 // columns
    _convolve[(triton.cdiv(rows, together), triton.cdiv(channels, columns))](
        source, table, kernel, bias, out, sources, rows,
        ACTIVATION=activation, CHANNELS=channels, ROWS=together, COLUMNS=columns, num_warps=4,
    )  # fmt: skip
    return out


def inflate(
    tokens: Tensor,
    branch: Tensor,
    mixed: Tensor,
    cell: Tensor,
    scale: Tensor,
    shift: Tensor,
    layer_norm: bool,
    eps: float,
) -> Tensor:
    """See `network_plain.inflate`."""
    (points, channels), cells = tokens.shape, len(mixed)
    out = torch.empty_like(branch)
    columns = triton.next_power_of_2(channels)
    rows = max(1, 2048 // columns)
    _inflate[(triton.cdiv(points, rows),)](
        tokens, branch, mixed, cell, scale, shift, out, points, cells, eps,
        LAYER_NORM=layer_norm, CHANNELS=channels, ROWS=rows, COLUMNS=columns, num_warps=_warps(rows * columns),
    )  # fmt: skip
    return out


def _warps(elements: int) -> int:
    """Warps of a program that holds this many values, a power of two."""
    return min(_MOST_WARPS, max(1, elements // _ELEMENTS_PER_WARP))
