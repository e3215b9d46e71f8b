"""Backward distillation: once the student has learnt what the units say, it says which of them to believe (METHODS 5.1, eq. 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from xkd_ros.distill.partdistill.config import RescoringConfig
from xkd_ros.distill.partdistill.judge import UnitJudge, weigh
from xkd_ros.distill.partdistill.ledger import UnitLedger
from xkd_ros.nets.student import Student

ModelT = TypeVar("ModelT", bound=nn.Module)


class Backward(Generic[ModelT]):
    """Judges the units now and then; for the hook `watch` of the engine.

    The authors freeze one snapshot, the one with the best test score; here the averaged student judges, again and again, and no label
    decides when [DES] (METHODS 5.2, 5.4).
    """

    def __init__(
        self,
        ledger: UnitLedger,
        judge: UnitJudge,
        student_of: Callable[[ModelT], Student],
        label: np.ndarray,
        config: RescoringConfig,
        epoch_steps: float,
        steps: int,
        fabric: Fabric,
    ) -> None:
        """Configure.

        Args:
            ledger: Of the model that is trained.
            judge: Student → (U,) scores.
            student_of: The student in the averaged model.
            label: (U,) class that each unit claims.
            config: When, and how strictly.
            epoch_steps: Steps of one pass over the frames.
            steps: Of the whole training.
            fabric: Launched.
        """
        self._ledger, self._judge, self._student_of, self._label, self._config = ledger, judge, student_of, label, config
        self._epoch_steps, self._latest, self._fabric = epoch_steps, config.latest * steps, fabric

    def __call__(self, average: ModelT, step: int) -> None:
        """Close the epoch and judge, each if it is time."""
        if not step:
            return
        if int(step / self._epoch_steps) > int((step - 1) / self._epoch_steps):
            mean = self._fabric.all_reduce(self._ledger.epoch_mean, reduce_op="mean")
            assert isinstance(mean, Tensor)
            self._ledger.end_epoch(mean)
        if self._due(step):
            score = self._judge(self._student_of(average))
            weight = torch.from_numpy(weigh(score.cpu().numpy(), self._label, self._config))
            self._ledger.judge(score, weight, step)

    def _due(self, step: int) -> bool:
        judged = int(self._ledger.judged)
        if judged < 0:
            return step >= self._latest or self._ledger.settled(self._config.change)
        return step - judged >= self._config.every_epochs * self._epoch_steps
