"""What `ignet` asks of the student: labels, agreement with its mean teacher, image features where a camera sees, one-way contrast."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.consistency import consistency_loss
from xkd_ros.distill.ignet.config import IgnetConfig
from xkd_ros.distill.ignet.network import GuidedStudent
from xkd_ros.distill.ignet.one_way import one_way_contrast
from xkd_ros.distill.ignet.samples import IgnetBatch
from xkd_ros.distill.labelled_frames import ConfidentLoss
from xkd_ros.distill.losses import SURE, distillation_loss


class IgnetLoss:
    """L = L_labels + w_c L_consistency + w_f L_features + w_o L_one_way (METHODS 4.3, our weights and our reconstruction).

    Means over points, each over its own: what share of the points is labelled does not decide the weight of labels against agreement,
    as it does in the sums of METHODS 4.2. A weight w_c of 1 lost 1.8 mIoU against 0.2 (docs/recipes.md): a young mean teacher is wrong.
    """

    def __init__(self, student: GuidedStudent, labels: ConfidentLoss, config: IgnetConfig) -> None:
        """Configure.

        Args:
            student: Trained; its bank is filled here.
            labels: Loss of labelled points.
            config: Weights.
        """
        self._student, self._labels, self._config = student, labels, config
        self._teacher: GuidedStudent | None = None

    def watch(self, average: GuidedStudent, step: int) -> None:
        """Take the mean teacher; the engine's hook."""
        self._teacher = average

    def __call__(self, model: nn.Module, item: IgnetBatch) -> Tensor:
        """Compute the loss of one batch."""
        b, config = item.batch, self._config
        sure = (item.labels != UNKNOWN) & (item.confidence > SURE)
        anchors = sure.nonzero().squeeze(1)
        anchors = anchors[torch.randperm(len(anchors), device=anchors.device)[: config.anchors]]
        asked = torch.cat([item.paired, anchors])
        logits, spoken = model(b.features, b.cells, b.shapes, b.neighbours, b.scan, asked)
        shown, guessed = spoken.split([len(item.paired), len(anchors)])
        loss = self._labels.of(logits, item) + config.feature_weight * distillation_loss(shown, item.features)
        if config.contrast_weight:
            bank, guided = self._student.bank, sure[item.paired]
            bank.add(item.features[guided], item.labels[item.paired[guided]])
            contrast = one_way_contrast(guessed, item.labels[anchors], bank.features, bank.filled, config.temperature)
            loss = loss + config.contrast_weight * contrast
        else:
            loss = loss + 0.0 * guessed.sum()
        if config.consistency_weight:
            loss = loss + config.consistency_weight * self._agreement(logits, item)
        return loss

    def _agreement(self, logits: Tensor, item: IgnetBatch) -> Tensor:
        assert self._teacher is not None, "the engine has not called `watch`"
        rows = ((item.labels == UNKNOWN) & (item.match >= 0)).nonzero().squeeze(1)
        b = item.twin
        # The compiled kernels run only where gradients may be recorded; weights of an average have none.
        with torch.enable_grad():
            said = self._teacher.classifier(b.features, b.cells, b.shapes, b.neighbours, None, b.scan)
        weight = self._labels.class_weight
        return consistency_loss(logits[rows], said[item.match[rows]], None if weight is None else weight.to(logits.device))
