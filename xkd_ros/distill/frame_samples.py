"""Stored frames and their image targets → training items of distillation: a scan, and what the teacher said at some of its points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from xkd_ros.core.card import IntensityConfig
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.types import NetInput
from xkd_ros.distill.passes import ShuffledPasses, first_usable
from xkd_ros.distill.picture_pairs import PicturePairs, PictureTargets, collate_pairs
from xkd_ros.distill.student_input import StoredFrame, StudentInput
from xkd_ros.nets.batch import Batch, collate

_LACKING = "too few points, or none that a picture shows"


class FrameManifest(Protocol):
    """What training needs of the manifest of a frame store."""

    @property
    def intensity(self) -> dict[str, IntensityConfig]:
        """Statistics of each rig."""


class RecordedFrame(StoredFrame, Protocol):
    """A stored frame and where it comes from."""

    @property
    def number(self) -> int:
        """Its place in the store."""

    @property
    def world_from_lidar(self) -> np.ndarray | None:
        """(4, 4) float64, None without odometry."""

    @property
    def source(self) -> str:
        """Name of the recording."""

    @property
    def split(self) -> str:
        """What it is for: "train", "val" or "test"."""

    @property
    def stamp_ns(self) -> int:
        """When it was recorded."""


class Frames(Protocol):
    """What training needs of a `bags.frame_store.FrameStore`."""

    @property
    def manifest(self) -> FrameManifest:
        """What is in the store."""

    def scan(self, number: int) -> RecordedFrame:
        """Read a frame without its pictures."""

    def numbers(self, split: str | None = None) -> np.ndarray:
        """Frame numbers of a split."""


class Targets(Protocol):
    """Frame number → targets of each of its pictures."""

    def __getitem__(self, number: int) -> Sequence[PictureTargets]: ...


class PairConfig(BaseModel):
    """Which points of a frame teach, and which of the others the student sees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    student_input: Literal["frustum", "scan"] = Field(
        "scan", description="frustum: only what the chosen camera sees, as in the papers; scan: all 360 degrees, as on the robot"
    )
    views: Literal["one", "all"] = Field("one", description="one: a random camera of the frame each time")
    skip_edges: bool = Field(True, description="leave out points near a jump in depth, where a pixel may belong to what is behind")
    max_pairs: int | None = Field(None, ge=16, description="of a scan, drawn at random; bounds the cost of the head")


@dataclass(frozen=True, eq=False)
class DistilItem:
    """One scan of N points: `paired` (P,) int64 into N, and the teacher's `features` (P, D) there."""

    scan: NetInput
    paired: np.ndarray
    features: np.ndarray


@dataclass(frozen=True, eq=False)
class DistilBatch:
    """A batch of T points: `paired` (P,) int64 into T, `features` (P, D)."""

    batch: Batch
    paired: Tensor
    features: Tensor

    def to(self, device: torch.device | str) -> DistilBatch:
        """Copy to a device."""
        paired, features = (tensor.to(device, non_blocking=True) for tensor in (self.paired, self.features))
        return DistilBatch(self.batch.to(device), paired, features)


class DistilSamples:
    """Number → item; the number alone decides frame, camera and augmentation. Frames that teach nothing give way to the next."""

    def __init__(
        self, frames: Frames, targets: Targets, numbers: np.ndarray, student_input: StudentInput, config: PairConfig, seed: int
    ) -> None:
        """Configure.

        Args:
            frames: Frame store.
            targets: Target store of these frames, or live targets.
            numbers: (F,) frames to learn from.
            student_input: Augmentation and preprocessing.
            config: Which points teach.
            seed: Of order, cameras and augmentation.
        Raises:
            ConfigError: no frames.
        """
        if not len(numbers):
            raise ConfigError("no training frames: the frame store's train split is empty; record more or change the split")
        self._frames, self._targets, self._numbers = frames, targets, numbers
        self._input, self._config, self._seed = student_input, config, seed
        self._order = ShuffledPasses(len(numbers), seed)

    def __call__(self, number: int) -> DistilItem:
        """Make item `number`.

        Raises:
            ConfigError: hundreds of frames in a row teach nothing, or the targets hold no features.
        """
        return first_usable(self._make, number, _LACKING)

    def _make(self, number: int) -> DistilItem | None:
        rng = np.random.default_rng((self._seed, number))
        index = int(self._numbers[self._order(number)])
        pictures = [picture for picture in self._targets[index] if len(picture.point)]
        if not pictures:
            return None
        if self._config.views == "one":
            pictures = [pictures[rng.integers(len(pictures))]]
        pairs = PicturePairs(pictures, self._config.skip_edges)
        frame = self._frames.scan(index)
        paired = pairs.mask(len(frame.points_m))
        shown = None
        if self._config.student_input == "frustum":
            shown = np.unique(np.concatenate([picture.point for picture in pictures])).astype(np.int64)
        if not len(pairs) or len(paired if shown is None else shown) < self._input.least_points:
            return None
        scan, raw = self._input(frame, rng, shown, paired)
        if len(scan) < self._input.least_points:
            return None
        place, features = pairs.of(raw, len(paired), self._config.max_pairs, rng)
        return DistilItem(scan, place, features) if len(place) else None


def collate_distil(items: Sequence[DistilItem]) -> DistilBatch:
    """Lay scans and pairs end to end."""
    return DistilBatch(collate([item.scan for item in items]), *collate_pairs(items))
