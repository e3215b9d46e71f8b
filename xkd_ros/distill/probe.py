"""Linear probing: how much the distilled backbone knows, asked by a linear classifier alone (METHODS 2.5)."""

from __future__ import annotations

from pathlib import Path

from lightning_fabric import Fabric

from xkd_ros.core.progress import Report
from xkd_ros.distill.label_stage import learn_labels
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.recipe import ProbeConfig
from xkd_ros.nets.student import Student


def run_probe(lesson: Lesson, config: ProbeConfig, folder: Path, fabric: Fabric, progress: Report | None = None) -> Student:
    """Train batch norm and a linear layer on the backbone, which stays as it is, the batch norms of its embedding included.

    Goes on where a killed run was; arguments, result and errors as for `methods.train_student`.
    """
    return learn_labels(lesson, config, True, 1.0, folder, fabric, progress)
