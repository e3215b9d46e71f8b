"""How large a study is: buildings, network, steps. Two sizes come with the package; cells follow from these numbers alone."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.core.card import GeometryConfig, NetworkConfig
from xkd_ros.distill.pseudo_config import PseudoConfig
from xkd_ros.distill.recipe import DistilConfig, FinetuneConfig, ProbeConfig, WholeStudentConfig
from xkd_ros.distill.student_input import StudentConfig
from xkd_ros.teacher.config import TargetConfig
from xkd_ros.worlds.walkthrough import SCAN_PERIOD_S, split_of

MethodT = TypeVar("MethodT", bound=WholeStudentConfig)

RIGS: dict[str, tuple[str, ...]] = {
    "ouster16": ("ouster16",),
    "vlp32": ("vlp32",),
    "xt32_handheld": ("xt32_handheld",),
    "dual_ouster16": ("dual_ouster16_horizontal", "dual_ouster16_vertical"),
}
"""Rig of the benchmark → simulated rigs, one per lidar."""


class Scale(BaseModel):
    """Sizes of all studies; part of the key of every cell and artefact.

    Raises:
        ValueError: a building that is not of the split it is used for; test buildings are for releases, never for studies.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9]*$")
    network: NetworkConfig
    max_points: int = Field(ge=64, description="voxels of a scan in training")
    train_buildings: tuple[int, ...]
    val_buildings: tuple[int, ...]
    train_frames: int = Field(ge=2, description="of each building and rig")
    val_frames: int = Field(ge=2, description="of each building and rig")
    every: int = Field(ge=1, description="each n-th scan of a walk is a frame, so that few frames show much of a building")
    seeds: int = Field(ge=1, description="repetitions: weights, order and augmentation; bars need five")
    batch: int = Field(ge=1)
    distil_steps: int = Field(ge=1, description="on the frames of one rig; in proportion on those of several")
    probe_steps: int = Field(ge=1)
    finetune_steps: int = Field(ge=1)
    depths: tuple[int, ...] = (12, 24, 36, 48)
    depth_steps: int = Field(ge=1, description="of distillation and of fine-tuning in the study of depth")
    depth_seeds: int = Field(ge=1)
    head_hidden: int = Field(ge=1)
    max_pairs: int = Field(ge=16, description="of a scan in distillation")
    max_points_per_view: int | None = Field(None, description="points of a training picture that the teacher is asked about")

    @model_validator(mode="after")
    def _splits(self) -> Scale:
        for split, buildings in (("train", self.train_buildings), ("val", self.val_buildings)):
            strangers = [seed for seed in buildings if split_of(seed) != split]
            if strangers or not buildings or len(set(buildings)) != len(buildings):
                raise ValueError(f"{split} buildings are {strangers or buildings}; they must be of that split, at least one, each once")
        return self

    def content(self) -> dict[str, Any]:
        """Return what decides the result of a cell; how many cells there are does not."""
        return self.model_dump(mode="json", exclude={"name", "seeds", "depths", "depth_seeds"})

    def pilot(self, steps: int) -> Scale:
        """Return the scale of a trial of so many steps of fine-tuning with one seed; what cells share is that of this scale."""
        return self.model_copy(update={"name": f"{self.name}{steps}", "finetune_steps": steps, "seeds": 1, "depth_seeds": 1})

    @property
    def geometry(self) -> GeometryConfig:
        """Voxels and cells of every student."""
        return GeometryConfig(align_heading=True)

    @property
    def student(self) -> StudentConfig:
        """How every student reads scans."""
        return StudentConfig(geometry=self.geometry)

    def walk_s(self, frames: int) -> float:
        """Length of a walk that gives so many frames."""
        return frames * self.every * SCAN_PERIOD_S

    def frame_config(self, part: str) -> FrameConfig:
        """Frames to learn from, a tenth of whose buildings are kept for the temperature; or frames to evaluate on, not split at all."""
        shares = (0.9, 0.1, 0.0) if part == "train" else (1.0, 0.0, 0.0)
        return FrameConfig(split="bag", shares=shares)

    def target_config(self, part: str) -> TargetConfig:
        """Points that the teacher is asked about; for evaluation all that it sees."""
        return TargetConfig(max_points_per_view=self.max_points_per_view if part == "train" else None)

    def pseudo_config(self) -> PseudoConfig:
        """Filters of the labels; frames are seconds apart, so that fewer of them are of one place."""
        # Odometry of simulated walks is off by a voxel after some metres.
        return PseudoConfig(radius_frames=5, reach_frames=8, min_observations=2)

    def distil(self, seed: int, rigs: int = 1, steps: int | None = None) -> DistilConfig:
        """Distillation on the frames of `rigs` rigs: equal passes over the frames, as published."""
        return DistilConfig.model_validate(
            {
                **self._stage(seed, (steps or self.distil_steps) * rigs),
                "head_hidden": self.head_hidden,
                "drop_path": 0.0,
                "lr": 1.5e-3,
                "pairs": {"max_pairs": self.max_pairs},
            }
        )

    def probe(self, seed: int) -> ProbeConfig:
        """Linear probing."""
        return ProbeConfig.model_validate({**self._stage(seed, self.probe_steps), **_LABELS})

    def finetune(
        self, seed: int, steps: int | None = None, label_share: float = 1.0, pretrained: bool = True, passes: float | None = None
    ) -> FinetuneConfig:
        """Fine-tuning; without pretraining there is nothing in the lower layers that a lower rate would keep.

        Args:
            seed: Of weights, order and augmentation.
            steps: None takes the scale's.
            label_share: Of the training frames.
            pretrained: The backbone has learnt something.
            passes: Over these frames, instead of steps.
        """
        stage = {**self._stage(seed, steps or self.finetune_steps), "drop_path": 0.0, "lr": 1.5e-3, "label_share": label_share}
        if passes is not None:
            stage |= {"steps": None, "epochs": passes}
        return FinetuneConfig.model_validate({**stage, **_LABELS, **({} if pretrained else {"layer_decay": 1.0})})

    def method(self, kind: type[MethodT], seed: int, **changes: Any) -> MethodT:
        """Train the whole student by another method, for as many steps as fine-tuning takes.

        Args:
            kind: Configuration class of the method.
            seed: Of weights, order and augmentation.
            changes: Fields that are not the method's own defaults.
        """
        return kind.model_validate({**self.finetune(seed).model_dump(include=_COMMON), **changes})

    def _stage(self, seed: int, steps: int) -> dict[str, Any]:
        return {
            "recipe": "indoor",
            "steps": steps,
            "batch": self.batch,
            "seed": seed,
            "tensorboard": False,
            "input": {"max_points": self.max_points},
        }


_LABELS = {"class_weight_power": 0.25, "label_smoothing": 0.02}
_COMMON = {"recipe", "steps", "batch", "seed", "tensorboard", "input", "drop_path", "lr", *_LABELS}

SMALL = Scale(
    name="small",
    network=NetworkConfig(depth=12, width=48),
    max_points=2000,
    train_buildings=tuple(range(60)),
    val_buildings=tuple(range(60, 75)),
    train_frames=16,
    val_frames=20,
    every=8,
    seeds=5,
    batch=4,
    distil_steps=2500,
    probe_steps=1000,
    finetune_steps=2500,
    depth_steps=750,
    depth_seeds=3,
    head_hidden=256,
    max_pairs=2000,
    max_points_per_view=4000,
)
"""For 2 CPU cores: cells of ten thousand scans; fewer in probing, and where 48 layers would take hours."""

FULL = Scale(
    name="full",
    network=NetworkConfig(depth=24, width=256),
    max_points=20_000,
    train_buildings=tuple(range(60)),
    val_buildings=tuple(range(60, 75)),
    train_frames=40,
    val_frames=40,
    every=8,
    seeds=5,
    batch=8,
    distil_steps=1500,
    probe_steps=500,
    finetune_steps=1500,
    depth_steps=1500,
    depth_seeds=3,
    head_hidden=1024,
    max_pairs=4000,
    max_points_per_view=6000,
)
"""For one GPU."""
