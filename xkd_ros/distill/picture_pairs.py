"""Which points of a frame its pictures teach about, and what the image teacher says there; next: samples of the methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.types import NetInput
from xkd_ros.points.places import places


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


class PicturePairs:
    """Points of a frame that its pictures teach about: one pair for each picture that sees the point."""

    def __init__(self, pictures: Sequence[PictureTargets], skip_edges: bool) -> None:
        """Choose.

        Args:
            pictures: Targets of one frame.
            skip_edges: Leave out points near a jump in depth.
        """
        self._pictures = pictures
        self._rows = [np.flatnonzero(~picture.edge) if skip_edges else np.arange(len(picture.point)) for picture in pictures]
        points = [picture.point[rows].astype(np.int64) for picture, rows in zip(pictures, self._rows)]
        self._point = np.concatenate([np.zeros(0, np.int64), *points])

    def __len__(self) -> int:
        return len(self._point)

    def mask(self, count: int) -> np.ndarray:
        """Mark the paired ones of the frame's points: (count,) bool."""
        mask = np.zeros(count, bool)
        mask[self._point] = True
        return mask

    def of(self, raw: np.ndarray, count: int, most: int | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Find the pairs of the points that the student sees.

        Args:
            raw: (n,) the frame's point behind each of them.
            count: Points of the frame.
            most: Pairs, drawn at random where there are more; None takes all.
            rng: For the draw.
        Returns:
            place (P,) int64 into n, and features (P, D); (0, 0) without any.
        Raises:
            ConfigError: the targets hold no features.
        """
        return self.at(places(raw, count), most, rng)

    def at(self, place: np.ndarray, most: int | None = None, rng: np.random.Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Find the pairs by the point of the student that stands for each point of the frame.

        Args:
            place: (N,) int64 into the student's points, -1 for none.
            most, rng: As for `of`; None takes all.
        Returns, Raises:
            As `of`.
        """
        seen = np.flatnonzero(place[self._point] >= 0)
        if most and rng is not None and len(seen) > most:
            seen = np.sort(rng.permutation(seen)[:most])
        if not len(seen):
            return np.zeros(0, np.int64), np.zeros((0, 0), np.float16)
        # Thousands of wide rows are copied once, and only those that teach.
        starts = np.cumsum([0, *map(len, self._rows)])
        parts = np.split(seen, np.searchsorted(seen, starts[1:-1]))
        features = [
            features_of(picture)[rows[part - start]] for picture, rows, part, start in zip(self._pictures, self._rows, parts, starts)
        ]
        return place[self._point[seen]], np.concatenate(features)


def features_of(picture: PictureTargets) -> np.ndarray:
    """Return (V, D) features.

    Raises:
        ConfigError: the targets hold none.
    """
    if picture.features is None:
        raise ConfigError("the targets hold no features to distil; make them with a feature teacher such as facebook/dinov2-small")
    return picture.features


class PairedItem(Protocol):
    """A scan and the pairs of its points."""

    @property
    def scan(self) -> NetInput:
        """Of N points."""

    @property
    def paired(self) -> np.ndarray:
        """(P,) int64 into N."""

    @property
    def features(self) -> np.ndarray:
        """(P, D)."""


def collate_pairs(items: Sequence[PairedItem]) -> tuple[Tensor, Tensor]:
    """Lay pairs end to end: (P,) int64 into the points of all scans, and (P, D) features."""
    offsets = np.concatenate([[0], np.cumsum([len(item.scan) for item in items])])
    paired = np.concatenate([item.paired + start for item, start in zip(items, offsets)])
    return torch.from_numpy(paired), torch.from_numpy(np.concatenate([item.features for item in items]))
