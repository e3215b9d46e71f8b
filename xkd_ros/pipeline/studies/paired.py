"""Paired differences over equal seeds, with their 95 % interval, and whether they meet a bar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

ENOUGH_SEEDS = 5
"""Pairs that a bar needs (BENCH B)."""
_CONFIDENCE = 0.95
Verdict = Literal["met", "not met", "not enough cells", "reported"]


@dataclass(frozen=True)
class Spread:
    """A mean and its interval.

    Attributes:
        mean: NaN without values.
        half_width: Half of the 95 % interval, Student's t; NaN with fewer than two values.
        count: Number of values.
    """

    mean: float
    half_width: float
    count: int

    def __str__(self) -> str:
        if not self.count:
            return "-"
        return f"{self.mean:.1f}" if self.count < 2 else f"{self.mean:.1f} ± {self.half_width:.1f}"

    def verdict(self, bar: float | None) -> Verdict:
        """Compare the mean with a bar from below; None is no bar."""
        if bar is None:
            return "reported"
        return "not enough cells" if self.count < ENOUGH_SEEDS else "met" if self.mean >= bar else "not met"

    def remark(self, bar: float | None) -> str:
        """Say when the interval leaves the verdict open."""
        if self.verdict(bar) not in ("met", "not met") or bar is None:
            return ""
        return "the interval includes the bar" if abs(self.mean - bar) < self.half_width else ""


def spread(values: list[float] | np.ndarray) -> Spread:
    """Summarise values, one per seed."""
    count = len(values)
    mean = float(np.mean(values)) if count else float("nan")
    if count < 2:
        return Spread(mean, float("nan"), count)
    quantile = float(stats.t.ppf((1 + _CONFIDENCE) / 2, count - 1))
    return Spread(mean, quantile * float(np.std(values, ddof=1)) / count**0.5, count)


def paired_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Spread:
    """Subtract seed by seed, over the seeds that both have."""
    return spread([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])
