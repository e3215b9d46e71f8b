"""The recipes as numbers: `scalr` and `scalr_plus` as published (METHODS 2), and `indoor`, what we deploy (METHODS 9).

A configuration names a recipe and changes single fields: `{"recipe": "scalr_plus", "epochs": 5}`. What the papers say is in the
tables of this file alone.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from xkd_ros.core.errors import ConfigError
from xkd_ros.distill.frame_samples import PairConfig
from xkd_ros.distill.retraining.config import RetrainConfig
from xkd_ros.distill.student_input import InputConfig
from xkd_ros.train.config import EngineConfig, Precision

Recipe = Literal["scalr", "scalr_plus", "indoor"]
Table = dict[Recipe, dict[str, Any]]

# Both papers: AdamW as torch builds it, every weight decayed, no clipping, the last weights reported.
_PAPER: dict[str, Any] = {"beta2": 0.999, "decay_vectors": True, "clip_norm": None, "average_decay": 0.0, "min_lr": 1e-5}
_PAPER_PAIRS = {"student_input": "frustum", "views": "one", "skip_edges": False}
_PAPER_LABELS = {"input": {"augmentation": "paper_double"}}
_ROBUST = {"input": {"augmentation": "robust"}}
# As in the studies: walls and floors are most of a building, and labels are not always right.
_INDOOR_LABELS: dict[str, Any] = {"class_weight_power": 0.25, "label_smoothing": 0.02}
# Below this share of labelled frames fine-tuning takes the papers' row for 1 % and 10 %.
_FEW_LABELS = 0.2
_LONGEST_WARMUP = 0.25


class StageConfig(BaseModel):
    """What distillation, probing and fine-tuning have in common; an epoch is one pass over the frames."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    table: ClassVar[Table] = {"scalr": {}, "scalr_plus": {}, "indoor": {}}

    recipe: Recipe = "indoor"
    epochs: float = Field(25, gt=0)
    steps: int | None = Field(None, ge=1, description="instead of epochs")
    batch: int = Field(8, ge=1, description="scans per step over all processes")
    accumulate: int = Field(1, ge=1, description="backward passes that share a step; less memory, same step")
    lr: float = Field(2e-3, gt=0)
    min_lr: float = Field(0.0, ge=0)
    weight_decay: float = Field(0.03, ge=0)
    schedule: Literal["cosine", "inverse_sqrt_cooldown"] = "cosine"
    warmup_epochs: float = Field(1, ge=0)
    warmup_steps: int | None = Field(None, ge=0, description="instead of warmup_epochs; a quarter of a short run at most")
    decay_epochs: float = Field(0.45, gt=0, description="time constant of inverse_sqrt_cooldown")
    cooldown_epochs: float = Field(2, ge=0, description="end of inverse_sqrt_cooldown")
    beta2: float = Field(0.99, gt=0, lt=1)
    decay_vectors: bool = False
    clip_norm: float | None = Field(1.0, gt=0)
    average_decay: float = Field(0.999, ge=0, lt=1)
    drop_path: float = Field(0.0, ge=0, lt=1)
    gradient_checkpointing: bool = Field(False, description="a third more time for a small part of the memory")
    precision: Precision = Field("auto", description="auto: bf16-mixed on GPUs that have it, else 32-true")
    balance_steps: int = Field(1, ge=1, description="steps whose scans are dealt out evenly by points; 8 keeps processes from waiting")
    save_every: int = Field(100, ge=1)
    workers: int | None = Field(None, ge=0, description="data loading processes per training process; none: as many as help")
    tensorboard: bool = True
    seed: int = Field(0, ge=0)
    input: InputConfig = InputConfig()

    @model_validator(mode="before")
    @classmethod
    def _apply_recipe(cls, given: Any) -> Any:
        """Fill in what the recipe says and the caller does not."""
        if not isinstance(given, dict):
            return given
        recipe = given.get("recipe", "indoor")
        # What is no name at all, such as a list, is for the field itself to refuse.
        return _merged(cls._row(recipe, given), given) if isinstance(recipe, str) and recipe in cls.table else given

    @classmethod
    def _row(cls, recipe: Recipe, given: dict[str, Any]) -> dict[str, Any]:
        return cls.table[recipe]

    def deciding(self) -> dict[str, Any]:
        """Return what decides the result; how fast it is computed and how often it is saved does not."""
        return self.model_dump(mode="json", exclude={"workers", "save_every", "tensorboard"})

    def engine(self, frames: int, world: int) -> EngineConfig:
        """Turn epochs over `frames` frames into steps of the engine on `world` processes.

        Raises:
            ConfigError: the batch cannot be divided among processes and backward passes.
        """
        if self.batch % (world * self.accumulate):
            raise ConfigError(
                f"a batch of {self.batch} cannot be divided among {world} processes x {self.accumulate} backward passes; "
                f"choose a multiple of {world * self.accumulate}"
            )
        epoch = frames / self.batch
        steps = self.steps or max(1, round(self.epochs * epoch))
        # Steps given by hand shorten the whole schedule, not its end.
        epoch = steps / self.epochs
        warmup = self.warmup_epochs * epoch if self.warmup_steps is None else self.warmup_steps
        same = ("lr", "min_lr", "weight_decay", "schedule", "beta2", "decay_vectors", "clip_norm", "average_decay", "precision")
        same += ("accumulate", "balance_steps", "save_every", "workers", "tensorboard", "seed")  # type: ignore[assignment]
        return EngineConfig(
            steps=steps,
            batch=self.batch // (world * self.accumulate),
            warmup_steps=round(min(warmup, _LONGEST_WARMUP * steps)),
            decay_steps=max(self.decay_epochs * epoch, 1e-3),
            cooldown_steps=min(steps, round(self.cooldown_epochs * epoch)),
            **{name: getattr(self, name) for name in same},
        )


class DistilConfig(StageConfig):
    """Distillation (METHODS 2.1 to 2.4)."""

    table: ClassVar[Table] = {
        "scalr": {
            **_PAPER, "epochs": 25, "warmup_steps": 3500, "activation": "relu",
            "pairs": _PAPER_PAIRS, "input": {"augmentation": "paper"},
        },
        "scalr_plus": {
            **_PAPER, "epochs": 65, "schedule": "inverse_sqrt_cooldown", "warmup_epochs": 1, "decay_epochs": 0.45, "cooldown_epochs": 2,
            "drop_path": 0.2, "head_hidden": 2048, "activation": "gelu", "pairs": _PAPER_PAIRS, "input": {"augmentation": "paper"},
        },
        "indoor": {"drop_path": 0.1, "head_hidden": 1024, "min_lr": 1e-5, **_ROBUST},
    }  # fmt: skip

    head_hidden: int | None = Field(None, ge=1, description="width between the two layers of the head; none: a single layer")
    activation: Literal["relu", "gelu"] | None = Field(None, description="of the blocks, instead of what the network says")
    pairs: PairConfig = PairConfig()
    equal_scans: bool = Field(False, description="each scan weighs the same in the loss, not each pair")
    eps: float = Field(1e-6, gt=0, description="inside the root of the distance")


class LabelStageConfig(StageConfig):
    """What probing and fine-tuning have in common: labels with confidence."""

    label_share: float = Field(1.0, gt=0, le=1, description="share of the training frames whose labels are used")
    class_weight_power: float = Field(0.0, ge=0, le=1, description="rare classes count more: (share of points)^-power")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    group_weight: float = Field(0.0, ge=0, description="of the loss over groups of classes, where the caller gives groups")


class ProbeConfig(LabelStageConfig):
    """Linear probing (METHODS 2.5)."""

    table: ClassVar[Table] = {
        "scalr": {**_PAPER, "epochs": 20, "lr": 1e-3, "weight_decay": 3e-3, "warmup_epochs": 2, **_PAPER_LABELS},
        "scalr_plus": {**_PAPER, "epochs": 20, "lr": 1e-3, "weight_decay": 3e-3, "warmup_epochs": 2, "min_lr": 0.0, **_PAPER_LABELS},
        "indoor": {"epochs": 20, "lr": 1e-3, "weight_decay": 3e-3, "warmup_epochs": 2, **_ROBUST, **_INDOOR_LABELS},
    }


class WholeStudentConfig(LabelStageConfig):
    """What the ways to train the whole student have in common (METHODS 2.6)."""

    table: ClassVar[Table] = {
        "scalr": {
            **_PAPER, "decay_vectors": False, "epochs": 25, "lr": 2e-3, "min_lr": 0.0, "weight_decay": 0.0, "warmup_epochs": 2,
            "drop_path": 0.2, "layer_decay": 0.99, **_PAPER_LABELS,
        },
        "scalr_plus": {
            **_PAPER, "decay_vectors": False, "epochs": 25, "lr": 1e-4, "min_lr": 0.0, "weight_decay": 0.0, "warmup_epochs": 2,
            "drop_path": 0.2, "layer_decay": 0.99, **_PAPER_LABELS,
        },
        "indoor": {
            "epochs": 25, "lr": 1e-3, "weight_decay": 0.0, "warmup_epochs": 2, "drop_path": 0.1, "layer_decay": 0.99,
            **_ROBUST, **_INDOOR_LABELS,
        },
    }  # fmt: skip
    few_labels: ClassVar[Table] = {
        "scalr": {"epochs": 45, "warmup_epochs": 4, "layer_decay": 0.95},
        "scalr_plus": {"epochs": 45, "warmup_epochs": 4},
        "indoor": {"epochs": 45, "warmup_epochs": 4, "layer_decay": 0.95},
    }

    layer_decay: float = Field(1.0, gt=0, le=1, description="learning rate of a layer against the one above it")

    @classmethod
    def _row(cls, recipe: Recipe, given: dict[str, Any]) -> dict[str, Any]:
        share = given.get("label_share", 1.0)
        few = isinstance(share, (int, float)) and share < _FEW_LABELS
        return {**cls.table[recipe], **(cls.few_labels[recipe] if few else {})}


class SelfTrainingConfig(WholeStudentConfig):
    """Methods that may be followed by a second training on what their student says."""

    retrain: RetrainConfig = RetrainConfig(again=False)

    def deciding(self) -> dict[str, Any]:
        """Return what decides the result."""
        decides = super().deciding()
        if self.retrain.again is False:
            del decides["retrain"]
        return decides


class FinetuneConfig(SelfTrainingConfig):
    """Fine-tuning on labels."""

    method: Literal["labels"] = "labels"

    def deciding(self) -> dict[str, Any]:
        """Return what decides the result."""
        return {name: value for name, value in super().deciding().items() if name != "method"}


def _merged(preset: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Lay `given` over `preset`, key by key where both hold keys."""
    merged = {**preset, **given}
    for key, value in preset.items():
        inner = given.get(key)
        if isinstance(inner, BaseModel):
            inner = inner.model_dump()
        if isinstance(value, dict) and isinstance(inner, dict):
            merged[key] = _merged(value, inner)
    return merged
