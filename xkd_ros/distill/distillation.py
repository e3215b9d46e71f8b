"""Distillation: the student learns to say at each lidar point what the image teacher says at its pixel (METHODS 2).

In: frames, targets with features. Out: a folder with the distilled backbone. Next: `probe`, `finetune`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from xkd_ros.core.card import NetworkConfig
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.progress import Report
from xkd_ros.distill.backbone import Backbone
from xkd_ros.distill.frame_samples import DistilBatch, DistilSamples, Frames, Targets, collate_distil
from xkd_ros.distill.losses import distillation_loss
from xkd_ros.distill.recipe import DistilConfig
from xkd_ros.distill.student_input import StudentConfig, StudentInput, points_of
from xkd_ros.nets.heads import DistillationHead, DistillingStudent, make_backbone
from xkd_ros.train.engine import fit


class DistillationLoss:
    """Distance between the student's predictions and the teacher's features over the pairs of a batch."""

    def __init__(self, equal_scans: bool, eps: float) -> None:
        self._equal_scans, self._eps = equal_scans, eps

    def __call__(self, model: nn.Module, item: DistilBatch) -> Tensor:
        """Compute the loss of one batch."""
        b = item.batch
        predicted = model(b.features, b.cells, b.shapes, b.neighbours, b.scan, item.paired)
        return distillation_loss(predicted, item.features, b.scan[item.paired] if self._equal_scans else None, self._eps)


def run_distil(
    frames: Frames,
    targets: Targets,
    network: NetworkConfig,
    student: StudentConfig,
    config: DistilConfig,
    folder: Path,
    fabric: Fabric,
    progress: Report | None = None,
    start: Backbone | None = None,
) -> Backbone:
    """Distil the image teacher into a backbone; goes on where a killed run was.

    Args:
        frames: Frame store.
        targets: Teacher features of these frames.
        network: Sizes; `config.activation` wins over its activation.
        student: Geometry and intensity.
        config: Recipe.
        folder: Checkpoint, log and result. It must belong to these inputs: the caller sees to that.
        fabric: Launched.
        progress: (done, total, {"loss", "lr", "samples_per_s"}), on rank 0.
        start: Backbone to go on from, of the same sizes; None: random weights.
    Returns:
        The backbone, as written to `folder`.
    Raises:
        ConfigError: no frames, no pairs, no features, or another network than `start`'s.
        ModelError: `folder` holds a checkpoint of another network.
    """
    if config.activation is not None:
        network = network.model_copy(update={"activation": config.activation})
    if start is not None and start.card.network.model_copy(update={"classes": network.classes}) != network:
        raise ConfigError(f"distillation cannot start from a backbone of {start.card.network}; the network asked for is {network}")
    numbers = frames.numbers("train")
    rigs = frames.manifest.intensity
    samples = DistilSamples(frames, targets, numbers, StudentInput(config.input, student, rigs), config.pairs, config.seed)
    model = _make_student(network, config, samples(0).features.shape[1], start)
    average = fit(
        model,
        DistillationLoss(config.equal_scans, config.eps),
        samples,
        collate_distil,
        config.engine(len(numbers), fabric.world_size),
        folder,
        fabric,
        progress=progress,
        size=points_of,
    )
    backbone = Backbone.of(average.backbone, network, student, {"method": "distillation", **config.model_dump(mode="json")})
    if fabric.is_global_zero:
        backbone = backbone.save(folder)
    fabric.barrier()
    return backbone


def _make_student(network: NetworkConfig, config: DistilConfig, features: int, start: Backbone | None) -> DistillingStudent:
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        backbone = make_backbone(network, config.drop_path, config.gradient_checkpointing)
        head = DistillationHead(network.width, features, config.head_hidden)
    if start is not None:
        backbone.load_state_dict(start.weights)
    return DistillingStudent(backbone, head)
