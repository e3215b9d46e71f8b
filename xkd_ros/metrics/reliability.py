"""Is a probability of 0.8 right eight times in ten? ECE and the temperature that mends it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

BINS = 15


@dataclass(eq=False)
class Reliability:
    """Confidence against accuracy in equal-width bins of probability, gathered scan by scan.

    Attributes:
        bins: Number of bins B.
        points: (B,) int64.
        confidence: (B,) float64, sum of the probabilities.
        hits: (B,) int64, points whose class is right.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq. 2 and 3.
    """

    bins: int = BINS
    points: np.ndarray = field(init=False)
    confidence: np.ndarray = field(init=False)
    hits: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.points, self.hits = (np.zeros(self.bins, np.int64) for _ in range(2))
        self.confidence = np.zeros(self.bins)

    def add(self, probability: np.ndarray, correct: np.ndarray) -> None:
        """Count (N,) probabilities of the named class, 0 to 1, and whether (N,) bool it is the right one."""
        index = np.clip((probability * self.bins).astype(np.int64), 0, self.bins - 1)
        self.points += np.bincount(index, minlength=self.bins)
        self.confidence += np.bincount(index, weights=probability, minlength=self.bins)
        self.hits += np.bincount(index[correct], minlength=self.bins)

    @property
    def ece(self) -> float:
        """Average |confidence - accuracy| weighted by the size of the bins, 0 to 1; NaN without points."""
        total = self.points.sum()
        return float(np.abs(self.confidence - self.hits).sum() / total) if total else float("nan")


def expected_calibration_error(probability: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float:
    """Average |confidence - accuracy| over equal-width bins, weighted by their size.

    Args:
        probability: (N,) of the named class, 0 to 1.
        correct: (N,) bool.
        bins: Number of bins.
    Returns:
        0 to 1; NaN without points.
    """
    reliability = Reliability(bins)
    reliability.add(probability, np.asarray(correct, bool))
    return reliability.ece


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
