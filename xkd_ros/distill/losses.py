"""Losses of points against image features and against labels; none is ever NaN, whatever is missing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xkd_ros.core.types import UNKNOWN

SURE = 0.5
"""Lovász counts whole points, so it takes those alone whose confidence is above this (METHODS 9.5)."""


def distillation_loss(predicted: Tensor, wanted: Tensor, scan: Tensor | None = None, eps: float = 1e-6) -> Tensor:
    """Mean distance between unit vectors, not squared: mean sqrt(2 - 2 cos), all in float32.

    Args:
        predicted: (P, D) output of the student's head.
        wanted: (P, D) features of the image teacher.
        scan: (P,) int64: every scan weighs the same, however many pairs it has. None: every pair does, as in ScaLR.
        eps: Inside the root, whose slope is infinite at 0.
    Returns:
        Scalar; 0 with a gradient of 0 when there is no pair.

    Source: METHODS 2.3.
    """
    if not len(predicted):
        return 0.0 * predicted.float().sum()
    # Sums of squares over a thousand features overflow half precision and lose bits in bfloat16.
    k, q = F.normalize(predicted.float(), dim=1), F.normalize(wanted.float(), dim=1)
    distance = ((k - q).square().sum(1) + eps).sqrt()
    if scan is None:
        return distance.mean()
    place, count = scan.unique(return_inverse=True, return_counts=True)[1:]
    return (distance / count[place]).sum() / len(count)


def confident_loss(
    logits: Tensor,
    labels: Tensor,
    confidence: Tensor,
    class_weight: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy weighted by confidence, plus Lovász-softmax over the points that are surer than `SURE` (METHODS 9.5).

    With a confidence of 1 everywhere this is `segmentation_loss`.

    Args:
        logits: (T, C).
        labels: (T,) int64, 255 = not counted.
        confidence: (T,) float32, 0 to 1.
        class_weight: (C,) or None.
        smoothing: Label smoothing of the cross-entropy.
    Returns:
        Scalar; 0 with a gradient of 0 when no point is labelled.
    """
    loss = confident_cross_entropy(logits, labels, confidence, class_weight, smoothing)
    certain = (labels != UNKNOWN) & (confidence > SURE)
    if bool(certain.any()):
        loss = loss + lovasz_softmax(logits[certain].float().softmax(1), labels[certain])
    return loss


def confident_cross_entropy(
    logits: Tensor, labels: Tensor, confidence: Tensor, class_weight: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy in which each point counts as much as its confidence and its class say; arguments as for `confident_loss`."""
    known = (labels != UNKNOWN) & (confidence > 0)
    if not bool(known.any()):
        return 0.0 * logits.float().sum()
    labels, weight = labels[known], confidence[known].float()
    cost = F.cross_entropy(logits[known].float(), labels, class_weight, reduction="none", label_smoothing=smoothing)
    return (cost * weight).sum() / (weight if class_weight is None else weight * class_weight[labels]).sum()


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
