"""What a fused student learns from: labels, twice; its own fused head; and the image teacher, twice."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xkd_ros.distill.agreement import agreement_loss
from xkd_ros.distill.contrastive import alike_views, contrastive_loss
from xkd_ros.distill.labelled_frames import ConfidentLoss
from xkd_ros.distill.losses import distillation_loss
from xkd_ros.distill.xmodel.config import XModelConfig
from xkd_ros.distill.xmodel.fused_frames import FusedBatch
from xkd_ros.nets.fusion import FusedAnswer


class FusedLoss:
    """L(lidar) + L(fused) + tau² KL(fused || lidar) + 0.5 InfoNCE + 0.5 distance to the image teacher, L the loss of labels.

    Of the distance there is one in this package, that of ScaLR, whose square is 2 - 2 cos. The fused head is agreed with where it sees
    a picture: elsewhere it knows no more.

    Source: METHODS 6 [DES].
    """

    def __init__(self, labels: ConfidentLoss, config: XModelConfig) -> None:
        self._labels, self._config = labels, config

    def __call__(self, model: nn.Module, item: FusedBatch) -> Tensor:
        """Compute the loss of one batch."""
        b, config = item.batch, self._config
        said: FusedAnswer = model(b.features, b.cells, b.shapes, b.neighbours, b.scan, item.paired, item.features)
        agreement = agreement_loss(said.lidar[said.used], said.fused[said.used], config.agreement_temperature)
        return (
            self._labels.of(said.lidar, item)
            + config.fused_weight * self._labels.of(said.fused, item)
            + config.agreement_weight * agreement
            + config.contrast_weight * self._contrast(said, item.features)
            + config.cosine_weight * distillation_loss(said.spoken.index_select(0, said.owner), item.features)
        )

    def _contrast(self, said: FusedAnswer, features: Tensor) -> Tensor:
        """Symmetric InfoNCE of some points and all their views; of no point where it does not count, which costs nothing."""
        points, config = len(said.seen), self._config
        most = config.contrast_points if config.contrast_weight else 0
        row = torch.full((points,), -1, dtype=torch.int64, device=said.seen.device)
        chosen = torch.randperm(points, device=said.seen.device)[:most]
        row[chosen] = torch.arange(len(chosen), device=said.seen.device)
        views = row[said.owner] >= 0
        owner = row[said.owner[views]]
        alike = alike_views(features[views], owner, len(chosen), config.alike_cosine)
        view = torch.arange(len(owner), device=owner.device)
        codes = said.point_code[chosen], said.view_code[views]
        return contrastive_loss(*codes, owner, view, alike, config.contrast_temperature, symmetric=True)
