"""One-way contrast: points anywhere in the scan are pulled towards what images show of their class, never the other way round."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_NEVER = -1e30


class FeatureBank(nn.Module):
    """The last image features of each class, unit vectors; buffers, so that they are saved and restored with the weights."""

    features: Tensor
    count: Tensor

    def __init__(self, classes: int, size: int, width: int) -> None:
        """Begin empty.

        Args:
            classes: C.
            size: M features kept of each class.
            width: D of a feature.
        """
        super().__init__()
        self.register_buffer("features", torch.zeros(classes, size, width))
        self.register_buffer("count", torch.zeros(classes, dtype=torch.int64))

    @torch.no_grad()
    def add(self, features: Tensor, labels: Tensor) -> None:
        """Keep (P, D) features of points with (P,) int64 labels, random ones of a class that has more than a quarter of its places."""
        size = self.features.shape[1]
        unit = F.normalize(features.float(), dim=1)
        for label in labels.unique().tolist():
            rows = (labels == label).nonzero().squeeze(1)
            rows = rows[torch.randperm(len(rows), device=rows.device)[: max(1, size // 4)]]
            place = (self.count[label] + torch.arange(len(rows), device=rows.device)) % size
            self.features[label, place] = unit[rows]
            self.count[label] += len(rows)

    @property
    def filled(self) -> Tensor:
        """(C, M) bool: places that hold a feature."""
        return torch.arange(self.features.shape[1], device=self.count.device) < self.count.unsqueeze(1)


def one_way_contrast(anchors: Tensor, labels: Tensor, bank: Tensor, filled: Tensor, temperature: float) -> Tensor:
    """Mean over anchors of -(1/|Q_y|) sum_{p in Q_y} log[exp(z.z_p / tau) / sum_{a in Q} exp(z.z_a / tau)], in float32.

    Args:
        anchors: (A, D) predictions of the student in the space of image features; made unit vectors here.
        labels: (A,) int64 class of each.
        bank: (C, M, D) unit vectors; no gradient reaches them.
        filled: (C, M) bool places that hold one.
        temperature: tau.
    Returns:
        Scalar; anchors whose class has no feature yet are left out; 0 with a gradient of 0 when none is left.

    Source: METHODS 4.3, our reconstruction of IGNet's one-way contrastive loss, whose text was not available.
    """
    usable = filled.any(1)[labels] if len(labels) else torch.zeros(0, dtype=torch.bool, device=anchors.device)
    if not bool(usable.any()):
        return 0.0 * anchors.float().sum()
    z, labels = F.normalize(anchors[usable].float(), dim=1), labels[usable]
    likeness = z @ bank.detach().flatten(0, 1).T / temperature
    log_share = likeness.masked_fill(~filled.flatten(), _NEVER).log_softmax(1).unflatten(1, filled.shape)
    own = log_share[torch.arange(len(labels), device=labels.device), labels]
    positive = filled[labels]
    return -(own.where(positive, 0.0).sum(1) / positive.sum(1)).mean()
