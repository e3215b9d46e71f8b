"""How well a score tells two kinds apart."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Compute the area under the ROC curve: the chance that a positive scores higher than a negative, half for ties.

    Args:
        scores: (N,).
        positive: (N,) bool.
    Returns:
        0 to 1; NaN when one kind is missing.
    """
    hits = int(positive.sum())
    misses = len(positive) - hits
    if not hits or not misses:
        return float("nan")
    # Mann and Whitney: the rank sum of the positives, less what they would have among themselves.
    return float((rankdata(scores)[positive].sum() - hits * (hits + 1) / 2) / (hits * misses))
