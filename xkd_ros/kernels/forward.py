"""The student's forward pass as loops that stay in the cache: every block of points goes through as much of a layer as it can.

Shapes: N points, K neighbours, F features, C channels, L layers, E occupied and D halo cells of a plane. Function: METHODS 1.3 and
1.5 with the constants of `folding`.
"""

from __future__ import annotations

import math

import numpy as np

from xkd_ros.kernels.compiler import compiled
from xkd_ros.kernels.team import meet, take

_CELLS = 32
"""Cells that a thread takes at once."""
_ROOT_HALF = np.float32(math.sqrt(0.5))


@compiled
def _activate(x, rows, relu):
    """Apply relu or gelu to the first rows of x in place."""
    for p in range(rows):
        if relu:
            for c in range(x.shape[1]):
                x[p, c] = max(x[p, c], np.float32(0))
        else:
            for c in range(x.shape[1]):
                x[p, c] = np.float32(0.5) * x[p, c] * (np.float32(1) + np.float32(math.erf(x[p, c] * _ROOT_HALF)))


@compiled
def _embed(start, stop, features, there, neighbours, bias1, weight2, point, point_bias, merge, rows, tokens):
    """Embed points start to stop."""
    near, channels = neighbours.shape[1], tokens.shape[1]
    step = max(1, rows // near)
    hidden = np.empty((step * near, channels), np.float32)
    answers = np.empty((step * near, channels), np.float32)
    best = np.empty((stop - start, channels), np.float32)
    for low in range(start, stop, step):
        high = min(stop, low + step)
        for p in range(low, high):
            for k in range(near):
                q, o = neighbours[p, k], (p - low) * near + k
                for c in range(channels):
                    hidden[o, c] = max(there[q, c] - there[p, c] + bias1[c], np.float32(0))
        np.dot(hidden[: (high - low) * near], weight2, answers[: (high - low) * near])
        for p in range(low, high):
            o, i = (p - low) * near, p - start
            for c in range(channels):
                best[i, c] = answers[o, c]
            for k in range(1, near):
                for c in range(channels):
                    best[i, c] = max(best[i, c], answers[o + k, c])
    np.dot(best, merge, tokens[start:stop])
    own = np.dot(features[start:stop], point)
    for p in range(start, stop):
        for c in range(channels):
            tokens[p, c] += own[p - start, c] + point_bias[c]


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
    return mean, np.float32(1) / np.sqrt(spread / np.float32(channels) + eps)


@compiled
def _flatten(start, stop, tokens, points, starts, share, scale, shift, layer_norm, eps, cells):
    """Write into each occupied cell the mean of its normalised tokens, scaled and shifted."""
    channels = tokens.shape[1]
    for e in range(start, stop):
        for c in range(channels):
            cells[e, c] = np.float32(0)
        for i in range(starts[e], starts[e + 1]):
            p = points[i]
            if not layer_norm:
                for c in range(channels):
                    cells[e, c] += tokens[p, c]
                continue
            mean, factor = _moments(tokens, p, eps)
            for c in range(channels):
                cells[e, c] += (tokens[p, c] - mean) * factor
        for c in range(channels):
            cells[e, c] = cells[e, c] * share[e] * scale[c] + shift[c]


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
def _spread(start, stop, reached, cells, kernel, bias, relu, halo):
    """First convolution: from occupied to halo cells, and the activation."""
    _convolve(start, stop, reached, cells, kernel, bias, halo)
    _activate(halo[start:stop], stop - start, relu)


@compiled
def _channels(start, stop, tokens, cell, mixed, weight1, bias1, weight2, bias2, layer_norm, relu, eps):
    """Inflate, then the two linear layers, for points start to stop, in place."""
    channels, rows = tokens.shape[1], stop - start
    x, hidden = np.empty((rows, channels), np.float32), np.empty((rows, channels), np.float32)
    for p in range(start, stop):
        j, i = cell[p], p - start
        # Not `_moments`: the sum comes with the addition, a pass less (7 to 10 % of the whole network).
        total, spread = np.float32(0), np.float32(0)
        for c in range(channels):
            value = tokens[p, c] + mixed[j, c]
            tokens[p, c] = value
            x[i, c] = value
            total += value
        if layer_norm:
            mean = total / np.float32(channels)
            for c in range(channels):
                away = tokens[p, c] - mean
                spread += away * away
            factor = np.float32(1) / np.sqrt(spread / np.float32(channels) + eps)
            for c in range(channels):
                x[i, c] = (tokens[p, c] - mean) * factor
    np.dot(x, weight1, hidden)
    for i in range(rows):
        for c in range(channels):
            hidden[i, c] += bias1[c]
    _activate(hidden, rows, relu)
    np.dot(hidden, weight2, x)
    for p in range(start, stop):
        for c in range(channels):
            tokens[p, c] += x[p - start, c] + bias2[c]


@compiled
def _head(start, stop, tokens, weight, bias, logits):
    np.dot(tokens[start:stop], weight, logits[start:stop])
    for p in range(start, stop):
        for c in range(logits.shape[1]):
            logits[p, c] += bias[c]


@compiled
def forward(
    part, parts, gate, counters, features, neighbours, planes, embedding, blocks, head, layer_norm, relu, eps, rows, memory, logits
):
    """Compute logits.

    Args:
        part, parts, gate: From `team.run`.
        counters: (2 + 4 L + 1,) int64 zeros.
        features: (N, F) float32.
        neighbours: (N, K) int64.
        planes: cell (3, N), points (3, N), and of each plane starts (E + 1), share (E), reached (D, 9), taps (E, 9), int32; see
            `points.cell_table`.
        embedding: neighbour1 (F, C) and bias, neighbour2 (C, C), point (F, C) and bias, merge (C, C).
        blocks: scale (L, C), shift, conv1 (L, 9, C) and bias, conv2 and bias, linear1 (L, C, C) and bias, linear2 and bias.
        head: (C, classes) and bias.
        layer_norm, relu: Kind of the blocks.
        eps: Of the layer norm.
        rows: Points per block.
        memory: Two (N, C) float32, and one row more than the most occupied and the most halo cells of a plane.
        logits: (N, classes) float32 to fill.
    """
    cell, points, starts, share, reached, taps = planes
    neighbour1, neighbour1_bias, neighbour2, point, point_bias, merge = embedding
    scale, shift, conv1, conv1_bias, conv2, conv2_bias, linear1, linear1_bias, linear2, linear2_bias = blocks
    tokens, there, cells, halo = memory
    count = len(features)
    chunks, step = (count + rows - 1) // rows, 0
    # Threads take piece after piece: one that has to share its core does less, and nobody waits long for it.
    i = take(counters, step)
    while i < chunks:
        low, high = i * rows, min(count, i * rows + rows)
        np.dot(features[low:high], neighbour1, there[low:high])
        i = take(counters, step)
    meet(gate, parts)
    step += 1
    i = take(counters, step)
    while i < chunks:
        low, high = i * rows, min(count, i * rows + rows)
        _embed(low, high, features, there, neighbours, neighbour1_bias, neighbour2, point, point_bias, merge, rows, tokens)
        i = take(counters, step)
    meet(gate, parts)
    for layer in range(len(scale)):
        plane = layer % 3
        order, begin, part_of, near, taken, own = points[plane], starts[plane], share[plane], reached[plane], taps[plane], cell[plane]
        few, many = len(taken), len(near)
        step += 1
        i = take(counters, step)
        while i * _CELLS <= few:
            low, high = i * _CELLS, min(few, i * _CELLS + _CELLS)
            _flatten(low, high, tokens, order, begin, part_of, scale[layer], shift[layer], layer_norm, eps, cells)
            if high == few:
                cells[few] = np.float32(0)
            i = take(counters, step)
        meet(gate, parts)
        step += 1
        i = take(counters, step)
        while i * _CELLS <= many:
            low, high = i * _CELLS, min(many, i * _CELLS + _CELLS)
            _spread(low, high, near, cells, conv1[layer], conv1_bias[layer], relu, halo)
            if high == many:
                halo[many] = np.float32(0)
            i = take(counters, step)
        meet(gate, parts)
        step += 1
        i = take(counters, step)
        while i * _CELLS < few:
            low, high = i * _CELLS, min(few, i * _CELLS + _CELLS)
            _convolve(low, high, taken, halo, conv2[layer], conv2_bias[layer], cells)
            i = take(counters, step)
        meet(gate, parts)
        step += 1
        i = take(counters, step)
        while i < chunks:
            low, high = i * rows, min(count, i * rows + rows)
            _channels(
                low, high, tokens, own, cells, linear1[layer], linear1_bias[layer], linear2[layer], linear2_bias[layer],
                layer_norm, relu, eps,
            )  # fmt: skip
            i = take(counters, step)
        meet(gate, parts)
    step += 1
    i = take(counters, step)
    while i < chunks:
        _head(i * rows, min(count, i * rows + rows), tokens, head[0], head[1], logits)
        i = take(counters, step)
