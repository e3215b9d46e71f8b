"""Test-time adaptation: the head of a finished student learns from the units of a place that it has just come to (METHODS 5.1, 5.4).

In: a student, and frames and units of the first minutes there. Out: the adapted student, or the old one where that is no better.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from pydantic import Field, model_validator
from torch import Tensor, nn

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.progress import Report
from xkd_ros.distill.frame_samples import Frames
from xkd_ros.distill.partdistill.backward import Backward
from xkd_ros.distill.partdistill.config import PartDistillConfig
from xkd_ros.distill.partdistill.judge import UnitJudge
from xkd_ros.distill.partdistill.ledger import UnitLedger
from xkd_ros.distill.partdistill.training import PartDistillLoss
from xkd_ros.distill.partdistill.unit_samples import UnitCount, UnitSamples, collate_units, count_units
from xkd_ros.distill.partdistill.units import Units
from xkd_ros.distill.student_input import StudentConfig, StudentInput, points_of
from xkd_ros.nets.planes import make_planes
from xkd_ros.nets.student import Student
from xkd_ros.train.engine import fit

_LEAST_FRAMES = 4
_OF_TRAINING = frozenset({"layer_decay", "label_share", "labelled_share", "label_weight", "generated", "generated_share"})


class AdaptConfig(PartDistillConfig):
    """Adaptation in a new place; what is not said here is as in training."""

    method: Literal["partdistill"] = "partdistill"
    steps: int | None = Field(100, ge=1)
    held_out: float = Field(0.25, gt=0, lt=1, description="last share of the frames, whose units decide whether the adaptation is kept")
    norms: bool = Field(False, description="let the batch norms of the embedding follow the new place too")

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_does_nothing(cls, given: Any) -> Any:
        """Say that a setting of training is none of adaptation, where only the head learns, from units alone."""
        if isinstance(given, dict) and str(recipe := given.get("recipe", "indoor")) in cls.table:
            usual = {name: cls.model_fields[name].default for name in _OF_TRAINING} | cls._row(recipe, given)
            for name in sorted(_OF_TRAINING & given.keys()):
                if given[name] != usual[name]:
                    raise ValueError(f"{name} does nothing in adaptation: it is of training, where the backbone learns from labels too")
        return given


class AdaptingStudent(nn.Module):
    """A student of which the head learns; the backbone stays, but for the statistics of its embedding where those are to follow."""

    def __init__(self, student: Student, norms: bool) -> None:
        super().__init__()
        self.student = student
        student.backbone.requires_grad_(False)
        self._norms = norms
        self.train()

    def train(self, mode: bool = True) -> AdaptingStudent:
        """Switch training mode of what learns."""
        super().train(mode)
        self.student.backbone.eval()
        self.student.backbone.embedding.train(mode and self._norms)
        return self

    def forward(
        self,
        features: Tensor,
        cells: Tensor,
        shapes: tuple[tuple[int, int, int], ...],
        neighbours: Tensor,
        occupied: Tensor | None = None,
        scan: Tensor | None = None,
    ) -> Tensor:
        """Compute (T, C) logits; arguments as in `Student.forward`."""
        with torch.no_grad():
            tokens = self.student.backbone(features, neighbours, make_planes(cells, shapes, occupied), occupied, scan)
        return self.student.head(tokens)


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What came of it.

    Attributes:
        student: The adapted one, or the one given where the agreement fell.
        kept: Whether it is the adapted one.
        before, after: Agreement of both with the held-out units, 0 to 1; see `mean_agreement`.
        frames: Frames that were learnt from.
        units: Their units.
    """

    student: Student
    kept: bool
    before: float
    after: float
    frames: int
    units: int

    @property
    def line(self) -> str:
        """Say it in a sentence."""
        verdict = "kept" if self.kept else "rolled back"
        return (
            f"agreement with held-out image labels {100 * self.before:.1f} % before, {100 * self.after:.1f} % after "
            f"{self.units} units of {self.frames} frames: {verdict}"
        )


def adapt_student(
    student: Student,
    frames: Frames,
    units: Units,
    numbers: np.ndarray,
    reads: StudentConfig,
    config: AdaptConfig,
    folder: Path,
    fabric: Fabric,
    progress: Report | None = None,
) -> Adaptation:
    """Adapt a student to a place.

    First it learns what the units say, then it judges them, as in training: to judge first would be to drop what it does not know yet.

    Args:
        student: Stays as it is.
        frames: Of the place.
        units: Of these frames.
        numbers: (F,) frames in order of time; the last of them are held out.
        reads: How the student reads a scan.
        config: Recipe.
        folder: Checkpoint and log of this adaptation alone.
        fabric: Launched.
        progress: (done, total, facts).
    Raises:
        ConfigError: too few frames, or no units in those learnt from or held out.
    """
    learnt = len(numbers) - max(1, round(config.held_out * len(numbers)))
    if len(numbers) < _LEAST_FRAMES:
        raise ConfigError(f"{len(numbers)} frames are too few to adapt to: record at least {_LEAST_FRAMES} that a camera sees")
    count, held = (count_units(units, part, student.network.classes) for part in (numbers[:learnt], numbers[learnt:]))
    ledger = UnitLedger(count.units, config.backward.window_epochs if config.backward else 1)
    model = AdaptingStudent(copy.deepcopy(student), config.norms)
    model.add_module("ledger", ledger)
    engine, backward = config.engine(learnt, fabric.world_size), None
    if config.backward:
        judge = UnitJudge(frames, units, count, reads, fabric, config.backward.agreement)
        backward = Backward(ledger, judge, attrgetter("student"), count.label, config.backward, learnt / config.batch, engine.steps, fabric)
    average = fit(
        model,
        PartDistillLoss(config, ledger, count.members.astype(np.float64)),
        UnitSamples(frames, units, count, StudentInput(config.input, reads, frames.manifest.intensity, seek=True), config.seed),
        collate_units,
        engine,
        folder,
        fabric,
        progress=progress,
        size=points_of,
        watch=backward,
    )
    adapted = average.student.eval()
    held_out = UnitJudge(frames, units, held, reads, fabric)
    before, after = (mean_agreement(held_out(one).cpu().numpy(), units, held) for one in (student, adapted))
    kept = after > before
    return Adaptation(adapted if kept else student, kept, before, after, learnt, count.units)


def mean_agreement(scores: np.ndarray, units: Units, count: UnitCount) -> float:
    """Average over classes how many of the points that units claim for it the student gives it; walls alone would hide the rest.

    Args:
        scores: (U,) agreement with each unit.
        units: By frame number.
        count: Their numbers.
    """
    agreed = np.zeros(len(count.members))
    for frame in count.frames.tolist():
        found = units[frame]
        agreed += np.bincount(found.label, found.sizes * scores[count.span(frame)], minlength=len(agreed))
    claimed = count.members > 0
    return float((agreed[claimed] / count.members[claimed]).mean())
