"""The model card: the one object that travels with the weights and configures everything after training.

`models/<name>/card.json` is written by training and export, read by preprocessing, runtime and nodes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from xkd_ros.core import config
from xkd_ros.core.errors import ConfigError, ModelError, XkdError
from xkd_ros.core.files import inside, sha256, write_atomic
from xkd_ros.core.labels import INDOOR12, LabelSet

CARD_NAME = "card.json"
WEIGHTS_NAME = "student.safetensors"
_MOST_CELLS = 4_000_000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GeometryConfig(_Strict):
    """How a scan becomes voxels and cells (METHODS 1.2 to 1.4, DESIGN 7)."""

    voxel_m: float = Field(0.1, gt=0.005, le=2.0)
    fov_min_m: tuple[float, float, float] = (-32.0, -32.0, -3.0)
    fov_max_m: tuple[float, float, float] = (32.0, 32.0, 5.0)
    cell_m: float = Field(0.25, gt=0.02, le=5.0)
    neighbours: int = Field(16, ge=1, le=64)
    align_heading: bool = Field(False, description="turn each scan so that its walls run along x and y")

    @model_validator(mode="after")
    def _extent(self) -> GeometryConfig:
        if any(not 0 < high - low <= 1000 for low, high in zip(self.fov_min_m, self.fov_max_m)):
            raise ValueError(f"field of view {self.fov_min_m} to {self.fov_max_m} must be 0 to 1000 m wide on each axis")
        x, y, z = self.grid_shape
        if max(x * y, x * z, y * z) > _MOST_CELLS:
            raise ValueError(f"{x} x {y} x {z} cells are too many: a plane may have {_MOST_CELLS}; make cell_m larger")
        return self

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """Number of cells along x, y and z of the whole field of view."""
        x, y, z = (max(1, round((high - low) / self.cell_m)) for low, high in zip(self.fov_min_m, self.fov_max_m))
        return x, y, z


class IntensityConfig(_Strict):
    """Clip to [low, high], optionally log1p, then standardise; with `per_scan` by each scan's own statistics instead of these.

    `per_scan` is for models that meet sensors they were not trained with: intensity has no common unit.
    """

    per_scan: bool = False
    low: float = 0.0
    high: float = 255.0
    mean: float = 0.0
    std: float = Field(1.0, gt=0)
    log1p: bool = False


class NetworkConfig(_Strict):
    """Sizes of the student."""

    depth: int = Field(24, ge=1, le=96)
    width: int = Field(64, ge=4, le=2048)
    norm: Literal["layer", "batch"] = "layer"
    activation: Literal["relu", "gelu"] = "relu"
    classes: int = Field(12, ge=1, le=254)


class ModelCard(_Strict):
    """Everything that must agree between training and the robot."""

    format: Literal[1] = 1
    name: str = Field("student", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    geometry: GeometryConfig = GeometryConfig()
    intensity: IntensityConfig = IntensityConfig()
    labels: LabelSet = INDOOR12
    network: NetworkConfig = NetworkConfig()
    temperature: float = Field(1.0, gt=0.05, le=20.0, description="divides the logits before softmax")
    files: dict[str, str] = Field(default_factory=dict, description="file name to sha256")
    recipe: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    sources: list[str] = Field(default_factory=list)
    licence: str = ""

    @model_validator(mode="after")
    def _classes(self) -> ModelCard:
        if self.network.classes != len(self.labels):
            raise ValueError(f"the network has {self.network.classes} outputs but {len(self.labels)} class names are given")
        return self

    @property
    def hash(self) -> str:
        """Identify the card's content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def usual_entropy(self) -> float | None:
        """Mean entropy of the points of the scans it was evaluated on; None where nobody measured it."""
        table = self.metrics.get("entropy")
        mean = table.get("mean") if isinstance(table, dict) else None
        return float(mean) if isinstance(mean, (int, float)) else None


def check_model_name(folder: Path) -> None:
    """Do nothing, unless a model folder has a name that no card may carry: better before the training than after it.

    Raises:
        ConfigError: says which names are possible.
    """
    try:
        ModelCard(name=folder.name)
    except ValidationError as error:
        raise ConfigError(
            f"a model cannot be called '{folder.name}': write up to 64 letters, digits, '.', '-', '_', a letter or digit first"
        ) from error


def load_card(folder: str | Path) -> ModelCard:
    """Read and check `card.json` of a model folder.

    Raises:
        ModelError: no folder, no card, one that may not be read, or a card that breaks its own rules.
    """
    folder = Path(folder)
    try:
        return _read_card(folder)
    except OSError as error:
        raise ModelError(f"model folder {folder} cannot be read: {error.strerror or error}") from error


def _read_card(folder: Path) -> ModelCard:
    if not folder.is_dir():
        raise ModelError(f"model folder {folder} does not exist; pass a folder that holds {CARD_NAME}, such as models/indoor-24x64")
    if not (folder / CARD_NAME).is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) or "nothing"
        raise ModelError(f"{folder} has no {CARD_NAME} (found: {found}); it is not a model folder")
    try:
        return config.load_yaml(folder / CARD_NAME, ModelCard)
    except ConfigError as error:
        raise ModelError(str(error)) from error


def save_card(card: ModelCard, folder: str | Path) -> None:
    """Write `card.json` atomically, readable by people."""
    write_atomic(Path(folder) / CARD_NAME, card.model_dump_json(indent=1) + "\n")


def model_file(folder: str | Path, card: ModelCard, name: str) -> Path:
    """Find a file that the card lists, and check that it is the one the card was written for.

    Raises:
        ModelError: not listed, missing, outside the folder, or with another hash.
    """
    try:
        path = inside(folder, name)
    except XkdError as error:
        raise ModelError(str(error)) from error
    if name not in card.files:
        raise ModelError(f"{folder}/{CARD_NAME} does not list {name}; export the model again")
    if not path.is_file():
        raise ModelError(f"{path} is listed in {CARD_NAME} but missing; copy the whole model folder")
    if sha256(path) != card.files[name]:
        raise ModelError(f"{path} is not the file {CARD_NAME} was written for (hash differs); export the model again")
    return path
