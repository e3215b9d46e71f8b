"""Learning from labels on a given backbone: what probing and fine-tuning share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from xkd_ros.core.progress import Report
from xkd_ros.distill.labelled_frames import ConfidentLoss, LabelledFrames, collate_labelled_frames, count_frame_labels
from xkd_ros.distill.layer_decay import layer_groups
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.passes import share_of
from xkd_ros.distill.recipe import LabelStageConfig
from xkd_ros.distill.student_input import StudentInput, points_of
from xkd_ros.distill.supervised import class_weights
from xkd_ros.nets.heads import ClassifyingStudent, fold_head
from xkd_ros.nets.student import Student
from xkd_ros.train.engine import fit


def learn_labels(
    lesson: Lesson,
    config: LabelStageConfig,
    frozen: bool,
    layer_decay: float,
    folder: Path,
    fabric: Fabric,
    progress: Report | None,
) -> Student:
    """Put a zero-initialised class head on the backbone, train, and fold the head; see `run_probe` and `run_finetune`."""
    numbers = share_of(lesson.labelled_numbers(), config.label_share, config.seed)
    student_input = StudentInput(config.input, lesson.backbone.card.student, lesson.frames.manifest.intensity, seek=True)
    samples = LabelledFrames(lesson.frames, lesson.labels, numbers, student_input, config.seed)
    model = classifier(lesson, config, frozen)
    average = fit(
        model,
        label_loss(lesson, config, numbers),
        samples,
        collate_labelled_frames,
        config.engine(len(numbers), fabric.world_size),
        folder,
        fabric,
        progress=progress,
        groups=layer_groups(model, layer_decay, config.decay_vectors),
        size=points_of,
    )
    return fold_head(average)


def classifier(lesson: Lesson, config: LabelStageConfig, frozen: bool = False) -> ClassifyingStudent:
    """Put a zero-initialised class head on the backbone of a lesson."""
    network = lesson.backbone.card.network.model_copy(update={"classes": lesson.classes})
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return ClassifyingStudent(network, lesson.backbone.build(config.drop_path, config.gradient_checkpointing), frozen)


def label_loss(lesson: Lesson, config: LabelStageConfig, numbers: np.ndarray) -> ConfidentLoss:
    """Make the loss of labels; how much a class weighs follows from its labels in some of the frames.

    Raises:
        ConfigError: a label that is no class.
    """
    counts = count_frame_labels(lesson.labels, numbers, lesson.classes)
    weight = class_weights(counts, config.class_weight_power) if config.class_weight_power else None
    return ConfidentLoss(weight, config.label_smoothing, lesson.groups, config.group_weight)
