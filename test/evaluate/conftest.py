"""Frames small enough to check by hand, held in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from xkd_ros.bags.frame import Frame, View
from xkd_ros.core.camera import Camera
from xkd_ros.core.labels import INDOOR12
from xkd_ros.core.se3 import make_transform

# Optical axis along the lidar's x.
CAM_FROM_LIDAR = make_transform(np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], float), [0, 0, 0])


class MemoryFrames(dict[int, Frame]):
    """What the evaluation uses of a frame store."""

    def __init__(self, frames: list[Frame], classes: dict[str, tuple[str, ...]] | None = None) -> None:
        super().__init__({frame.number: frame for frame in frames})
        names = classes or {frame.source: INDOOR12.names for frame in frames}
        self.hash = "frames"
        self.manifest = SimpleNamespace(sources=[SimpleNamespace(name=name, truth=truth) for name, truth in names.items()])

    def scan(self, number: int) -> Frame:
        return self[number]


def make_view() -> View:
    image = np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8)
    camera = Camera(100, 80, np.array([[60, 0, 49.5], [0, 60, 39.5], [0, 0, 1]], float))
    return View("front", camera, CAM_FROM_LIDAR, 0, cv2.imencode(".png", image)[1].tobytes())


def make_frame(number: int, count: int = 400, **changes: Any) -> Frame:
    """A box of random points with random labels, ten seconds after the frame before."""
    rng = np.random.default_rng(number)
    truth = rng.integers(0, 12, count).astype(np.uint8)
    truth[::10] = 255
    facts: dict[str, Any] = {
        "number": number,
        "stamp_ns": number * 10_000_000_000,
        "source": "walk",
        "rig": "handheld",
        "split": "test",
        "points_m": rng.uniform([-8, -6, -1], [8, 6, 2], (count, 3)).astype(np.float32),
        "intensity": rng.random(count).astype(np.float32),
        "levelled_from_lidar": np.eye(3),
        "truth": truth,
        "views": (make_view(),),
    }
    return Frame(**{**facts, **changes})


@pytest.fixture
def frames() -> MemoryFrames:
    return MemoryFrames([make_frame(number, rig="cart" if number == 2 else "handheld") for number in range(3)])
