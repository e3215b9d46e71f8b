"""Learning from labels on a given backbone: what probing and fine-tuning share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from xkd_ros.distill.backbone import Backbone
from xkd_ros.distill.distillation import Progress, report_to
from xkd_ros.distill.frame_samples import Frames
from xkd_ros.distill.labelled_frames import ConfidentLoss, LabelledFrames, LabelledItem, Labels, collate_labelled_frames, count_frame_labels
from xkd_ros.distill.layer_decay import layer_groups
from xkd_ros.distill.passes import share_of
from xkd_ros.distill.recipe import LabelStageConfig
from xkd_ros.distill.student_input import StudentInput
from xkd_ros.distill.supervised import class_weights
from xkd_ros.nets.heads import ClassifyingStudent, fold_head
from xkd_ros.nets.student import Student
from xkd_ros.train.engine import fit

Evaluate = Callable[[Student, int], dict[str, Any]]


def learn_labels(
    frames: Frames,
    labels: Labels,
    classes: int,
    backbone: Backbone,
    config: LabelStageConfig,
    frozen: bool,
    layer_decay: float,
    folder: Path,
    fabric: Fabric,
    progress: Progress | None,
    evaluate: Evaluate | None,
    groups: np.ndarray | None,
) -> Student:
    """Put a zero-initialised class head on the backbone, train, and fold the head; see `run_probe` and `run_finetune`."""
    numbers = share_of(frames.numbers("train"), config.label_share, config.seed)
    student_input = StudentInput(config.input, backbone.card.student, frames.manifest.intensity)
    samples = LabelledFrames(frames, labels, numbers, student_input, config.seed)
    counts = count_frame_labels(labels, numbers, classes)
    weight = class_weights(counts, config.class_weight_power) if config.class_weight_power else None
    network = backbone.card.network.model_copy(update={"classes": classes})
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = ClassifyingStudent(network, backbone.build(config.drop_path, config.gradient_checkpointing), frozen)

    def folded(average: nn.Module) -> Student:
        assert isinstance(average, ClassifyingStudent)
        return fold_head(average)

    average = fit(
        model,
        ConfidentLoss(weight, config.label_smoothing, groups, config.group_weight),
        samples,
        collate_labelled_frames,
        config.engine(len(numbers), fabric.world_size),
        folder,
        fabric,
        evaluate=None if evaluate is None else lambda average, step: evaluate(folded(average), step),
        progress=None if progress is None else report_to(progress),
        groups=layer_groups(model, layer_decay, config.decay_vectors),
        size=_points,
    )
    return folded(average)


def _points(item: LabelledItem) -> int:
    return len(item.scan)
