"""Flat things and small things on walls: boards, posters, screens, pipes, panels, switch boxes, rails. Frames as for openings."""

from __future__ import annotations

import numpy as np

from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import MeshBuilder

WALL, CLUTTER = 0, 11


def board(b: MeshBuilder, rng: np.random.Generator, w: float, h: float, z: float) -> None:
    """Add a whiteboard, blackboard, notice board or projection screen (class wall)."""
    thick = float(rng.uniform(0.01, 0.05))
    mat = int(rng.choice([Slot.BOARD, Slot.BOARD, Slot.METAL_DARK, Slot.FABRIC, Slot.POSTER]))
    b.box(0, -thick / 2, z, w, thick, h, WALL, mat)
    if rng.uniform() < 0.5:
        b.box(0, -0.04, z - 0.03, w, 0.08, 0.02, WALL, Slot.METAL)


def posters(b: MeshBuilder, rng: np.random.Generator, w: float) -> None:
    """Add a few posters or pictures along w metres of wall (class wall)."""
    x = -w / 2
    while x < w / 2 - 0.3:
        wide, tall = float(rng.uniform(0.2, 0.9)), float(rng.uniform(0.2, 1.2))
        thick = float(rng.choice([0.004, 0.02, 0.03]))
        b.box(x + wide / 2, -thick / 2, float(rng.uniform(0.9, 1.5)), wide, thick, tall, WALL, Slot.POSTER)
        x += wide + float(rng.uniform(0.05, 1.5))


def television(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add a wall screen (class clutter)."""
    w = float(rng.uniform(0.8, 2.0))
    b.box(0, -0.06, float(rng.uniform(0.9, 1.5)), w, 0.06, w * 0.58, CLUTTER, Slot.SCREEN)


def pipes(b: MeshBuilder, rng: np.random.Generator, w: float, height: float) -> None:
    """Add pipes or conduits on the wall, upright or level (class wall)."""
    r = float(rng.uniform(0.012, 0.06))
    if rng.uniform() < 0.5:
        for k in range(int(rng.integers(1, 4))):
            b.cylinder(-w / 2 + 0.15 * k, -r - 0.03, 0, r, height, WALL, Slot.METAL)
    else:
        z = float(rng.uniform(0.2, height - 0.2))
        for k in range(int(rng.integers(1, 4))):
            b.limb((-w / 2, -r - 0.03, z - 0.12 * k), (w / 2, -r - 0.03, z - 0.12 * k), r, WALL, Slot.METAL)


def panels(b: MeshBuilder, rng: np.random.Generator, w: float, height: float) -> None:
    """Add acoustic or cladding panels (class wall)."""
    count = max(int(w / float(rng.uniform(0.6, 1.5))), 1)
    z0, z1 = (0.0, height) if rng.uniform() < 0.4 else (float(rng.uniform(0.7, 1.2)), float(rng.uniform(1.8, max(height - 0.1, 1.9))))
    thick = float(rng.uniform(0.02, 0.08))
    for k in range(count):
        b.box(
            -w / 2 + (k + 0.5) * w / count,
            -thick / 2,
            z0,
            w / count - float(rng.uniform(0.01, 0.15)),
            thick,
            min(z1, height) - z0,
            WALL,
            Slot.WALL_B,
        )


def box_on_wall(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add a fuse box, dispenser, extinguisher, clock, coats or an air conditioner (class clutter)."""
    pick = int(rng.integers(5))
    if pick == 0:
        b.box(
            0, -0.08, float(rng.uniform(0.8, 1.4)), float(rng.uniform(0.25, 0.8)), 0.16, float(rng.uniform(0.3, 0.9)), CLUTTER, Slot.METAL
        )
    elif pick == 1:
        b.cylinder(0, -0.12, 0.6, 0.08, 0.5, CLUTTER, Slot.SIGN, sides=12)
    elif pick == 2:
        b.box(0, -0.11, 2.0, 0.85, 0.22, 0.3, CLUTTER, Slot.PLASTIC)
    elif pick == 3:
        for k in range(int(rng.integers(1, 6))):
            b.sphere(-0.4 + 0.22 * k, -0.14, 1.3, 0.14, 0.12, 0.45, CLUTTER, int(rng.choice([Slot.CLOTH, Slot.CLOTH_B, Slot.CLOTH_D])))
    else:
        b.box(0, -0.06, 1.1, 0.28, 0.12, 0.35, CLUTTER, Slot.PLASTIC)


def mirror(b: MeshBuilder, rng: np.random.Generator, w: float) -> None:
    """Add a mirror (no class: a lidar sees ghosts behind it)."""
    b.box(0, -0.005, 0.9, w, 0.01, float(rng.uniform(0.6, 1.1)), 255, Slot.MIRROR)
