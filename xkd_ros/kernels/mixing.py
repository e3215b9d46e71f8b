"""Forward and backward of a block's two halves for training: what torch does in thirty passes over memory, in one or two.

Shapes: T points of all scans, C channels, E occupied and D halo cells of a plane (`points.cell_table`), S parts that threads take.
`keep` (T,) multiplies the residual: drop path's factor of each point's scan. Layer norm only; its affine part is folded into what
follows (the first linear layer; scale and shift of the cells). Reference: the plain modules in `nets.waffleiron`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from xkd_ros.kernels.compiler import parallel, serial

_ROOT_HALF = np.float32(math.sqrt(0.5))
_DENSITY = np.float32(1 / math.sqrt(2 * math.pi))
_HALF, _ONE = np.float32(0.5), np.float32(1)


@serial
def _standardise(start, stop, tokens, eps, x, factor):
    """Write (rows, C) standardised tokens and one over their deviation."""
    channels = tokens.shape[1]
    for p in range(start, stop):
        i = p - start
        total, spread = np.float32(0), np.float32(0)
        for c in range(channels):
            total += tokens[p, c]
        mean = total / np.float32(channels)
        for c in range(channels):
            away = tokens[p, c] - mean
            spread += away * away
        factor[i] = _ONE / np.sqrt(spread / np.float32(channels) + eps)
        for c in range(channels):
            x[i, c] = (tokens[p, c] - mean) * factor[i]


@serial
def _activate(rows, before, relu, after):
    """Apply relu or gelu to the first rows."""
    for i in range(rows):
        if relu:
            for c in range(before.shape[1]):
                after[i, c] = max(before[i, c], np.float32(0))
        else:
            for c in range(before.shape[1]):
                after[i, c] = _HALF * before[i, c] * (_ONE + np.float32(math.erf(before[i, c] * _ROOT_HALF)))


@serial
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


@serial
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


@serial
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


@parallel
def channels_forward(tokens, weight1, bias1, weight2, bias2, keep, relu, eps, rows):
    """Compute tokens + keep · (act(standardised · weight1 + bias1) · weight2 + bias2).

    Args:
        tokens: (T, C) float32.
        weight1, weight2: (C, C) as (in, out); bias1, bias2: (C,).
        keep: (T,).
        relu: False for gelu.
        eps: Of the layer norm.
        rows: Points per block.
    """
    count = len(tokens)
    out = np.empty_like(tokens)
    for i in prange((count + rows - 1) // rows):
        _channels(i * rows, min(count, i * rows + rows), tokens, weight1, bias1, weight2, bias2, keep, relu, eps, out)
    return out


@serial
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


@parallel
def channels_backward(tokens, weight1, bias1, weight2, keep, relu, eps, rows, parts, gradient):
    """Compute the gradients of `channels_forward`.

    Args:
        parts: S, at least the number of threads; each sums its own gradients of the weights.
        gradient: (T, C) of the output.
    Returns:
        Gradients of tokens (T, C), and by part of weight1 (S, C, C), bias1 (S, C), weight2, bias2.
    """
    count, channels = tokens.shape
    out = np.empty_like(tokens)
    weights1, weights2 = np.zeros((parts, channels, channels), np.float32), np.zeros((parts, channels, channels), np.float32)
    biases1, biases2 = np.zeros((parts, channels), np.float32), np.zeros((parts, channels), np.float32)
    blocks = (count + rows - 1) // rows
    for s in prange(parts):
        for i in range(s * blocks // parts, (s + 1) * blocks // parts):
            _channels_back(
                i * rows, min(count, i * rows + rows), tokens, weight1, bias1, weight2, keep, relu, eps, gradient, out,
                weights1[s], biases1[s], weights2[s], biases2[s],
            )  # fmt: skip
    return out, weights1, biases1, weights2, biases2


@serial
def _flatten(start, stop, tokens, points, starts, share, eps, mean):
    """Write into each cell the mean of its standardised tokens."""
    channels = tokens.shape[1]
    for e in range(start, stop):
        for c in range(channels):
            mean[e, c] = np.float32(0)
        for i in range(starts[e], starts[e + 1]):
            p = points[i]
            total, spread = np.float32(0), np.float32(0)
            for c in range(channels):
                total += tokens[p, c]
            middle = total / np.float32(channels)
            for c in range(channels):
                away = tokens[p, c] - middle
                spread += away * away
            factor = _ONE / np.sqrt(spread / np.float32(channels) + eps)
            for c in range(channels):
                mean[e, c] += (tokens[p, c] - middle) * factor
        for c in range(channels):
            mean[e, c] *= share[e]


@serial
def _convolve(start, stop, taps, source, kernel, bias, out):
    """Depthwise 3x3 convolution of listed cells; the last row of `source` is zero and stands for what is outside."""
    for d in range(start, stop):
        for c in range(out.shape[1]):
            out[d, c] = bias[c]
        for t in range(9):
            j = taps[d, t]
            for c in range(out.shape[1]):
                out[d, c] += source[j, c] * kernel[t, c]


@parallel
def space_forward(tokens, cell, points, starts, share, reached, taps, scale, shift, conv1, bias1, conv2, bias2, keep, relu, eps, parts):
    """Compute tokens + keep · inflate(conv2(act(conv1(scale · flatten(standardised) + shift)))).

    Args:
        tokens: (T, C) float32.
        cell (T,), points (T,), starts (E + 1), share (E), reached (D, 9), taps (E, 9): The plane's table.
        scale, shift: (C,).
        conv1, conv2: (9, C), with bias1, bias2 (C,).
        keep, relu, eps, parts: As for the channels.
    Returns:
        (T, C); and for the way back the means (E, C) and the halo before its activation (D, C).
    """
    count, channels = tokens.shape
    few, many = len(taps), len(reached)
    mean, cells = np.empty((few, channels), np.float32), np.zeros((few + 1, channels), np.float32)
    before, halo = np.empty((many, channels), np.float32), np.zeros((many + 1, channels), np.float32)
    mixed, out = np.empty((few, channels), np.float32), np.empty_like(tokens)
    for s in prange(parts):
        low, high = s * few // parts, (s + 1) * few // parts
        _flatten(low, high, tokens, points, starts, share, eps, mean)
        for e in range(low, high):
            for c in range(channels):
                cells[e, c] = mean[e, c] * scale[c] + shift[c]
    for s in prange(parts):
        low, high = s * many // parts, (s + 1) * many // parts
        _convolve(low, high, reached, cells, conv1, bias1, before)
        _activate(high - low, before[low:high], relu, halo[low:high])
    for s in prange(parts):
        _convolve(s * few // parts, (s + 1) * few // parts, taps, halo, conv2, bias2, mixed)
    for s in prange(parts):
        for p in range(s * count // parts, (s + 1) * count // parts):
            j = cell[p]
            for c in range(channels):
                out[p, c] = tokens[p, c] + keep[p] * mixed[j, c]
    return out, mean, before


@serial
def _kernel_back(start, stop, taps, source, gradient, kernel, bias):
    """Add the gradients of a convolution's kernel (9, C) and bias (C,) over listed cells."""
    for d in range(start, stop):
        for c in range(bias.shape[0]):
            bias[c] += gradient[d, c]
        for t in range(9):
            j = taps[d, t]
            for c in range(bias.shape[0]):
                kernel[t, c] += source[j, c] * gradient[d, c]


@serial
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


@parallel
def space_backward(
    tokens, cell, points, starts, share, reached, taps, scale, shift, conv1, conv2, keep, relu, eps, rows, parts, mean, before, gradient
):
    """Compute the gradients of `space_forward`.

    Returns:
        Gradients of tokens (T, C), and by part of scale (S, C), shift, conv1 (S, 9, C), bias1 (S, C), conv2, bias2.
    """
    count, channels = tokens.shape
    few, many = len(taps), len(reached)
    zero = np.zeros(channels, np.float32)
    halo, cells = np.zeros((many + 1, channels), np.float32), np.zeros((few + 1, channels), np.float32)
    mixed, wide, back = np.zeros((few + 1, channels), np.float32), np.zeros((many + 1, channels), np.float32), np.empty_like(mean)
    scales, shifts = np.zeros((parts, channels), np.float32), np.zeros((parts, channels), np.float32)
    kernels1, kernels2 = np.zeros((parts, 9, channels), np.float32), np.zeros((parts, 9, channels), np.float32)
    biases1, biases2 = np.zeros((parts, channels), np.float32), np.zeros((parts, channels), np.float32)
    # The same taps lead back: what reaches a cell over one offset answers over the opposite one.
    turned1, turned2 = conv1[::-1].copy(), conv2[::-1].copy()
    out = np.empty_like(tokens)
    for s in prange(parts):
        low, high = s * many // parts, (s + 1) * many // parts
        _activate(high - low, before[low:high], relu, halo[low:high])
        for e in range(s * few // parts, (s + 1) * few // parts):
            for c in range(channels):
                cells[e, c] = mean[e, c] * scale[c] + shift[c]
            for i in range(starts[e], starts[e + 1]):
                p = points[i]
                for c in range(channels):
                    mixed[e, c] += gradient[p, c] * keep[p]
    for s in prange(parts):
        _kernel_back(s * few // parts, (s + 1) * few // parts, taps, halo, mixed, kernels2[s], biases2[s])
    for s in prange(parts):
        low, high = s * many // parts, (s + 1) * many // parts
        _convolve(low, high, reached, mixed, turned2, zero, wide)
        _activate_back(high - low, before[low:high], relu, wide[low:high])
        _kernel_back(low, high, reached, cells, wide, kernels1[s], biases1[s])
    for s in prange(parts):
        low, high = s * few // parts, (s + 1) * few // parts
        _convolve(low, high, taps, wide, turned1, zero, back)
        for e in range(low, high):
            for c in range(channels):
                shifts[s, c] += back[e, c]
                scales[s, c] += back[e, c] * mean[e, c]
    blocks = (count + rows - 1) // rows
    for i in prange(blocks):
        _tokens_back(i * rows, min(count, i * rows + rows), tokens, cell, back, scale, share, eps, gradient, out)
    return out, scales, shifts, kernels1, biases1, kernels2, biases2
