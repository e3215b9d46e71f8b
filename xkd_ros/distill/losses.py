"""Cross-entropy and Lovász-softmax over labelled points; neither is ever NaN, whatever the labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xkd_ros.core.types import UNKNOWN


def segmentation_loss(logits: Tensor, labels: Tensor, class_weight: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy plus Lovász-softmax (METHODS 1.7), both in float32.

    Args:
        logits: (T, C).
        labels: (T,) int64, 255 = not counted.
        class_weight: (C,) or None.
        smoothing: Label smoothing of the cross-entropy.
    Returns:
        Scalar; 0 with a gradient of 0 when no point is labelled (METHODS 2.9).
    """
    known = labels != UNKNOWN
    if not bool(known.any()):
        return 0.0 * logits.float().sum()
    logits, labels = logits[known].float(), labels[known]
    return F.cross_entropy(logits, labels, class_weight, label_smoothing=smoothing) + lovasz_softmax(logits.softmax(1), labels)


def group_loss(logits: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
    """Lovász-softmax over groups of classes, each as probable as its members together.

    Twelve classes split the probability of what is neither wall, floor nor ceiling nine ways; this term asks for the coarse
    decision directly.

    Args:
        logits: (T, C).
        labels: (T,) int64 class ids, 255 = not counted.
        groups: (C,) int64 group of each class.
    """
    known = labels != UNKNOWN
    if not bool(known.any()):
        return 0.0 * logits.float().sum()
    probability = logits[known].float().softmax(1)
    grouped = probability.new_zeros(len(probability), int(groups.max()) + 1).index_add(1, groups, probability)
    return lovasz_softmax(grouped, groups[labels[known]])


def lovasz_softmax(probability: Tensor, labels: Tensor) -> Tensor:
    """Convex surrogate of 1 - IoU, averaged over the classes present.

    Args:
        probability: (T, C) softmax output, T > 0.
        labels: (T,) int64 class ids.

    Source: Berman, Triki, Blaschko, "The Lovász-Softmax loss", CVPR 2018, eq. 9 and algorithm 1.
    """
    present = labels.unique()
    foreground = labels.unsqueeze(0).eq(present.unsqueeze(1)).to(probability.dtype)  # (P, T)
    error = (foreground - probability.T.index_select(0, present)).abs()
    error, order = error.sort(dim=1, descending=True)
    foreground = foreground.gather(1, order)
    total = foreground.sum(1, keepdim=True)
    jaccard = 1 - (total - foreground.cumsum(1)) / (total + (1 - foreground).cumsum(1))
    gradient = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], dim=1)
    return (error * gradient).sum(1).mean()
