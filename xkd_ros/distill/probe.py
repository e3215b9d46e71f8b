"""Linear probing: how much the distilled backbone knows, asked by a linear classifier alone (METHODS 2.5)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from lightning_fabric import Fabric

from xkd_ros.distill.backbone import Backbone
from xkd_ros.distill.distillation import Progress
from xkd_ros.distill.frame_samples import Frames
from xkd_ros.distill.label_stage import Evaluate, learn_labels
from xkd_ros.distill.labelled_frames import Labels
from xkd_ros.distill.recipe import ProbeConfig
from xkd_ros.nets.student import Student


def run_probe(
    frames: Frames,
    labels: Labels,
    classes: int,
    backbone: Backbone,
    config: ProbeConfig,
    folder: Path,
    fabric: Fabric,
    progress: Progress | None = None,
    evaluate: Evaluate | None = None,
    groups: np.ndarray | None = None,
) -> Student:
    """Train batch norm and a linear layer on the frozen backbone; goes on where a killed run was.

    Args:
        frames: Frame store.
        labels: Frame number → labels and confidence.
        classes: Number of classes.
        backbone: Stays as it is: weights frozen, batch norms of the embedding in evaluation mode.
        config: Recipe.
        folder: Checkpoint and log. It must belong to these inputs: the caller sees to that.
        fabric: Launched.
        progress: (done, total, {"loss", "lr", "samples_per_s"}), on rank 0.
        evaluate: (student, step) → figures for the log, on rank 0.
        groups: (C,) group of each class, for `config.group_weight`; for instance `INDOOR12_TO_STRUCT4[:12]`.
    Returns:
        A plain student in evaluation mode on the CPU.
    Raises:
        ConfigError: no frames, no labels, or labels that are no class.
        ModelError: `folder` holds a checkpoint of another network.
    """
    return learn_labels(frames, labels, classes, backbone, config, True, 1.0, folder, fabric, progress, evaluate, groups)
