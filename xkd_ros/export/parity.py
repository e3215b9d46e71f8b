"""Does an exported graph say what torch says? On invented rooms and on the inputs that break index arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from xkd_ros.core.card import ModelCard
from xkd_ros.core.types import NetInput
from xkd_ros.nets.batch import collate
from xkd_ros.nets.student import Student
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.runtime.probe import probe_inputs

MAX_DIFFERENCE = 1e-3
"""Logits farther apart than this are another network."""
_WIDE_SPREAD = 50.0
"""Rounding grows with the logits: the limit does too for networks whose logits spread wider than any trained one's (about 2 to 10)."""


@dataclass(frozen=True)
class Parity:
    """Comparison over all check inputs.

    Attributes:
        points: Compared.
        max_difference: Largest absolute difference of a logit.
        flips: Labels that differ although torch prefers its own by more than twice the limit.
        scale: Standard deviation of torch's logits, to judge the difference by.
        worst: Largest difference in units of the limit of its input.
    """

    points: int
    max_difference: float
    flips: int
    scale: float
    worst: float

    @property
    def agrees(self) -> bool:
        """Whether the graph may be written."""
        return self.worst <= 1 and self.flips == 0

    def __str__(self) -> str:
        difference = f"max logit difference {self.max_difference:.1e} (their spread {self.scale:.2g})"
        return f"{difference}, {self.flips} of {self.points} labels flipped"


def check_inputs(card: ModelCard) -> list[NetInput]:
    """Rooms, a random cloud, points in all corners of the field of view (cells at the border), and clouds of a few points."""
    rng = np.random.default_rng(0)
    low, high = np.array(card.geometry.fov_min_m), np.array(card.geometry.fov_max_m)
    corners = np.array(np.meshgrid(*zip(low + 2e-4, high - 2e-4))).reshape(3, -1).T
    clouds = [
        rng.uniform(low, high, (3000, 3)),
        np.concatenate([corners, rng.normal(0, 2, (500, 3)).clip(low, high)]),
        rng.normal(0, 1, (7, 3)).clip(low, high),
        np.full((1, 3), 0.5 * (low + high) + 0.05),
    ]
    preprocess = Preprocessor(card.geometry, card.intensity, threads=1)
    odd = [preprocess(cloud.astype(np.float32), rng.uniform(0, 255, len(cloud)).astype(np.float32)) for cloud in clouds]
    return [*probe_inputs(card), *(net_input for net_input in odd if len(net_input))]


def compare(student: Student, infer: Callable[[NetInput], np.ndarray], inputs: Sequence[NetInput]) -> Parity:
    """Run torch, layer by layer on whole grids, and the graph on the same inputs.

    Args:
        student: In evaluation mode, on the CPU.
        infer: Runs the graph, (N, C) float32 logits.
        inputs: From `check_inputs`.
    """
    points, difference, worst, flips, values = 0, 0.0, 0.0, 0, []
    for net_input in inputs:
        with torch.inference_mode():
            expected = student.on(collate([net_input])).numpy()
        got = infer(net_input)
        # NaN must count as the worst, not vanish in a maximum.
        apart = float(np.nan_to_num(np.abs(got - expected), nan=np.inf).max())
        limit = MAX_DIFFERENCE * max(1.0, float(expected.std()) / _WIDE_SPREAD)
        difference, worst = max(difference, apart), max(worst, apart / limit)
        rows, best = np.arange(len(expected)), expected.argmax(1)
        margin = expected[rows, best] - expected[rows, got.argmax(1)]
        flips += int((margin > 2 * limit).sum())
        points += len(expected)
        values.append(expected.std())
    return Parity(points, difference, flips, float(np.mean(values)), worst)
