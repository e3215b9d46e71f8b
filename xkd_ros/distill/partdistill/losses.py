"""The loss over knowledge units, and how much each class weighs in it (METHODS 5.1, 5.2)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch.nn.functional as F
from torch import Tensor

Form = Literal["unit", "point"]
_BETA = 0.9999
_LARGEST_LOG_WEIGHT = 4.0


def partdistill_loss(
    logits: Tensor,
    point: Tensor,
    unit: Tensor,
    label: Tensor,
    confidence: Tensor,
    class_weight: Tensor | None = None,
    least_points: int = 20,
    form: Form = "unit",
    smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy inside the masks alone, weighted by confidence; points of no unit have no loss.

    `unit`, the paper's form: sum over units d of 1 / max(|M_d|, least_points) sum_n C_d[n] w[y_d] (-log p_n[y_d]), here divided by the
    number of units with any confidence, which keeps its size beside that of other losses whatever the number of units [DES].
    `point`, the form of the authors' code: per point the mean over the units that cover it, then the mean over all points.

    Args:
        logits: (T, C).
        point: (P,) int64 into T: members of all units.
        unit: (P,) int64 into U: the unit of each.
        label: (U,) int64 claimed class y_d.
        confidence: (P,) float32: C_d[n], or the weight of the unit at all its members once it is judged.
        class_weight: (C,) w, or None.
        least_points: Smaller units are divided by this, or they would dominate [DES].
        form: Which of the two.
        smoothing: Label smoothing.
    Returns:
        Scalar; 0 with a gradient of 0 when no member has confidence.

    Source: PartDistill (CVPR 2024) eq. 3; METHODS 5.1, 5.2.
    """
    counted = confidence > 0
    if not bool(counted.any()):
        return 0.0 * logits.float().sum()
    claimed = label[unit]
    cost = F.cross_entropy(logits[point].float(), claimed, reduction="none", label_smoothing=smoothing) * confidence.float()  # (P,)
    if class_weight is not None:
        cost = cost * class_weight[claimed]
    if form == "point":
        covering = point.bincount(minlength=len(logits))
        return (cost / covering[point]).sum() / len(logits)
    size = unit.bincount(minlength=len(label)).clamp(min=least_points)
    return (cost / size[unit]).sum() / len(unit[counted].unique())


def log_weights(counts: np.ndarray) -> np.ndarray:
    """Weigh rare classes more: clip(1 + log4(sum n / (n_r R)), 1, 4).

    Args:
        counts: (R,) members of units, and labels, of each class.
    Returns:
        (R,) float64.
    Source: METHODS 5.1, what the authors' code does.
    """
    share = counts.sum() / (np.maximum(counts, 1) * len(counts))
    return np.clip(1 + np.log(np.maximum(share, 1e-12)) / np.log(4), 1, _LARGEST_LOG_WEIGHT)


def effective_weights(counts: np.ndarray) -> np.ndarray:
    """Weigh classes by the effective number of samples: (1 - b) / (1 - b^n_r) with b = 0.9999, scaled to a sum of R.

    Args:
        counts: (R,) members of units, and labels, of each class.
    Returns:
        (R,) float64.
    Source: METHODS 5.1, what the paper says; Cui et al., CVPR 2019.
    """
    weight = (1 - _BETA) / (1 - _BETA ** np.maximum(counts, 1))
    return weight * len(counts) / weight.sum()
