"""Train the 2D teacher: buildings → pictures → training → scores → teacher folder.

One command remakes the teacher that comes with the package; every stage skips what is done, and training continues after an
interruption.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from xkd_ros.core.files import write_atomic
from xkd_ros.core.labels import INDOOR12
from xkd_ros.distill.picture_augment import PictureAugmentConfig
from xkd_ros.distill.supervised import class_weights
from xkd_ros.distill.teach2d import PictureCollate, PictureLoss, PictureSamples, count_pixels, score_pictures
from xkd_ros.nets.image_checkpoint import ImageTeacherCard, save_image_teacher
from xkd_ros.nets.image_input import ImageInputConfig
from xkd_ros.nets.image_student import ImageNetworkConfig, ImageStudent, seeded_image_student
from xkd_ros.nets.student import count_parameters
from xkd_ros.pipeline.progress import console, make_progress, show_count, show_training
from xkd_ros.pipeline.run_folder import claim_folder
from xkd_ros.train.config import EngineConfig
from xkd_ros.train.engine import fit, make_fabric
from xkd_ros.train.optimizer import ParameterGroup, split_by_shape
from xkd_ros.worlds.picture_shards import PictureStore, write_picture_shard
from xkd_ros.worlds.picture_stream import PICTURES_PER_BUILDING, VALIDATION_SEED
from xkd_ros.worlds.shards import ShardJob, write_shards

FAMILY, TARGET_FAMILY = "teach2d", "train"
_SHARD_PICTURES = 60
_VALIDATION_PER_BUILDING = 3
_STARTS = {
    "nothing": "",
    "imagenet": ", but for the encoder's first weights: EfficientNet-Lite0 as published (Apache-2.0), from ImageNet's classes",
}
_SETS = {"val": "held-out pictures of its own texture family", "target": "pictures of the buildings that students train in"}


class PictureDataConfig(BaseModel):
    """Which rendered pictures."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pictures: int = Field(3000, ge=4, description="training pictures to render")
    pictures_per_building: int = Field(PICTURES_PER_BUILDING, ge=1)
    val_pictures: int = Field(150, ge=3, description="of other buildings in the same textures")
    target_pictures: int = Field(150, ge=3, description="of the buildings and textures that students train in; never learnt from")


class Teach2dConfig(BaseModel):
    """Everything that `xkd teach2d` needs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: ImageNetworkConfig = ImageNetworkConfig()
    input: ImageInputConfig = ImageInputConfig()
    data: PictureDataConfig = PictureDataConfig()
    augmentation: PictureAugmentConfig = PictureAugmentConfig()
    start: Literal["nothing", "imagenet"] = Field("nothing", description="imagenet: published weights in the encoder, if it has some")
    encoder_rate: float = Field(
        1.0, gt=0, le=1, description="learning rate of the encoder against the rest; lower where it starts from weights"
    )
    engine: EngineConfig = EngineConfig(steps=8000, batch=8, lr=2e-3, warmup_steps=300, weight_decay=0.02)
    points_per_picture: int = Field(4096, ge=64, description="random places of each picture that enter the loss")
    class_weight_power: float = Field(0.25, ge=0, le=1)
    label_smoothing: float = Field(0.02, ge=0, lt=1)


def teach2d(config: Teach2dConfig, work: Path, out: Path, processes: int | None = None) -> ImageTeacherCard:
    """Render, train, score, write the teacher folder.

    Args:
        config: Sizes, data, schedule.
        work: Pictures, checkpoint and log; reused when the command is given again.
        out: Teacher folder; its last part is the teacher's name.
        processes: Rendering processes; default all cores.
    Returns:
        The card that was written.
    Raises:
        ConfigError: `work` was begun with another configuration.
    """
    fabric = make_fabric(config.engine.precision)
    fabric.launch()
    if fabric.is_global_zero:
        claim_folder(work, config)
        _render(config.data, work, processes or os.cpu_count() or 1)
    fabric.barrier()
    pictures = {name: PictureStore(paths) for name, paths in _render(config.data, work, 1).items()}
    train, classes = pictures.pop("train"), config.network.classes
    samples = PictureSamples(train, config.augmentation, config.points_per_picture, config.engine.seed)
    loss = PictureLoss(class_weights(count_pixels(train, classes), config.class_weight_power), config.label_smoothing)
    network = seeded_image_student(config.network, config.engine.seed)
    if config.start == "imagenet":
        network.start_from_imagenet()
    card = _make_card(config, out.name, len(train))
    if fabric.is_global_zero:
        console.print(f"training {count_parameters(network):,} weights on {len(train)} pictures, {fabric.world_size} process(es)")

    def evaluate(model: ImageStudent, step: int) -> dict[str, float]:
        figures = {name: score_pictures(model, store, config.input, classes) for name, store in pictures.items()}
        facts = {f"{name}_miou": round(100 * score.confusion.miou, 1) for name, score in figures.items()}
        save_image_teacher(model, card.model_copy(update={"metrics": {"step": step, **facts}}), work / "candidate")
        console.print(f"step {step}: " + ", ".join(f"{name} {value}" for name, value in facts.items()))
        return facts

    with make_progress() as display:
        task = display.add_task("teaching", total=config.engine.steps, note="", visible=fabric.is_global_zero)
        progress = show_training(display, task, "pictures")
        collate = PictureCollate(config.input)
        averaged = fit(network, loss, samples, collate, config.engine, work, fabric, evaluate, progress, _groups(network, config))
    if fabric.is_global_zero:
        card = _score(averaged, card, pictures)
        card = save_image_teacher(averaged, card, out)
        page = _page(card, fabric.world_size)
        write_atomic(out / "README.md", page)
        console.print(page, markup=False, highlight=False, soft_wrap=True)
    fabric.barrier()
    return card


def _groups(network: ImageStudent, config: Teach2dConfig) -> list[ParameterGroup]:
    encoder = {id(weight) for weight in network.encoder.parameters()}
    rest = [weight for weight in network.parameters() if id(weight) not in encoder]
    decayed = config.engine.decay_vectors
    return [*split_by_shape(network.encoder.parameters(), decayed, config.encoder_rate), *split_by_shape(rest, decayed)]


def _make_card(config: Teach2dConfig, name: str, pictures: int) -> ImageTeacherCard:
    return ImageTeacherCard(
        name=name,
        labels=INDOOR12,
        network=config.network,
        input=config.input,
        family=FAMILY,
        truth=f"The simulator's true labels of {pictures} rendered pictures, texture family {FAMILY}, which no building of "
        f"the students shows. No real picture and no manual label{_STARTS[config.start]}.",
        recipe={"method": "supervised by simulated truth", **config.model_dump(mode="json")},
        licence="Apache-2.0; trained on simulated data only",
    )


def _score(network: ImageStudent, card: ImageTeacherCard, pictures: dict[str, PictureStore]) -> ImageTeacherCard:
    """Fit the temperature on the held-out pictures and score everything with it."""
    network.eval()
    classes = card.network.classes
    temperature = round(score_pictures(network, pictures["val"], card.input, classes).temperature, 3)
    scores = {name: score_pictures(network, store, card.input, classes, temperature) for name, store in pictures.items()}
    metrics: dict[str, Any] = {
        name: {"pictures": len(pictures[name]), **score.summary(card.labels.names)} for name, score in scores.items()
    }
    return card.model_copy(update={"temperature": temperature, "metrics": metrics})


def _page(card: ImageTeacherCard, processes: int) -> str:
    """Write the README of the teacher folder from its card, so that no figure is typed by hand."""
    names = card.labels.names
    program, threads = "xkd", ""
    if processes > 1:
        program, threads = f"torchrun --standalone --nproc-per-node={processes} -m xkd_ros.cli", " --threads 1"
    lines = [
        f"# {card.name}",
        "",
        f"A 2D segmentation network for `xkd` as teacher: {', '.join(names)}; {card.network.feature_width} features. {card.licence}.",
        "",
        f"Learnt from: {card.truth}",
        "",
        "```bash",
        f"{program} teach2d config/train/teach2d.yaml --work runs/{card.name} -o models/teachers/{card.name}{threads}",
        "```",
        "",
        "IoU in percent over pixels, printed by the command above at its end (`teacher.json` holds the same figures):",
        "",
        f"| pictures | mIoU | accuracy | ECE | {' | '.join(names)} |",
        "|---" * (len(names) + 4) + "|",
    ]
    for name, title in _SETS.items():
        row = card.metrics[name]
        cells = [row["miou"], row["oacc"], row["ece"], *(row["iou"][each] for each in names)]
        lines.append(f"| {row['pictures']} {title} | {' | '.join('-' if value is None else f'{value:.1f}' for value in cells)} |")
    return "\n".join(lines) + "\n"


def _render(data: PictureDataConfig, work: Path, processes: int) -> dict[str, list[Path]]:
    """Render what is missing; shards of each set."""
    few = _VALIDATION_PER_BUILDING
    jobs = {
        "val": (VALIDATION_SEED, data.val_pictures, FAMILY, few),
        "target": (0, data.target_pictures, TARGET_FAMILY, few),
        "train": (0, data.pictures, FAMILY, data.pictures_per_building),
    }
    shards = {}
    with make_progress() as display:
        for name, (first, count, family, per_building) in jobs.items():
            task = display.add_task(f"rendering {name} pictures", total=count, note="", visible=False)
            job, progress = ShardJob(family, first, count, per_building), show_count(display, task)
            shards[name] = write_shards(work / name, job, _SHARD_PICTURES, write_picture_shard, processes, progress)
    return shards
