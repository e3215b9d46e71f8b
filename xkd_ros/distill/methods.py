"""The ways to train the whole student, by the `method` of their configuration."""

from __future__ import annotations

from pathlib import Path

from lightning_fabric import Fabric

from xkd_ros.core.progress import Report
from xkd_ros.distill.finetune import run_finetune
from xkd_ros.distill.ignet.config import IgnetConfig
from xkd_ros.distill.ignet.training import run_ignet
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.partdistill.config import PartDistillConfig
from xkd_ros.distill.partdistill.training import run_partdistill
from xkd_ros.distill.recipe import FinetuneConfig
from xkd_ros.distill.xmodel.config import XModelConfig
from xkd_ros.distill.xmodel.training import run_xmodel
from xkd_ros.nets.student import Student

MethodConfig = FinetuneConfig | IgnetConfig | PartDistillConfig | XModelConfig
FINETUNE, METHODS = "labels", ("ignet", "partdistill", "xmodel")
"""The method that learns from labels alone, and those that have a name of their own."""


def train_student(lesson: Lesson, config: MethodConfig, folder: Path, fabric: Fabric, progress: Report | None = None) -> Student:
    """Train the whole student; goes on where a killed run was.

    Args:
        lesson: What to learn from.
        config: Its class chooses the method.
        folder: Checkpoints and log. It must belong to these inputs: the caller sees to that.
        fabric: Launched.
        progress: (done, total, {"loss", "lr", "samples_per_s"}), on rank 0.
    Returns:
        A plain student in evaluation mode on the CPU.
    Raises:
        ConfigError: no frames, no labels, labels that are no class, or no targets where the method needs them.
        ModelError: `folder` holds a checkpoint of another network.
    """
    if isinstance(config, IgnetConfig):
        return run_ignet(lesson, config, folder, fabric, progress)
    if isinstance(config, PartDistillConfig):
        return run_partdistill(lesson, config, folder, fabric, progress)
    if isinstance(config, XModelConfig):
        return run_xmodel(lesson, config, folder, fabric, progress)
    return run_finetune(lesson, config, folder, fabric, progress)
