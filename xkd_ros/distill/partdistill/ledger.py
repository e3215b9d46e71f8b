"""What is known about the units while they are learnt from: their weights, and the epochs' losses that say when to judge them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UnitLedger(nn.Module):
    """Part of the trained network without being computed with: so checkpoints, all processes and undone steps agree on it.

    Attributes:
        weight: (U,) float32 of each unit once they were judged.
        score: (U,) float32 agreement of the averaged student with each unit; NaN before.
        judged: () int64 step of the last judgement; -1 before the first.
    """

    weight: Tensor
    score: Tensor
    judged: Tensor
    _sum: Tensor
    _count: Tensor
    _epochs: Tensor
    _first: Tensor

    def __init__(self, units: int, window: int) -> None:
        """Begin.

        Args:
            units: U, of all training frames.
            window: Epochs of the moving average of the loss.
        """
        super().__init__()
        self.register_buffer("weight", torch.ones(units))
        self.register_buffer("score", torch.full((units,), torch.nan))
        self.register_buffer("judged", torch.tensor(-1))
        self.register_buffer("_sum", torch.zeros((), dtype=torch.float64))
        self.register_buffer("_count", torch.tensor(0))
        # The average of the last `window` epochs and of those one epoch earlier need one more.
        self.register_buffer("_epochs", torch.full((window + 1,), torch.nan, dtype=torch.float64))
        self.register_buffer("_first", torch.tensor(torch.nan, dtype=torch.float64))

    @torch.no_grad()
    def note(self, loss: Tensor) -> None:
        """Add the loss of a batch to the running epoch."""
        self._sum += loss.detach()
        self._count += 1

    @property
    def epoch_mean(self) -> Tensor:
        """() float64 mean loss of the running epoch so far."""
        return self._sum / self._count

    @torch.no_grad()
    def end_epoch(self, mean: Tensor) -> None:
        """Keep the mean loss of an epoch and begin the next."""
        self._epochs.copy_(torch.cat([self._epochs[1:], mean[None].to(self._epochs)]))
        if bool(self._first.isnan()):
            self._first.copy_(mean)
        self._sum.zero_()
        self._count.zero_()

    def settled(self, change: float) -> bool:
        """Tell whether the moving average changes by less than a share of the first epoch's loss in an epoch.

        Source: METHODS 5.1, switch rule; made free of scale by the first epoch's loss in 5.4 [DES].
        """
        now, before = self._epochs[1:].mean(), self._epochs[:-1].mean()
        return bool((now - before).abs() < change * self._first)  # False while an epoch is missing: NaN compares so

    @torch.no_grad()
    def judge(self, score: Tensor, weight: Tensor, step: int) -> None:
        """Take what came of a judgement.

        Args:
            score: (U,) float32 agreement with each unit, 0 to 1.
            weight: (U,) float32 what it counts from now on.
            step: Of this judgement.
        """
        self.score.copy_(score)
        self.weight.copy_(weight)
        self.judged.fill_(step)

    def confidence(self, given: Tensor, number: Tensor) -> Tensor:
        """Return what counts at the members of units.

        Args:
            given: (P,) float32 confidence of the teacher.
            number: (P,) int64 into U: the unit of each.
        Returns:
            (P,): `given`, and the weights of the units once they were judged.
        """
        return torch.where(self.judged >= 0, self.weight[number], given)
