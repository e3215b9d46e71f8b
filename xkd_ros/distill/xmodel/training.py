"""Training beside a fused head: what the robot runs is the lidar-only student, the fused head stays beside it in the folder."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning_fabric import Fabric

from xkd_ros.core.progress import Report
from xkd_ros.distill.label_stage import classifier, label_loss
from xkd_ros.distill.layer_decay import layer_groups
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.student_input import points_of
from xkd_ros.distill.xmodel.config import XModelConfig
from xkd_ros.distill.xmodel.fused_frames import FusedFrames, collate_fused
from xkd_ros.distill.xmodel.loss import FusedLoss
from xkd_ros.nets.fused_checkpoint import save_fused
from xkd_ros.nets.fusion import FusedStudent, FusionSizes
from xkd_ros.nets.heads import fold_head
from xkd_ros.nets.student import Student
from xkd_ros.train.engine import fit


def run_xmodel(lesson: Lesson, config: XModelConfig, folder: Path, fabric: Fabric, progress: Report | None = None) -> Student:
    """Train the student and a fused head together; see `methods.train_student`. `folder` also gets the fused head, on rank 0."""
    samples = FusedFrames(lesson, config)
    model = _make_student(lesson, config, samples.width)
    average = fit(
        model,
        FusedLoss(label_loss(lesson, config, samples.numbers), config),
        samples,
        collate_fused,
        config.engine(samples.length, fabric.world_size),
        folder,
        fabric,
        progress=progress,
        groups=layer_groups(model, config.layer_decay, config.decay_vectors),
        size=points_of,
    )
    student = fold_head(average.lidar)
    if fabric.is_global_zero:
        save_fused(average.fused, student, lesson.looks, folder)
    fabric.barrier()
    return student


def _make_student(lesson: Lesson, config: XModelConfig, features: int) -> FusedStudent:
    lidar = classifier(lesson, config)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        sizes = FusionSizes(lidar.network.width, features, lesson.classes, config.attention)
        return FusedStudent(lidar, sizes, config.code, config.head_hidden, config.drop_pictures)
