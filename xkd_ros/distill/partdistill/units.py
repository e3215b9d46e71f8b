"""Knowledge units: sets of points of one frame of which an image teacher claims one class; next: `unit_store`, `unit_samples`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Protocol

import numpy as np

from xkd_ros.core.errors import ShapeError


class Origin(IntEnum):
    """What kind of teacher a unit comes from."""

    PIXELS = 0
    BOX = 1


@dataclass(frozen=True, eq=False)
class FrameUnits:
    """U units of a frame with P members in all; a point may be a member of several, or of none.

    The M_d and Y_d of the paper, sparse: unit d is the points `point[start[d]:start[d + 1]]`.

    Attributes:
        label: (U,) uint8 claimed class, argmax of Y_d.
        score: (U,) float32, 0 to 1: of the box, or the mean confidence of the pixels.
        origin: (U,) uint8 of `Origin`.
        view: (U,) uint8 place of the picture in the frame.
        start: (U + 1,) int64.
        point: (P,) int32 into the frame's points.
        confidence: (P,) float32, C_d[n] of the paper.

    Raises:
        ShapeError: the arrays do not fit together.
    Source: METHODS 5.1, 5.4.
    """

    label: np.ndarray
    score: np.ndarray
    origin: np.ndarray
    view: np.ndarray
    start: np.ndarray
    point: np.ndarray
    confidence: np.ndarray

    def __post_init__(self) -> None:
        units, members = {len(self.score), len(self.origin), len(self.view), len(self.start) - 1}, len(self.point)
        if units != {len(self.label)} or len(self.confidence) != members:
            shapes = ", ".join(f"{field.name} {getattr(self, field.name).shape}" for field in fields(self))
            raise ShapeError(f"arrays of units do not fit together: {shapes}")
        if self.start[0] != 0 or self.start[-1] != members or (np.diff(self.start) < 0).any():
            raise ShapeError(f"the starts of {len(self)} units do not divide {members} members")

    def __len__(self) -> int:
        return len(self.label)

    @property
    def sizes(self) -> np.ndarray:
        """(U,) int64 members of each unit."""
        return np.diff(self.start)

    @property
    def unit(self) -> np.ndarray:
        """(P,) int64 unit of each member."""
        return np.repeat(np.arange(len(self)), self.sizes)

    @classmethod
    def of(cls, units: Sequence[Unit]) -> FrameUnits:
        """Lay single units end to end."""
        return cls(
            label=np.array([unit.label for unit in units], np.uint8),
            score=np.array([unit.score for unit in units], np.float32),
            origin=np.array([unit.origin for unit in units], np.uint8),
            view=np.array([unit.view for unit in units], np.uint8),
            start=np.cumsum([0, *(len(unit.point) for unit in units)]).astype(np.int64),
            point=np.concatenate([np.zeros(0, np.int32), *(unit.point.astype(np.int32) for unit in units)]),
            confidence=np.concatenate([np.zeros(0, np.float32), *(unit.confidence.astype(np.float32) for unit in units)]),
        )


@dataclass(frozen=True, eq=False)
class Unit:
    """One unit; attributes as in `FrameUnits`, of one row."""

    label: int
    score: float
    origin: Origin
    view: int
    point: np.ndarray
    confidence: np.ndarray


class Units(Protocol):
    """Frame number → units."""

    def __getitem__(self, number: int) -> FrameUnits: ...
