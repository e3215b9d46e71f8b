"""Fine-tuning: a class head and the whole backbone learn from labels, lower layers more slowly (METHODS 2.6)."""

from __future__ import annotations

from pathlib import Path

from lightning_fabric import Fabric

from xkd_ros.core.progress import Report
from xkd_ros.distill.label_stage import learn_labels
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.recipe import FinetuneConfig
from xkd_ros.nets.student import Student


def run_finetune(lesson: Lesson, config: FinetuneConfig, folder: Path, fabric: Fabric, progress: Report | None = None) -> Student:
    """Train a new class head and the whole backbone on the labels alone; see `methods.train_student`."""
    return learn_labels(lesson, config, False, config.layer_decay, folder, fabric, progress)
