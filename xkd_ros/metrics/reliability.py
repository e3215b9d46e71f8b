"""Is a probability of 0.8 right eight times in ten? ECE and the temperature that mends it."""

from __future__ import annotations

import numpy as np


def expected_calibration_error(probability: np.ndarray, correct: np.ndarray, bins: int = 15) -> float:
    """Average |confidence - accuracy| over equal-width bins, weighted by their size.

    Args:
        probability: (N,) of the named class, 0 to 1.
        correct: (N,) bool.
        bins: Number of bins.
    Returns:
        0 to 1; NaN without points.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq. 3.
    """
    if len(probability) == 0:
        return float("nan")
    index = np.minimum((probability * bins).astype(np.int64), bins - 1)
    confidence = np.bincount(index, weights=probability, minlength=bins)
    hits = np.bincount(index, weights=correct.astype(float), minlength=bins)
    return float(np.abs(confidence - hits).sum() / len(probability))


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """Find the temperature that minimises the negative log-likelihood.

    Args:
        logits: (N, C) float.
        truth: (N,) class ids, all below C.
    Returns:
        Divide logits by it; within 0.25 to 4 (golden-section search on its logarithm).

    Source: Guo et al., ICML 2017, section 4.2.
    """
    logits = logits.astype(np.float64) - logits.max(1, keepdims=True)
    own = logits[np.arange(len(truth)), truth]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.mean(np.log(np.exp(logits * scale).sum(1)) - own * scale))

    low, high = np.log(0.25), np.log(4.0)
    ratio = (np.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    for _ in range(30):
        if loss_left < loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - ratio * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + ratio * (high - low)
            loss_right = loss(right)
    return float(np.exp((low + high) / 2))
