"""Train a student on simulated buildings: scans → shards → training → validation → model folder.

One command remakes the default model; every stage skips what is done, and training continues after an interruption.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from xkd_ros.core.card import GeometryConfig, IntensityConfig, ModelCard, NetworkConfig, check_model_name, load_card
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.labels import INDOOR12, INDOOR12_TO_STRUCT4
from xkd_ros.distill.augment import AugmentConfig
from xkd_ros.distill.supervised import LabelledSamples, SupervisedLoss, class_weights, collate_labelled, count_labels
from xkd_ros.evaluate.validation import load_labelled_bag
from xkd_ros.export.onnx_export import export_onnx
from xkd_ros.nets.checkpoint import load_student, save_student
from xkd_ros.nets.student import Student, count_parameters, seeded_student
from xkd_ros.pipeline.model_page import write_model_page
from xkd_ros.pipeline.progress import console, make_progress, show_count, show_training
from xkd_ros.pipeline.run_folder import claim_folder
from xkd_ros.pipeline.student_validation import Validation
from xkd_ros.train.engine import EngineConfig, fit, make_fabric
from xkd_ros.worlds.scan_shards import ScanStore, write_scan_shard
from xkd_ros.worlds.shards import ShardJob, write_shards

logger = logging.getLogger(__name__)
_SHARD_SCANS = 64
_COMMAND = (
    "torchrun --nproc-per-node=2 -m xkd_ros.cli train-sim config/train/{name}.yaml --work runs/{name} -o models/{name} --threads 1 \\\n"
    "  --bag BAG --labels LABELS  # optional: really labelled scans to score on"
)


class DataConfig(BaseModel):
    """Which simulated scans."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scans: int = Field(6000, ge=4, description="training scans to render")
    scans_per_building: int = Field(4, ge=1)
    shifted_scans: int = Field(96, ge=4, description="validation scans of building styles that training never sees")
    max_points: int = Field(6500, ge=500, description="voxel points of a training scan")


class SimulatedTrainingConfig(BaseModel):
    """Everything that `xkd train-sim` needs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: NetworkConfig = NetworkConfig()
    geometry: GeometryConfig = GeometryConfig()
    intensity: IntensityConfig = IntensityConfig(per_scan=True)
    data: DataConfig = DataConfig()
    augmentation: AugmentConfig = AugmentConfig()
    engine: EngineConfig = EngineConfig()
    drop_path: float = Field(0.05, ge=0, lt=1)
    class_weight_power: float = Field(0.25, ge=0, le=1)
    label_smoothing: float = Field(0.05, ge=0, lt=1)
    structure_weight: float = Field(0.5, ge=0, description="of the loss over wall, floor, ceiling and everything else")


def train_simulated(
    config: SimulatedTrainingConfig,
    work: Path,
    out: Path,
    threads: int | None = None,
    real: tuple[Path, Path] | None = None,
    start: Path | None = None,
) -> ModelCard:
    """Render, train, validate, write the model folder.

    Args:
        config: Sizes, data, schedule.
        work: Shards, checkpoint and log; reused when the command is given again.
        out: Model folder; its last part is the model's name.
        threads: Threads per training process; default what torch takes.
        real: Recording and folder of its labels, scored beside the simulated scans; nothing is learnt from them.
        start: Model folder to go on from; None: random weights.
    Returns:
        The card that was written.
    Raises:
        ConfigError: `work` was begun with another configuration, or `start` is of another network.
    """
    check_model_name(out)
    if threads:
        torch.set_num_threads(threads)
    fabric = make_fabric(config.engine.precision)
    fabric.launch()
    if fabric.is_global_zero:
        claim_folder(work, config)
        _render(config.data, work)
    fabric.barrier()
    shards = _render(config.data, work)
    store = ScanStore(shards["train"])
    samples = LabelledSamples(store, config.geometry, config.intensity, config.augmentation, config.data.max_points, config.engine.seed)
    weights = class_weights(count_labels(store, config.network.classes), config.class_weight_power)
    loss = SupervisedLoss(weights, config.label_smoothing, INDOOR12_TO_STRUCT4[: len(INDOOR12)], config.structure_weight)
    student = seeded_student(config.network, config.engine.seed, config.drop_path)
    recipe = {"method": "supervised by simulated truth", **config.model_dump(mode="json")}
    if start is not None:
        recipe["start"] = _go_on_from(start, student)
    card = ModelCard(
        name=out.name,
        geometry=config.geometry,
        intensity=config.intensity,
        labels=INDOOR12,
        network=config.network,
        recipe=recipe,
        sources=[f"{len(store)} scans of simulated buildings, xkd_ros.worlds.stream split train"],
        licence="Apache-2.0; trained on simulated data only",
    )
    validation = None
    if fabric.is_global_zero:
        scans = load_labelled_bag(*real) if real else ()
        validation = Validation(card, ScanStore(shards["shifted"]), scans, threads)
        console.print(f"training {count_parameters(student):,} weights on {len(store)} scans, {fabric.world_size} process(es)")

    def evaluate(model: Student, step: int) -> dict[str, Any]:
        assert validation is not None
        facts = validation.quick(model)
        save_student(model, card.model_copy(update={"metrics": {"step": step, **facts}}), work / "candidate")
        console.print(f"step {step}: " + ", ".join(f"{name} {value}" for name, value in facts.items()))
        return facts

    with make_progress() as display:
        task = display.add_task("training", total=config.engine.steps, note="", visible=fabric.is_global_zero)
        progress = show_training(display, task, "scans")
        averaged = fit(student, loss, samples, collate_labelled, config.engine, work, fabric, evaluate, progress)
    if validation is not None:
        save_student(averaged, validation.complete(averaged, card), out)
        console.print(str(export_onnx(out)))
        card = load_card(out)
        write_model_page(card, out, _COMMAND.format(name=out.name))
    fabric.barrier()
    return card


def _go_on_from(start: Path, student: Student) -> dict[str, Any]:
    """Take the weights of a trained student; return what its card says about them."""
    trained, card = load_student(start)
    if trained.network != student.network:
        raise ConfigError(f"{start} holds a network of {trained.network}; the configuration asks for {student.network}")
    student.load_state_dict(trained.state_dict())
    return {"name": card.name, "card": card.hash, "recipe": card.recipe}


def _render(data: DataConfig, work: Path) -> dict[str, list[Path]]:
    """Render what is missing; shards of each split."""
    shards = {}
    for split, count in (("shifted", data.shifted_scans), ("train", data.scans)):
        with make_progress() as display:
            task = display.add_task(f"rendering {split} scans", total=count, note="", visible=False)
            job, progress = ShardJob(split, 0, count, data.scans_per_building), show_count(display, task)
            shards[split] = write_shards(work / split, job, _SHARD_SCANS, write_scan_shard, os.cpu_count() or 1, progress)
    return shards
