"""The ways to train the whole student, by the `method` of their configuration."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lightning_fabric import Fabric

from xkd_ros.core.progress import Report
from xkd_ros.distill.finetune import run_finetune
from xkd_ros.distill.ignet.config import IgnetConfig
from xkd_ros.distill.ignet.training import run_ignet
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.partdistill.config import PartDistillConfig
from xkd_ros.distill.partdistill.training import run_partdistill
from xkd_ros.distill.prediction import WholeFrames
from xkd_ros.distill.recipe import FinetuneConfig, SelfTrainingConfig
from xkd_ros.distill.retraining.place_votes import Ask
from xkd_ros.distill.retraining.training import train_twice, trains_twice
from xkd_ros.distill.xmodel.config import XModelConfig
from xkd_ros.distill.xmodel.fused_opinions import FusedOpinions
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
    if isinstance(config, SelfTrainingConfig) and trains_twice(lesson, config):
        first, second = partial(_train, config=config), partial(_train, config=_on_all_frames(config))
        return train_twice(lesson, config, first, second, partial(_ask, lesson, config, fabric), folder, fabric, progress)
    return _train(lesson, folder, fabric, progress, config)


def _train(lesson: Lesson, folder: Path, fabric: Fabric, progress: Report | None, config: MethodConfig) -> Student:
    """Train once."""
    if isinstance(config, IgnetConfig):
        return run_ignet(lesson, config, folder, fabric, progress)
    if isinstance(config, PartDistillConfig):
        return run_partdistill(lesson, config, folder, fabric, progress)
    if isinstance(config, XModelConfig):
        return run_xmodel(lesson, config, folder, fabric, progress)
    return run_finetune(lesson, config, folder, fabric, progress)


def _on_all_frames(config: SelfTrainingConfig) -> MethodConfig:
    """Make the second training: on labels of all frames; after `ignet` plain, whose average of the weights is no mean teacher."""
    if isinstance(config, XModelConfig):
        return config.model_copy(update={"label_share": 1.0})
    shared = set(FinetuneConfig.model_fields) - {"method", "retrain", "label_share"}
    if isinstance(config, IgnetConfig):
        shared.discard("average_decay")
    return FinetuneConfig.model_validate(config.model_dump(include=shared))


def _ask(lesson: Lesson, config: SelfTrainingConfig, fabric: Fabric, student: Student, folder: Path) -> Ask:
    """Choose who answers for the first student: itself, or the fused head that was trained beside it."""
    if isinstance(config, XModelConfig):
        return FusedOpinions(lesson, config, student, folder, fabric.device)
    return WholeFrames(student, lesson.backbone.card.student, lesson.frames.manifest.intensity)
