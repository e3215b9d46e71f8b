"""Tiny stored frames in memory: box rooms seen by two rigs, with teacher features and labels that tell floor, ceiling and walls."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from xkd_ros.core.card import GeometryConfig, IntensityConfig
from xkd_ros.core.se3 import rotation_from_rpy
from xkd_ros.distill.partdistill.units import FrameUnits, Origin, Unit
from xkd_ros.distill.student_input import StudentConfig

FEATURES = 6
GEOMETRY = GeometryConfig(fov_min_m=(-6, -6, -3), fov_max_m=(6, 6, 4))
STUDENT = StudentConfig(geometry=GEOMETRY)
RIGS = {"bright": IntensityConfig(high=255, mean=100, std=40), "dim": IntensityConfig(high=1, mean=0.4, std=0.2)}
TILT = rotation_from_rpy(0.2, 0.1, 0.0)


def surface(points_m: np.ndarray) -> np.ndarray:
    """0 floor, 1 ceiling, 2 wall of levelled points."""
    return np.where(points_m[:, 2] < -0.99, 0, np.where(points_m[:, 2] > 1.49, 1, 2)).astype(np.uint8)


def room(seed: int, count: int = 900) -> np.ndarray:
    """(N, 3) float32 levelled points on the six sides of a box."""
    rng = np.random.default_rng(seed)
    half = rng.uniform(2.0, 3.5, 2)
    points = np.column_stack([rng.uniform(-half[0], half[0], count), rng.uniform(-half[1], half[1], count), rng.uniform(-1, 1.5, count)])
    side = rng.integers(0, 4, count)
    points[side == 0, 2] = -1.0
    points[side == 1, 2] = 1.5
    points[side == 2, 0] = half[0] * rng.choice([-1, 1], (side == 2).sum())
    points[side == 3, 1] = half[1] * rng.choice([-1, 1], (side == 3).sum())
    return points.astype(np.float32)


class Rooms:
    """A frame store: odd frames are of the rig "dim", which stands tilted; frame 3 sees nothing; frames from 8 on are validation."""

    manifest = SimpleNamespace(intensity=RIGS)

    def __init__(self, count: int = 10, points: int = 900) -> None:
        self.count, self.points = count, points

    def numbers(self, split: str | None = None) -> np.ndarray:
        every = np.arange(self.count)
        return {None: every, "train": every[:8], "val": every[8:]}[split]

    def scan(self, number: int) -> Any:
        dim = bool(number % 2)
        levelled = room(number, 9 if number == 3 else self.points)
        rotation = TILT if dim else np.eye(3)
        rng = np.random.default_rng((number, 1))
        return SimpleNamespace(
            number=number,
            rig="dim" if dim else "bright",
            points_m=(levelled @ rotation).astype(np.float32),
            intensity=(rng.random(len(levelled)) * (1 if dim else 255)).astype(np.float32),
            levelled_from_lidar=rotation,
            world_from_lidar=None,
            source="walk",
            split="train" if number < 8 else "val",
            stamp_ns=number * 10**8,
        )


class Targets:
    """Two cameras, front and back; the features of a point are its surface as a long vector."""

    def __init__(self, frames: Rooms) -> None:
        self.frames = frames

    def __getitem__(self, number: int) -> list[Any]:
        frame = self.frames.scan(number)
        levelled = frame.points_m @ frame.levelled_from_lidar.T
        directions = np.random.default_rng(7).normal(size=(3, FEATURES))
        views = []
        for view, sign in enumerate((1, -1)):
            point = np.flatnonzero(sign * levelled[:, 0] > np.abs(levelled[:, 1])).astype(np.int32)
            features = (5 * directions[surface(levelled[point])]).astype(np.float16)
            views.append(SimpleNamespace(view=view, point=point, features=features, edge=point % 11 == 0))
        return views


class Labels:
    """True surfaces where the front camera looks, 255 elsewhere; every tenth is wrong and has little confidence."""

    def __init__(self, frames: Rooms) -> None:
        self.frames = frames

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        frame = self.frames.scan(number)
        levelled = frame.points_m @ frame.levelled_from_lidar.T
        labels = surface(levelled)
        confidence = np.ones(len(labels), np.float32)
        labels[::10], confidence[::10] = (labels[::10] + 1) % 3, 0.1
        labels[levelled[:, 0] < 0] = 255
        return labels, confidence


class Surfaces:
    """Units of each frame: floor, ceiling and four walls, cut at x = 0; every fourth unit of a frame claims a wrong surface."""

    def __init__(self, frames: Rooms, cut: int = 8) -> None:
        self.frames, self.cut = frames, cut

    def __getitem__(self, number: int) -> FrameUnits:
        frame = self.frames.scan(number)
        levelled = frame.points_m @ frame.levelled_from_lidar.T
        found, slices = surface(levelled), np.floor(self.cut * np.arctan2(levelled[:, 1], levelled[:, 0]) / np.pi / 2).astype(int)
        units = []
        for claimed in range(3):
            for place in np.unique(slices):
                point = np.flatnonzero((found == claimed) & (slices == place))
                wrong = self.false(number, len(units))
                confidence = np.random.default_rng((number, len(units))).uniform(0.5, 1, len(point))
                label = (claimed + 1 + number % 2) % 3 if wrong else claimed
                units.append(Unit(label, float(confidence.mean()) if len(point) else 0.5, Origin(int(wrong)), 0, point, confidence))
        return FrameUnits.of(units)

    @staticmethod
    def false(number: int, unit: int) -> bool:
        """Whether a unit claims a wrong surface."""
        return (number + unit) % 4 == 0
