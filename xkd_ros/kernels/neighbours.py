"""The largest answer of a linear layer over the neighbours of every point, forward and backward.

Every channel of the answer has one winning neighbour, so on the way back each point costs one product with the (C, C) weight and
not one for each of its K neighbours. Reference: the plain form in `nets.neighbour_max`.
"""

from __future__ import annotations

import numpy as np

from xkd_ros.kernels.compiler import compiled


@compiled
def _largest(start, stop, there, here, neighbours, weight, rows, best, winner):
    near, channels, answers = neighbours.shape[1], there.shape[1], weight.shape[1]
    step = max(1, rows // near)
    hidden = np.empty((step * near, channels), np.float32)
    product = np.empty((step * near, answers), np.float32)
    for low in range(start, stop, step):
        high = min(stop, low + step)
        for p in range(low, high):
            for k in range(near):
                q, o = neighbours[p, k], (p - low) * near + k
                for c in range(channels):
                    hidden[o, c] = max(there[q, c] - here[p, c], np.float32(0))
        np.dot(hidden[: (high - low) * near], weight, product[: (high - low) * near])
        for p in range(low, high):
            o = (p - low) * near
            for c in range(answers):
                best[p, c] = product[o, c]
                winner[p, c] = 0
            for k in range(1, near):
                for c in range(answers):
                    larger = product[o + k, c] > best[p, c]
                    winner[p, c] = np.uint8(k) if larger else winner[p, c]
                    best[p, c] = product[o + k, c] if larger else best[p, c]


@compiled
def largest_forward(part, parts, gate, there, here, neighbours, weight, rows, best, winner):
    """Compute max over k of relu(there[neighbours[:, k]] - here) · weight.

    Args:
        part, parts, gate: From `team.run`.
        there, here: (T, C) float32.
        neighbours: (T, K) int64 into T, K up to 255.
        weight: (C, D) as (in, out).
        rows: Neighbours per block.
        best, winner: (T, D) float32 to fill, and which neighbour it came from, (T, D) uint8.
    """
    count = len(there)
    _largest(part * count // parts, (part + 1) * count // parts, there, here, neighbours, weight, rows, best, winner)


@compiled
def _largest_back(start, stop, there, here, neighbours, weight, winner, gradient, grad_there, grad_here, weights):
    near, channels, answers = neighbours.shape[1], there.shape[1], weight.shape[0]
    hidden, back = np.empty((near, channels), np.float32), np.empty((near, channels), np.float32)
    for p in range(start, stop):
        for k in range(near):
            q = neighbours[p, k]
            for c in range(channels):
                hidden[k, c] = max(there[q, c] - here[p, c], np.float32(0))
                back[k, c] = np.float32(0)
        for d in range(answers):
            k, g = winner[p, d], gradient[p, d]
            for c in range(channels):
                back[k, c] += g * weight[d, c]
                weights[d, c] += g * hidden[k, c]
        for c in range(channels):
            grad_here[p, c] = np.float32(0)
        for k in range(near):
            q = neighbours[p, k]
            for c in range(channels):
                passed = back[k, c] if hidden[k, c] > 0 else np.float32(0)
                grad_there[q, c] += passed
                grad_here[p, c] -= passed


@compiled
def largest_backward(part, parts, gate, there, here, neighbours, weight, winner, gradient, grad_there, grad_here, weights):
    """Compute the gradients of `largest_forward`.

    Args:
        part to neighbours: As there.
        weight: (D, C) as (out, in).
        winner: From the forward pass.
        gradient: (T, D).
        grad_there: (S, T, C) zeros: sums of each part.
        grad_here: (T, C) to fill.
        weights: (S, D, C) zeros: sums of each part, as (out, in).
    """
    low, high = part * len(there) // parts, (part + 1) * len(there) // parts
    _largest_back(low, high, there, here, neighbours, weight, winner, gradient, grad_there[part], grad_here, weights[part])
