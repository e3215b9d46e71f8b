"""Any method and once more: what the first student says is put to the vote, and the second training learns from that too.

In: a lesson, and the two trainings. Out: the second student. Between them the folder gets what the first gave, and the labels chosen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from lightning_fabric import Fabric

from xkd_ros.core.progress import Report
from xkd_ros.distill.backbone import Backbone
from xkd_ros.distill.labelled_frames import LabelledOnly
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.passes import share_of
from xkd_ros.distill.recipe import SelfTrainingConfig
from xkd_ros.distill.retraining.balanced_labels import BalancedLabels, write_balanced_labels
from xkd_ros.distill.retraining.place_votes import Ask, Said, vote_on_places
from xkd_ros.nets.checkpoint import write_weights
from xkd_ros.nets.student import Student

FIRST_FOLDER, FIRST_NAME, BALANCED_NAME = "first", "first.safetensors", "balanced.npz"
_WAIT_S = 0.5
_ENOUGH = 0.2


class Training(Protocol):
    """One training."""

    def __call__(self, lesson: Lesson, folder: Path, fabric: Fabric, progress: Report | None) -> Student:
        """Train; goes on where a killed run was."""


def trains_twice(lesson: Lesson, config: SelfTrainingConfig) -> bool:
    """Whether there is to be a second training, and enough to learn from where the configuration leaves that open."""
    if config.retrain.again is not None:
        return config.retrain.again
    every = lesson.frames.numbers("train")
    if config.retrain.votes and len(every) and lesson.frames.scan(int(every[0])).world_from_lidar is not None:
        return True
    return len(share_of(lesson.labelled_numbers(), config.label_share, config.seed)) >= _ENOUGH * len(every)


def train_twice(
    lesson: Lesson,
    config: SelfTrainingConfig,
    first: Training,
    second: Training,
    ask: Callable[[Student, Path], Ask],
    folder: Path,
    fabric: Fabric,
    progress: Report | None,
) -> Student:
    """Train, choose labels of the student, and train again with both.

    Args:
        lesson: What to learn from.
        config: Of the method.
        first: The method.
        second: What learns from labels of all training frames.
        ask: (student of the first training, its folder) → what answers for it about whole frames.
        folder: Of both trainings.
        fabric: Launched.
        progress: As for `methods.train_student`.
    """
    halves = _Halves(progress)
    student = first(lesson, folder / FIRST_FOLDER, fabric, halves.first)
    every = lesson.frames.numbers("train")
    labelled = share_of(lesson.labelled_numbers(), config.label_share, config.seed)
    path = folder / BALANCED_NAME
    if fabric.is_global_zero and not path.is_file():
        write_weights(student, folder / FIRST_NAME)
        asked = ask(student, folder / FIRST_FOLDER)
        said = vote_on_places(lesson.frames, every, asked, lesson.classes, lesson.movers, config.retrain.votes)
        write_balanced_labels(lesson.frames, halves.between(said), lesson.classes, config.retrain, path)
    # Not a barrier: to ask about all frames may take longer than collectives wait.
    while not path.is_file():
        time.sleep(_WAIT_S)
    start = lesson.backbone
    if not config.retrain.afresh:
        start = Backbone.of(student.backbone, student.network, start.card.student, {"method": "first of two trainings"})
    labels = BalancedLabels(LabelledOnly(lesson.labels, labelled), path)
    return second(replace(lesson, labels=labels, labelled=None, backbone=start), folder, fabric, halves.second)


class _Halves:
    """Reports two trainings as one, whatever the length of each."""

    def __init__(self, report: Report | None) -> None:
        self._report, self._steps = report, 1

    def first(self, done: int, total: int, facts: Mapping[str, float]) -> None:
        self._steps = total
        self._tell(done, total, facts)

    def between(self, said: Iterable[Said]) -> Iterator[Said]:
        begun = time.monotonic()
        for done, frame in enumerate(said, 1):
            self._tell(self._steps, self._steps, {"samples_per_s": done / max(1e-6, time.monotonic() - begun)})
            yield frame

    def second(self, done: int, total: int, facts: Mapping[str, float]) -> None:
        self._tell(total + done, total, facts)

    def _tell(self, done: int, half: int, facts: Mapping[str, float]) -> None:
        if self._report:
            self._report(done, 2 * half, facts)
