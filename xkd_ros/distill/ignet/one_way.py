"""One-way contrast: points anywhere in the scan are pulled towards what images show of their class, never the other way round."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xkd_ros.distill.contrastive import contrastive_loss


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
    """Mean over anchors of -(1/|Q_y|) sum_{p in Q_y} log[exp(z.z_p / tau) / sum_{a in Q} exp(z.z_a / tau)]; Q is the bank.

    Args:
        anchors: (A, D) predictions of the student in the space of image features; made unit vectors here.
        labels: (A,) int64 class of each.
        bank: (C, M, D) unit vectors; no gradient reaches them.
        filled: (C, M) bool places that hold one.
        temperature: Tau, as for `contrastive_loss`.
    Returns:
        Scalar; anchors whose class has no feature yet are left out; 0 with a gradient of 0 when none is left.

    Source: METHODS 4.3, our reconstruction of IGNet's one-way contrastive loss, whose text was not available.
    """
    # Also a copy: the bank changes again before the gradient of an accumulated step is complete.
    kept = bank[filled]
    anchor, feature = (labels.unsqueeze(1) == filled.nonzero()[:, 0]).nonzero(as_tuple=True)
    return contrastive_loss(F.normalize(anchors.float(), dim=1), kept.detach(), anchor, feature, temperature=temperature)
