"""`ignet`: mean teacher, images and few labels; then once more, with labels that the mean teacher is sure of (METHODS 4).

In: a lesson with few labels and image targets. Out: a plain student. What METHODS 4.3 marks as reconstruction is ours; so is that frames
vote on places before labels are chosen, and that the second training goes on from the first.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from xkd_ros.core.progress import Report
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.backbone import Backbone
from xkd_ros.distill.finetune import run_finetune
from xkd_ros.distill.ignet.config import IgnetConfig
from xkd_ros.distill.ignet.loss import IgnetLoss
from xkd_ros.distill.ignet.network import GuidedStudent
from xkd_ros.distill.ignet.range_balance import BalancedLabels, write_balanced_labels
from xkd_ros.distill.ignet.samples import IgnetSamples, collate_ignet
from xkd_ros.distill.label_stage import classifier, label_loss
from xkd_ros.distill.labelled_frames import Labels
from xkd_ros.distill.layer_decay import layer_groups
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.passes import share_of
from xkd_ros.distill.place_votes import Said, vote_on_places
from xkd_ros.distill.prediction import WholeFrames
from xkd_ros.distill.recipe import FinetuneConfig
from xkd_ros.distill.student_input import points_of
from xkd_ros.nets.checkpoint import write_weights
from xkd_ros.nets.heads import fold_head
from xkd_ros.nets.student import Student
from xkd_ros.train.engine import fit

BALANCED_NAME, FIRST_NAME = "balanced.npz", "first.safetensors"
_ENOUGH = 0.2


@dataclass(frozen=True, eq=False)
class _LabelledOnly:
    """Labels of some frames; of all others none, whatever is known about them."""

    labels: Labels
    numbers: frozenset[int]

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        labels, confidence = self.labels[number]
        if number in self.numbers:
            return labels, confidence
        return np.full(len(labels), UNKNOWN, np.uint8), np.zeros(len(labels), np.float32)


def run_ignet(lesson: Lesson, config: IgnetConfig, folder: Path, fabric: Fabric, progress: Report | None = None) -> Student:
    """Train with few labels, choose labels of the mean teacher, train again with both; see `methods.train_student`.

    `folder` also gets what the first training gave, and the labels that were chosen.
    """
    every = lesson.frames.numbers("train")
    labelled = share_of(lesson.labelled_numbers(), config.label_share, config.seed)
    given = _LabelledOnly(lesson.labels, frozenset(labelled.tolist()))
    train = partial(_train_first, replace(lesson, labels=given), config, labelled, every)
    if not _twice(config, len(labelled) / len(every)):
        return train(folder, fabric, progress)
    first = train(folder / "first", fabric, _half(progress, 0))
    path = folder / BALANCED_NAME
    if fabric.is_global_zero and not path.is_file():
        write_weights(first, folder / FIRST_NAME)
        ask = WholeFrames(first, lesson.backbone.card.student, lesson.frames.manifest.intensity)
        said = vote_on_places(lesson.frames, every, ask, lesson.classes, lesson.movers, config.retrain.votes)
        told = _told(said, config.engine(len(every), fabric.world_size).steps, progress)
        write_balanced_labels(lesson.frames, told, lesson.classes, config.retrain, path)
    fabric.barrier()
    start = lesson.backbone
    if not config.retrain.afresh:
        start = Backbone.of(first.backbone, first.network, start.card.student, {"method": config.method})
    again = replace(lesson, labels=BalancedLabels(given, path), labelled=None, backbone=start)
    return run_finetune(again, _labels_alone(config), folder, fabric, _half(progress, 1))


def _train_first(
    lesson: Lesson,
    config: IgnetConfig,
    labelled: np.ndarray,
    every: np.ndarray,
    folder: Path,
    fabric: Fabric,
    progress: Report | None,
) -> Student:
    samples = IgnetSamples(lesson, labelled, np.setdiff1d(every, labelled), config)
    student = _begin(lesson, config, samples.width)
    loss = IgnetLoss(student, label_loss(lesson, config, labelled), config)
    average = fit(
        student,
        loss,
        samples,
        collate_ignet,
        config.engine(len(every), fabric.world_size),
        folder,
        fabric,
        progress=progress,
        groups=layer_groups(student, config.layer_decay, config.decay_vectors),
        size=points_of,
        watch=loss.watch,
    )
    return fold_head(average.classifier)


def _twice(config: IgnetConfig, labelled: float) -> bool:
    """Whether a share of frames with labels is enough for a second training, where the configuration leaves that open."""
    return labelled >= _ENOUGH if config.retrain.again is None else config.retrain.again


def _labels_alone(config: IgnetConfig) -> FinetuneConfig:
    """Plain fine-tuning of the same length, on all frames; its average of the weights is no mean teacher."""
    shared = set(FinetuneConfig.model_fields) - {"method", "average_decay", "label_share"}
    return FinetuneConfig.model_validate(config.model_dump(include=shared))


def _half(progress: Report | None, half: int) -> Report | None:
    """Report one of two trainings of equal length."""
    if progress is None:
        return None
    return lambda done, total, facts: progress(half * total + done, 2 * total, facts)


def _told(said: Iterable[Said], steps: int, progress: Report | None) -> Iterator[Said]:
    """Report how fast frames are labelled between the two trainings of so many steps."""
    begun = time.monotonic()
    for done, frame in enumerate(said, 1):
        if progress:
            progress(steps, 2 * steps, {"samples_per_s": done / max(1e-6, time.monotonic() - begun)})
        yield frame


def _begin(lesson: Lesson, config: IgnetConfig, features: int) -> GuidedStudent:
    classifying = classifier(lesson, config)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return GuidedStudent(classifying, features, config.contrast_hidden, config.bank)
