"""How unsure is a model on its own ground? The histogram that a robot compares its scans with."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

BINS = 20


@dataclass(eq=False)
class EntropyHistogram:
    """Normalised entropies (0 certain, 1 clueless) in equal-width bins, gathered scan by scan.

    Attributes:
        counts: (20,) int64.
        total: Sum of all entropies, from which the mean follows exactly.
    """

    counts: np.ndarray = field(init=False)
    total: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)

    def add(self, entropy: np.ndarray) -> None:
        """Count (N,) entropies; those that are not finite are left out."""
        finite = np.clip(entropy[np.isfinite(entropy)], 0.0, 1.0)
        self.counts += np.bincount(np.minimum((finite * BINS).astype(np.int64), BINS - 1), minlength=BINS)
        self.total += float(finite.sum(dtype=np.float64))

    def __add__(self, other: EntropyHistogram) -> EntropyHistogram:
        """Count both."""
        both = EntropyHistogram()
        both.counts, both.total = self.counts + other.counts, self.total + other.total
        return both

    @property
    def edges(self) -> np.ndarray:
        """(21,) borders of the bins."""
        return np.linspace(0.0, 1.0, BINS + 1)

    @property
    def mean(self) -> float:
        """Mean entropy; NaN without points."""
        points = self.counts.sum()
        return float(self.total / points) if points else float("nan")
