"""Desks, tables, counters and workbenches (class table). Frames: origin on the floor, middle of the footprint, front +y."""

from __future__ import annotations

import math

import numpy as np

from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import MeshBuilder

TABLE, FURNITURE = 7, 9


def table(b: MeshBuilder, rng: np.random.Generator, w: float, d: float, h: float, kind: str = "auto") -> None:
    """Add a table w wide, d deep, h high of one of several kinds."""
    if kind == "auto":
        kind = str(rng.choice(["legs", "legs", "panels", "t_frame", "pedestal"], p=[0.35, 0.15, 0.2, 0.2, 0.1]))
    thick = float(rng.uniform(0.018, 0.05))
    top = int(rng.choice([Slot.TABLE_TOP, Slot.WOOD, Slot.WOOD_B]))
    leg = int(rng.choice([Slot.METAL, Slot.METAL_DARK, Slot.WOOD]))
    if kind == "pedestal" and abs(w - d) < 0.35:
        b.cylinder(0, 0, h - thick, w / 2, thick, TABLE, top, radius_y=d / 2, sides=24)
        b.cylinder(0, 0, 0.02, 0.05, h - thick, TABLE, leg)
        b.cylinder(0, 0, 0, 0.3, 0.03, TABLE, leg, sides=12)
        return
    b.box(0, 0, h - thick, w, d, thick, TABLE, top)
    r, low = float(rng.uniform(0.025, 0.07)), h - thick
    if kind == "panels":
        for side in (-1, 1):
            b.box(side * (w / 2 - 0.02), 0, 0, 0.03, d * 0.95, low, TABLE, top)
        b.box(0, -d / 2 + 0.06, 0.25, w - 0.06, 0.02, low - 0.25, TABLE, top)
        return
    if kind == "t_frame":
        for side in (-1, 1):
            x = side * (w / 2 - 0.12)
            b.box(x, 0, 0.04, 0.07, 0.07, low - 0.04, TABLE, leg)
            b.box(x, 0, 0, 0.07, d * 0.85, 0.04, TABLE, leg)
        return
    for sx in (-1, 1):
        for sy in (-1, 1):
            b.box(sx * (w / 2 - r), sy * (d / 2 - r), 0, r, r, low, TABLE, leg)
    if rng.uniform() < 0.4:
        b.box(0, -d / 2 + r, low - 0.09, w - 2 * r, 0.025, 0.09, TABLE, leg)
    if rng.uniform() < 0.3:
        b.box(0, -d / 2 + 0.03, 0.3, w - 2 * r, 0.018, low - 0.3, TABLE, top)


def pedestal_drawers(b: MeshBuilder, rng: np.random.Generator, x: float, d: float, h: float) -> None:
    """Add a drawer unit under a desk (furniture)."""
    b.box(x, 0, 0.05, 0.42, d * 0.8, min(h - 0.1, 0.58), FURNITURE, Slot.CABINET)


def workbench(b: MeshBuilder, rng: np.random.Generator, w: float, d: float, h: float) -> None:
    """Add a heavy bench with a shelf below and perhaps a tool wall behind."""
    b.box(0, 0, h - 0.06, w, d, 0.06, TABLE, Slot.WOOD)
    for sx in (-1, 1):
        for sy in (-1, 1):
            b.box(sx * (w / 2 - 0.06), sy * (d / 2 - 0.06), 0, 0.08, 0.08, h - 0.06, TABLE, Slot.METAL_DARK)
    if rng.uniform() < 0.7:
        b.box(0, 0, 0.2, w - 0.1, d - 0.1, 0.03, TABLE, Slot.METAL_DARK)
    if rng.uniform() < 0.35:
        b.box(0, -d / 2 + 0.03, h, w, 0.03, float(rng.uniform(0.5, 1.0)), FURNITURE, Slot.METAL)
    if rng.uniform() < 0.35:
        z = h + float(rng.uniform(0.4, 0.7))
        b.box(0, -d / 2 + 0.15, z, w, 0.3, 0.03, FURNITURE, Slot.METAL)
        for sx in (-1, 1):
            b.box(sx * (w / 2 - 0.03), -d / 2 + 0.05, h, 0.04, 0.04, z - h + 0.3, FURNITURE, Slot.METAL)


def counter(b: MeshBuilder, rng: np.random.Generator, w: float, d: float, h: float) -> None:
    """Add a closed counter: cabinets below (furniture) and a top (table)."""
    b.box(0, -0.03, 0, w, d - 0.08, 0.09, FURNITURE, Slot.CABINET_B)
    b.box(0, -0.02, 0.09, w, d - 0.04, h - 0.13, FURNITURE, Slot.CABINET)
    b.box(0, 0, h - 0.04, w, d, 0.04, TABLE, Slot.TABLE_TOP)
    for k in range(1, max(int(w / 0.6), 1)):
        b.box(-w / 2 + 0.6 * k, d / 2 - 0.035, 0.15, 0.012, 0.02, h - 0.25, FURNITURE, Slot.METAL_DARK)


def partition_desk(b: MeshBuilder, rng: np.random.Generator, w: float, d: float, h: float, screen: float) -> None:
    """Add a cubicle: a desk with fabric screens behind and at one side (clutter)."""
    table(b, rng, w, d, h)
    b.box(0, -d / 2 - 0.02, 0.1, w, 0.04, screen - 0.1, 11, Slot.FABRIC_B)
    if rng.uniform() < 0.6:
        side = 1 if rng.uniform() < 0.5 else -1
        b.box(side * (w / 2 + 0.02), 0.1, 0.1, 0.04, d + 0.2, screen - 0.1, 11, Slot.FABRIC_B)


def lab_bench(b: MeshBuilder, rng: np.random.Generator, w: float, d: float, h: float) -> None:
    """Add a double-sided laboratory bench with a shelf bridge along its middle."""
    b.box(0, 0, h - 0.04, w, d, 0.04, TABLE, Slot.TABLE_TOP)
    for k in range(max(int(w / 1.2), 1)):
        if rng.uniform() < 0.7:
            x = -w / 2 + 0.6 + 1.2 * k
            for sy in (-1, 1):
                b.box(x, sy * d / 4, 0.08, 0.9, d / 2 - 0.1, h - 0.14, FURNITURE, Slot.CABINET)
    for sx in (-1, 1):
        b.box(sx * (w / 2 - 0.04), 0, 0, 0.06, d - 0.05, h - 0.04, TABLE, Slot.METAL)
    if rng.uniform() < 0.6:
        for z in (h + 0.4, h + 0.75)[: int(rng.integers(1, 3))]:
            b.box(0, 0, z, w, 0.3, 0.025, FURNITURE, Slot.METAL)
        for x in np.linspace(-w / 2 + 0.05, w / 2 - 0.05, max(int(w / 1.2), 2)):
            b.box(float(x), 0, h, 0.04, 0.04, 0.8, FURNITURE, Slot.METAL)
    if rng.uniform() < 0.4:
        b.limb((w * 0.3, 0, h), (w * 0.3, 0, h + 0.3), 0.012, 11, Slot.METAL)
        b.limb((w * 0.3, 0, h + 0.3), (w * 0.3 + 0.15 * math.cos(1.0), 0.1, h + 0.28), 0.012, 11, Slot.METAL)
