"""`ignet`: mean teacher, images and few labels; then once more with labels that the mean teacher is sure of (METHODS 4).

In: a lesson with few labels and image targets. Out: a plain student. What METHODS 4.3 marks as reconstruction is ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.distillation import Progress, report_to
from xkd_ros.distill.ignet.config import IgnetConfig
from xkd_ros.distill.ignet.loss import IgnetLoss
from xkd_ros.distill.ignet.network import GuidedStudent
from xkd_ros.distill.ignet.range_balance import BalancedLabels, write_balanced_labels
from xkd_ros.distill.ignet.samples import IgnetItem, IgnetSamples, collate_ignet
from xkd_ros.distill.label_stage import Evaluate, classifier, label_loss
from xkd_ros.distill.labelled_frames import Labels
from xkd_ros.distill.layer_decay import layer_groups
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.passes import share_of
from xkd_ros.distill.prediction import Predictor
from xkd_ros.nets.heads import fold_head
from xkd_ros.nets.student import Student
from xkd_ros.train.engine import fit

BALANCED_NAME = "balanced.npz"


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


def run_ignet(
    lesson: Lesson, config: IgnetConfig, folder: Path, fabric: Fabric, progress: Progress | None = None, evaluate: Evaluate | None = None
) -> Student:
    """Train with few labels, choose labels of the mean teacher, train on with both; see `methods.train_student`.

    One run of `config.steps` steps that pauses to choose labels, where the source trains twice from the start.
    """
    every = lesson.frames.numbers("train")
    labelled = share_of(lesson.labelled_numbers(), config.label_share, config.seed)
    given = _LabelledOnly(lesson.labels, frozenset(labelled.tolist()))
    lists = (labelled, np.setdiff1d(every, labelled))
    engine = config.engine(len(every), fabric.world_size)
    pause = engine.steps - round(config.retrain.share * engine.steps)
    student = _begin(lesson, config, IgnetSamples(lesson, given, *lists, config).width)

    def train(labels: Labels, numbers: np.ndarray, until: int) -> GuidedStudent:
        loss = IgnetLoss(student, label_loss(replace(lesson, labels=labels), config, numbers), config)
        average = fit(
            student,
            loss,
            IgnetSamples(lesson, labels, *lists, config),
            collate_ignet,
            engine,
            folder,
            fabric,
            evaluate=None if evaluate is None else lambda average, step: evaluate(_folded(average), step),
            progress=None if progress is None else report_to(progress),
            groups=layer_groups(student, config.layer_decay, config.decay_vectors),
            size=_points,
            watch=loss.watch,
            until=until,
        )
        assert isinstance(average, GuidedStudent)
        return average

    average = train(given, labelled, pause)
    if pause < engine.steps:
        path = folder / BALANCED_NAME
        if not path.is_file() and fabric.is_global_zero:
            predict = Predictor(_folded(average), lesson.backbone.card.student, lesson.frames.manifest.intensity)
            write_balanced_labels(lesson.frames, every, lesson.classes, predict, config.retrain, path)
        fabric.barrier()
        average = train(BalancedLabels(given, path), every, engine.steps)
    return _folded(average)


def _begin(lesson: Lesson, config: IgnetConfig, features: int) -> GuidedStudent:
    classifying = classifier(lesson, config)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return GuidedStudent(classifying, features, config.contrast_hidden, config.bank)


def _folded(average: nn.Module) -> Student:
    assert isinstance(average, GuidedStudent)
    return fold_head(average.classifier)


def _points(item: IgnetItem) -> int:
    return len(item.scan)
