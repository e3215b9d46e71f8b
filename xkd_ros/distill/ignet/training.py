"""`ignet`: mean teacher, images and few labels (METHODS 4); a second training follows in `retraining`.

In: a lesson with few labels and image targets. Out: a plain student. What METHODS 4.3 marks as reconstruction is ours.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from xkd_ros.core.progress import Report
from xkd_ros.distill.ignet.config import IgnetConfig
from xkd_ros.distill.ignet.loss import IgnetLoss
from xkd_ros.distill.ignet.network import GuidedStudent
from xkd_ros.distill.ignet.samples import IgnetSamples, collate_ignet
from xkd_ros.distill.label_stage import classifier, label_loss
from xkd_ros.distill.labelled_frames import LabelledOnly
from xkd_ros.distill.layer_decay import layer_groups
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.passes import share_of
from xkd_ros.distill.student_input import points_of
from xkd_ros.nets.heads import fold_head
from xkd_ros.nets.student import Student
from xkd_ros.train.engine import fit


def run_ignet(lesson: Lesson, config: IgnetConfig, folder: Path, fabric: Fabric, progress: Report | None = None) -> Student:
    """Train once with few labels; see `methods.train_student`."""
    every = lesson.frames.numbers("train")
    labelled = share_of(lesson.labelled_numbers(), config.label_share, config.seed)
    lesson = replace(lesson, labels=LabelledOnly(lesson.labels, labelled))
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


def _begin(lesson: Lesson, config: IgnetConfig, features: int) -> GuidedStudent:
    classifying = classifier(lesson, config)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return GuidedStudent(classifying, features, config.contrast_hidden, config.bank)
