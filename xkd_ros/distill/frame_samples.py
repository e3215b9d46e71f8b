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
from xkd_ros.distill.student_input import StoredFrame, StudentInput
from xkd_ros.nets.batch import Batch, collate

_LACKING = "too few points, or none that a picture shows"


class FrameManifest(Protocol):
    """What training needs of the manifest of a frame store."""

    @property
    def intensity(self) -> dict[str, IntensityConfig]:
        """Statistics of each rig."""


class Frames(Protocol):
    """What training needs of a `bags.frame_store.FrameStore`."""

    @property
    def manifest(self) -> FrameManifest:
        """What is in the store."""

    def scan(self, number: int) -> StoredFrame:
        """Read a frame without its pictures."""

    def numbers(self, split: str | None = None) -> np.ndarray:
        """Frame numbers of a split."""


class PictureTargets(Protocol):
    """What distillation needs of a `teacher.targets.ViewTargets`: V points of the frame and their teacher features."""

    @property
    def point(self) -> np.ndarray:
        """(V,) index into the frame's points."""

    @property
    def features(self) -> np.ndarray | None:
        """(V, D) float16."""

    @property
    def edge(self) -> np.ndarray:
        """(V,) bool: near a jump in depth."""


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
        rows = [self._teaching_rows(picture) for picture in pictures]
        point = np.concatenate([picture.point[chosen] for picture, chosen in zip(pictures, rows)]).astype(np.int64)
        frame = self._frames.scan(index)
        paired = np.zeros(len(frame.points_m), bool)
        paired[point] = True
        shown = None
        if self._config.student_input == "frustum":
            shown = np.unique(np.concatenate([picture.point for picture in pictures])).astype(np.int64)
        if not len(point) or len(paired if shown is None else shown) < self._input.least_points:
            return None
        scan, raw = self._input(frame, rng, shown, paired)
        if len(scan) < self._input.least_points:
            return None
        place = np.full(len(paired), -1, np.int64)
        place[raw] = np.arange(len(raw))
        seen = np.flatnonzero(place[point] >= 0)
        if self._config.max_pairs and len(seen) > self._config.max_pairs:
            seen = np.sort(rng.permutation(seen)[: self._config.max_pairs])
        if not len(seen):
            return None
        # Thousands of wide rows are copied once, and only those that teach.
        parts = np.split(seen, np.searchsorted(seen, np.cumsum([len(chosen) for chosen in rows])[:-1]))
        starts = np.cumsum([0, *(len(chosen) for chosen in rows)])
        features = [_features(picture)[chosen[part - start]] for picture, chosen, part, start in zip(pictures, rows, parts, starts)]
        return DistilItem(scan, place[point[seen]], np.concatenate(features))

    def _teaching_rows(self, picture: PictureTargets) -> np.ndarray:
        return np.flatnonzero(~picture.edge) if self._config.skip_edges else np.arange(len(picture.point))


def _features(picture: PictureTargets) -> np.ndarray:
    if picture.features is None:
        raise ConfigError("the targets hold no features to distil; make them with a feature teacher such as facebook/dinov2-small")
    return picture.features


def collate_distil(items: Sequence[DistilItem]) -> DistilBatch:
    """Lay scans and pairs end to end."""
    offsets = np.concatenate([[0], np.cumsum([len(item.scan) for item in items])])
    return DistilBatch(
        collate([item.scan for item in items]),
        torch.from_numpy(np.concatenate([item.paired + start for item, start in zip(items, offsets)])),
        torch.from_numpy(np.concatenate([item.features for item in items])),
    )
