"""Tables with what stands on and under them, as single things to place."""

from __future__ import annotations

import math

import numpy as np

from xkd_ros.worlds import clutter, storage, tables
from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import MeshBuilder


def equipped_table(
    b: MeshBuilder,
    rng: np.random.Generator,
    w: float,
    d: float,
    h: float,
    amount: float,
    screens: float = 0.0,
    kind: str = "auto",
    drawers: float = 0.0,
) -> None:
    """Add a table with things on it.

    Args:
        b: Builder in the table's frame.
        rng: Source of every choice.
        w: Width.
        d: Depth.
        h: Height.
        amount: Clutter on top, 0..1.
        screens: Chance of computer screens.
        kind: Kind of table, see `tables.table`.
        drawers: Chance of a drawer unit below.
    """
    tables.table(b, rng, w, d, h, kind)
    if rng.uniform() < drawers:
        tables.pedestal_drawers(b, rng, w / 2 - 0.3, d, h)
    clutter.tabletop(b, rng, w, d, h, amount, bool(rng.uniform() < screens))


def equipped_cubicle(b: MeshBuilder, rng: np.random.Generator, w: float, d: float, h: float, screen: float, amount: float) -> None:
    """Add a desk with partition screens of height `screen`."""
    tables.partition_desk(b, rng, w, d, h, screen)
    clutter.tabletop(b, rng, w, d, h, amount, True)


def equipped_lab_bench(b: MeshBuilder, rng: np.random.Generator, w: float, d: float, h: float, amount: float) -> None:
    """Add a laboratory bench with instruments."""
    tables.lab_bench(b, rng, w, d, h)
    clutter.tabletop(b, rng, w, d, h, amount, bool(rng.uniform() < 0.5))


def equipped_workbench(b: MeshBuilder, rng: np.random.Generator, w: float, d: float, h: float, amount: float) -> None:
    """Add a workbench with tools."""
    tables.workbench(b, rng, w, d, h)
    clutter.tabletop(b, rng, w, d, h, amount, bool(rng.uniform() < 0.35))


def equipped_counter(b: MeshBuilder, rng: np.random.Generator, w: float, h: float, cupboard: float, amount: float) -> None:
    """Add a kitchen counter, with cupboards from height `cupboard` above it now and then."""
    tables.counter(b, rng, w, 0.62, h)
    clutter.tabletop(b, rng, w, 0.6, h, amount, False)
    if rng.uniform() < 0.7:
        b.shift(0.0, -0.13)
        storage.wall_cupboard(b, rng, w, 0.35, cupboard)


def toilet_stall(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add a toilet bowl between two thin partitions (class wall)."""
    storage.toilet_bowl(b, rng)
    for side in (-1, 1):
        b.box(side * 0.46, 0.3, 0.12, 0.025, 1.4, 1.9, 0, Slot.WALL_B)


def seat_place(x: float, y: float, yaw: float, along: float, ahead: float) -> tuple[float, float]:
    """Return the world xy of a point given in the frame of a piece of furniture: along its width, ahead of its middle."""
    c, s = math.cos(yaw), math.sin(yaw)
    return x + c * along - s * ahead, y + s * along + c * ahead
