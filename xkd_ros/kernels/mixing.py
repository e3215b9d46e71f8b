"""Forward and backward of a block's two halves for training: what torch does in thirty passes over memory, in one or two.

Shapes: T points of all scans, C channels, E occupied and D halo cells of a plane (`points.cell_table`), S parts: one per thread, each
with sums of its own for the gradients of weights (zero at first).
`keep` (T,) multiplies the residual: drop path's factor of each point's scan. Layer norm only; its affine part is folded into what
follows (the first linear layer; scale and shift of the cells). Reference: the plain modules in `nets.waffleiron`.
"""

from __future__ import annotations

import math

import numpy as np

from xkd_ros.kernels.compiler import compiled
from xkd_ros.kernels.team import meet

_ROOT_HALF = np.float32(math.sqrt(0.5))
_DENSITY = np.float32(1 / math.sqrt(2 * math.pi))
_HALF, _ONE = np.float32(0.5), np.float32(1)


@compiled
def _moments(tokens, p, eps):
    """Mean of one token's channels, and one over their deviation."""
    channels = tokens.shape[1]
    total, spread = np.float32(0), np.float32(0)
    for c in range(channels):
        total += tokens[p, c]
    mean = total / np.float32(channels)
    for c in range(channels):
        away = tokens[p, c] - mean
        spread += away * away
    return mean, _ONE / np.sqrt(spread / np.float32(channels) + eps)


@compiled
def _standardise(start, stop, tokens, eps, x, factor):
    """Write (rows, C) standardised tokens and one over their deviation."""
    channels = tokens.shape[1]
    for p in range(start, stop):
        i = p - start
        mean, factor[i] = _moments(tokens, p, eps)
        for c in range(channels):
            x[i, c] = (tokens[p, c] - mean) * factor[i]


@compiled
def _activate(rows, before, relu, after):
    """Apply relu or gelu to the first rows."""
    for i in range(rows):
        if relu:
            for c in range(before.shape[1]):
                after[i, c] = max(before[i, c], np.float32(0))
        else:
            for c in range(before.shape[1]):
                after[i, c] = _HALF * before[i, c] * (_ONE + np.float32(math.erf(before[i, c] * _ROOT_HALF)))


@compiled
def _activate_back(rows, before, relu, gradient):
    """Multiply the gradient by the slope of relu or gelu, in place."""
    for i in range(rows):
        for c in range(before.shape[1]):
            x = before[i, c]
            if relu:
                gradient[i, c] = gradient[i, c] if x > 0 else np.float32(0)
            else:
                slope = _HALF * (_ONE + np.float32(math.erf(x * _ROOT_HALF))) + x * _DENSITY * np.float32(math.exp(-_HALF * x * x))
                gradient[i, c] *= slope


@compiled
def _standardise_back(start, stop, x, factor, gradient, passed, out):
    """Write what comes back through standardising, and past it: out = passed + J · gradient."""
    channels = x.shape[1]
    for p in range(start, stop):
        i = p - start
        total, along = np.float32(0), np.float32(0)
        for c in range(channels):
            total += gradient[i, c]
            along += gradient[i, c] * x[i, c]
        total, along = total / np.float32(channels), along / np.float32(channels)
        for c in range(channels):
            out[p, c] = passed[p, c] + factor[i] * (gradient[i, c] - total - x[i, c] * along)


@compiled
def _channels(start, stop, tokens, weight1, bias1, weight2, bias2, keep, relu, eps, out):
    channels, rows = tokens.shape[1], stop - start
    x, hidden = np.empty((rows, channels), np.float32), np.empty((rows, channels), np.float32)
    _standardise(start, stop, tokens, eps, x, np.empty(rows, np.float32))
    np.dot(x, weight1, hidden)
    for i in range(rows):
        for c in range(channels):
            hidden[i, c] += bias1[c]
    _activate(rows, hidden, relu, hidden)
    np.dot(hidden, weight2, x)
    for p in range(start, stop):
        for c in range(channels):
            out[p, c] = tokens[p, c] + keep[p] * (x[p - start, c] + bias2[c])


@compiled
def channels_forward(part, parts, gate, tokens, weight1, bias1, weight2, bias2, keep, relu, eps, rows, out):
    """Compute tokens + keep · (act(standardised · weight1 + bias1) · weight2 + bias2).

    Args:
        part, parts, gate: From `team.run`.
        tokens: (T, C) float32.
        weight1, weight2: (C, C) as (in, out); bias1, bias2: (C,).
        keep: (T,).
        relu: False for gelu.
        eps: Of the layer norm.
        rows: Points per block.
        out: (T, C) to fill.
    """
    count = len(tokens)
    blocks = (count + rows - 1) // rows
    for i in range(part * blocks // parts, (part + 1) * blocks // parts):
        _channels(i * rows, min(count, i * rows + rows), tokens, weight1, bias1, weight2, bias2, keep, relu, eps, out)


@compiled
def _channels_back(start, stop, tokens, weight1, bias1, weight2, keep, relu, eps, gradient, out, weights1, biases1, weights2, biases2):
    channels, rows = tokens.shape[1], stop - start
    shape = (rows, channels)
    x, before, hidden = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.float32)
    answer, factor, square = np.empty(shape, np.float32), np.empty(rows, np.float32), np.empty((channels, channels), np.float32)
    _standardise(start, stop, tokens, eps, x, factor)
    np.dot(x, weight1, before)
    for i in range(rows):
        for c in range(channels):
            before[i, c] += bias1[c]
            answer[i, c] = gradient[start + i, c] * keep[start + i]
            biases2[c] += answer[i, c]
    _activate(rows, before, relu, hidden)
    np.dot(hidden.T, answer, square)
    weights2 += square
    np.dot(answer, weight2.T, hidden)
    _activate_back(rows, before, relu, hidden)
    for i in range(rows):
        for c in range(channels):
            biases1[c] += hidden[i, c]
    np.dot(x.T, hidden, square)
    weights1 += square
    np.dot(hidden, weight1.T, before)
    _standardise_back(start, stop, x, factor, before, gradient, out)


@compiled
def channels_backward(part, parts, gate, tokens, weight1, bias1, weight2, keep, relu, eps, rows, gradient, out, sums):
    """Compute the gradients of `channels_forward`.

    Args:
        part to rows: As there.
        gradient: (T, C) of the output.
        out: (T, C) of the tokens, to fill.
        sums: Of weight1 (S, C, C), bias1 (S, C), weight2 and bias2.
    """
    weights1, biases1, weights2, biases2 = sums
    count = len(tokens)
    blocks = (count + rows - 1) // rows
    for i in range(part * blocks // parts, (part + 1) * blocks // parts):
        _channels_back(
            i * rows, min(count, i * rows + rows), tokens, weight1, bias1, weight2, keep, relu, eps, gradient, out,
            weights1[part], biases1[part], weights2[part], biases2[part],
        )  # fmt: skip


@compiled
def _flatten(start, stop, tokens, points, starts, share, eps, mean):
    """Write into each cell the mean of its standardised tokens."""
    channels = tokens.shape[1]
    for e in range(start, stop):
        for c in range(channels):
            mean[e, c] = np.float32(0)
        for i in range(starts[e], starts[e + 1]):
            p = points[i]
            middle, factor = _moments(tokens, p, eps)
            for c in range(channels):
                mean[e, c] += (tokens[p, c] - middle) * factor
        for c in range(channels):
            mean[e, c] *= share[e]


@compiled
def _convolve(start, stop, taps, source, kernel, bias, out):
    """Depthwise 3x3 convolution of listed cells; the last row of `source` is zero and stands for what is outside."""
    for d in range(start, stop):
        for c in range(out.shape[1]):
            out[d, c] = bias[c]
        for t in range(9):
            j = taps[d, t]
            for c in range(out.shape[1]):
                out[d, c] += source[j, c] * kernel[t, c]


@compiled
def space_forward(part, parts, gate, tokens, table, scale, shift, conv1, bias1, conv2, bias2, keep, relu, eps, mean, before, memory, out):
    """Compute tokens + keep · inflate(conv2(act(conv1(scale · flatten(standardised) + shift)))).

    Args:
        part, parts, gate: From `team.run`.
        tokens: (T, C) float32.
        table: cell (T,), points (T,), starts (E + 1), share (E), reached (D, 9), taps (E, 9) of the plane.
        scale, shift: (C,).
        conv1, conv2: (9, C), with bias1, bias2 (C,).
        keep, relu, eps: As for the channels.
        mean, before: (E, C) and (D, C) to fill for the way back: means of cells, and the halo before its activation.
        memory: (E + 1, C), (D + 1, C) and (E, C) of which the last rows of the first two are zero.
        out: (T, C) to fill.
    """
    cell, points, starts, share, reached, taps = table
    cells, halo, mixed = memory
    count, channels = tokens.shape
    few, many = len(taps), len(reached)
    low, high = part * few // parts, (part + 1) * few // parts
    _flatten(low, high, tokens, points, starts, share, eps, mean)
    for e in range(low, high):
        for c in range(channels):
            cells[e, c] = mean[e, c] * scale[c] + shift[c]
    meet(gate, parts)
    first, last = part * many // parts, (part + 1) * many // parts
    _convolve(first, last, reached, cells, conv1, bias1, before)
    _activate(last - first, before[first:last], relu, halo[first:last])
    meet(gate, parts)
    _convolve(low, high, taps, halo, conv2, bias2, mixed)
    meet(gate, parts)
    for p in range(part * count // parts, (part + 1) * count // parts):
        j = cell[p]
        for c in range(channels):
            out[p, c] = tokens[p, c] + keep[p] * mixed[j, c]


@compiled
def _kernel_back(start, stop, taps, source, gradient, kernel, bias):
    """Add the gradients of a convolution's kernel (9, C) and bias (C,) over listed cells."""
    for d in range(start, stop):
        for c in range(bias.shape[0]):
            bias[c] += gradient[d, c]
        for t in range(9):
            j = taps[d, t]
            for c in range(bias.shape[0]):
                kernel[t, c] += source[j, c] * gradient[d, c]


@compiled
def _tokens_back(start, stop, tokens, cell, cells, scale, share, eps, gradient, out):
    """From cells back to points start to stop, through flatten and standardising."""
    channels, rows = tokens.shape[1], stop - start
    x, back = np.empty((rows, channels), np.float32), np.empty((rows, channels), np.float32)
    factor = np.empty(rows, np.float32)
    _standardise(start, stop, tokens, eps, x, factor)
    for i in range(rows):
        j = cell[start + i]
        for c in range(channels):
            back[i, c] = cells[j, c] * scale[c] * share[j]
    _standardise_back(start, stop, x, factor, back, gradient, out)


@compiled
def space_backward(
    part, parts, gate, tokens, table, scale, shift, conv1, conv2, keep, relu, eps, rows, mean, before, gradient, memory, out, sums
):
    """Compute the gradients of `space_forward`.

    Args:
        part to before: As there, and rows: points per block.
        gradient: (T, C) of the output.
        memory: (D + 1, C) twice, (E + 1, C) twice, (E, C): zeros.
        out: (T, C) of the tokens, to fill.
        sums: Of scale (S, C), shift, conv1 (S, 9, C), bias1 (S, C), conv2, bias2.
    """
    cell, points, starts, share, reached, taps = table
    halo, wide, cells, mixed, back = memory
    scales, shifts, kernels1, biases1, kernels2, biases2 = sums
    count, channels = tokens.shape
    few, many = len(taps), len(reached)
    zero = np.zeros(channels, np.float32)
    # The same taps lead back: what reaches a cell over one offset answers over the opposite one.
    turned1, turned2 = conv1[::-1].copy(), conv2[::-1].copy()
    low, high = part * few // parts, (part + 1) * few // parts
    first, last = part * many // parts, (part + 1) * many // parts
    _activate(last - first, before[first:last], relu, halo[first:last])
    for e in range(low, high):
        for c in range(channels):
            cells[e, c] = mean[e, c] * scale[c] + shift[c]
        for i in range(starts[e], starts[e + 1]):
            p = points[i]
            for c in range(channels):
                mixed[e, c] += gradient[p, c] * keep[p]
    meet(gate, parts)
    _kernel_back(low, high, taps, halo, mixed, kernels2[part], biases2[part])
    _convolve(first, last, reached, mixed, turned2, zero, wide)
    _activate_back(last - first, before[first:last], relu, wide[first:last])
    _kernel_back(first, last, reached, cells, wide, kernels1[part], biases1[part])
    meet(gate, parts)
    _convolve(low, high, taps, wide, turned1, zero, back)
    for e in range(low, high):
        for c in range(channels):
            shifts[part, c] += back[e, c]
            scales[part, c] += back[e, c] * mean[e, c]
    meet(gate, parts)
    blocks = (count + rows - 1) // rows
    for i in range(part * blocks // parts, (part + 1) * blocks // parts):
        _tokens_back(i * rows, min(count, i * rows + rows), tokens, cell, back, scale, share, eps, gradient, out)
