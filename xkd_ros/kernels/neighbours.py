"""The largest answer of a linear layer over the neighbours of every point, forward and backward.

Every channel of the answer has one winning neighbour, so on the way back each point costs one product with the (C, C) weight and
not one for each of its K neighbours. Reference: the plain form in `nets.neighbour_max`.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from xkd_ros.kernels.compiler import parallel, serial


@serial
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


@parallel
def largest_forward(there, here, neighbours, weight, rows):
    """Compute max over k of relu(there[neighbours[:, k]] - here) · weight.

    Args:
        there, here: (T, C) float32.
        neighbours: (T, K) int64 into T, K up to 255.
        weight: (C, D) as (in, out).
        rows: Neighbours per block.
    Returns:
        (T, D) and which neighbour it came from, (T, D) uint8.
    """
    count = len(there)
    best, winner = np.empty((count, weight.shape[1]), np.float32), np.empty((count, weight.shape[1]), np.uint8)
    for i in prange((count + 127) // 128):
        _largest(i * 128, min(count, i * 128 + 128), there, here, neighbours, weight, rows, best, winner)
    return best, winner


@serial
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


@parallel
def largest_backward(there, here, neighbours, weight, winner, gradient, parts):
    """Compute the gradients of `largest_forward`.

    Args:
        weight: (D, C) as (out, in).
        winner: From the forward pass.
        gradient: (T, D).
        parts: S, at least the number of threads.
    Returns:
        Gradients by part of `there` (S, T, C), of `here` (T, C), and by part of the weight as (out, in) (S, D, C).
    """
    count, channels = there.shape
    grad_there, grad_here = np.zeros((parts, count, channels), np.float32), np.empty_like(here)
    weights = np.zeros((parts, len(weight), channels), np.float32)
    for s in prange(parts):
        low, high = s * count // parts, (s + 1) * count // parts
        _largest_back(low, high, there, here, neighbours, weight, winner, gradient, grad_there[s], grad_here, weights[s])
    return grad_there, grad_here, weights
