"""What is seen through windows: ground, facades, trees (all without a class)."""

from __future__ import annotations

import math

import numpy as np

from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import UNLABELLED, MeshBuilder


def build_outside(b: MeshBuilder, rng: np.random.Generator, x0: float, y0: float, x1: float, y1: float) -> None:
    """Add the surroundings of a building whose outer walls span x0..x1, y0..y1.

    Args:
        b: Receives the triangles.
        rng: Source of every choice.
        x0: Outer bounds in metres.
        y0: Outer bounds.
        x1: Outer bounds.
        y1: Outer bounds.
    """
    b.frame()
    ground = -float(rng.choice([0.15, 0.5, 3.5, 7.0, 20.0], p=[0.45, 0.15, 0.2, 0.15, 0.05]))
    far = 60.0
    rim = 0.6
    for ax0, ay0, ax1, ay1 in (
        (x0 - far, y0 - far, x1 + far, y0 - rim),
        (x0 - far, y1 + rim, x1 + far, y1 + far),
        (x0 - far, y0 - rim, x0 - rim, y1 + rim),
        (x1 + rim, y0 - rim, x1 + far, y1 + rim),
    ):
        b.quad((ax0, ay0, ground), (ax1, ay0, ground), (ax1, ay1, ground), (ax0, ay1, ground), UNLABELLED, Slot.OUTSIDE_GROUND)
    for _ in range(int(rng.integers(0, 5))):
        side, gap = int(rng.integers(4)), float(rng.uniform(5, 35))
        wide, tall = float(rng.uniform(8, 40)), float(rng.uniform(4, 25))
        cx, cy = float(rng.uniform(x0, x1)), float(rng.uniform(y0, y1))
        px, py = ((cx, y0 - gap - 5), (x1 + gap + 5, cy), (cx, y1 + gap + 5), (x0 - gap - 5, cy))[side]
        size = (wide, 10.0) if side % 2 == 0 else (10.0, wide)
        b.box(px, py, ground, *size, tall - ground, UNLABELLED, Slot.OUTSIDE_FACADE, yaw=float(rng.normal(0, 0.1)))
    for _ in range(int(rng.integers(0, 10))):
        angle, radius = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(3, 20))
        px = (x0 + x1) / 2 + math.cos(angle) * ((x1 - x0) / 2 * 1.42 + radius)
        py = (y0 + y1) / 2 + math.sin(angle) * ((y1 - y0) / 2 * 1.42 + radius)
        b.cylinder(px, py, ground, 0.2, 3.0, UNLABELLED, Slot.OUTSIDE_TREE)
        b.sphere(px, py, ground + 4.5, 1.8, 1.8, 2.2, UNLABELLED, Slot.OUTSIDE_TREE)
