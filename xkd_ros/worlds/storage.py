"""Cabinets, shelves, racks, appliances, beds and radiators (class furniture). Frames: back at -depth/2, front towards +y."""

from __future__ import annotations

import numpy as np

from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import MeshBuilder

FURNITURE, CLUTTER, TABLE = 9, 11, 7


def cabinet(b: MeshBuilder, rng: np.random.Generator, w: float, d: float, h: float) -> None:
    """Add a closed cabinet, wardrobe or locker block."""
    mat = int(rng.choice([Slot.CABINET, Slot.CABINET_B, Slot.WOOD_B, Slot.METAL]))
    b.box(0, 0, 0, w, d, h, FURNITURE, mat)
    doors = max(int(round(w / float(rng.uniform(0.3, 0.6)))), 1)
    for k in range(doors):
        x = -w / 2 + (k + 0.5) * w / doors
        b.box(x, d / 2 + 0.008, 0.06, w / doors - 0.012, 0.016, h - 0.08, FURNITURE, mat)
        b.box(x + 0.35 * w / doors, d / 2 + 0.03, 0.45 * h, 0.02, 0.025, 0.12, FURNITURE, Slot.HANDLE)
    if rng.uniform() < 0.3 and h < 2.0:
        _boxes_on(b, rng, w, d, h, int(rng.integers(1, 4)))


def _boxes_on(b: MeshBuilder, rng: np.random.Generator, w: float, d: float, z: float, count: int) -> None:
    for _ in range(count):
        sx, sy = float(rng.uniform(0.12, 0.45)), float(rng.uniform(0.12, max(0.14, min(0.4, d))))
        x = float(rng.uniform(-1, 1)) * max(w - sx, 0) / 2
        b.box(
            x,
            float(rng.uniform(-0.5, 0.5)) * max(d - sy, 0),
            z,
            sx,
            sy,
            float(rng.uniform(0.06, 0.4)),
            CLUTTER,
            int(rng.choice([Slot.CARDBOARD, Slot.PLASTIC, Slot.PLASTIC_DARK, Slot.BOOKS])),
        )


def shelf(b: MeshBuilder, rng: np.random.Generator, w: float, d: float, h: float, fill: float, back: bool = True) -> None:
    """Add an open shelf with books, binders or boxes in it; fill 0..1."""
    mat = int(rng.choice([Slot.WOOD, Slot.WOOD_B, Slot.CABINET, Slot.METAL]))
    for side in (-1, 1):
        b.box(side * (w / 2 - 0.012), 0, 0, 0.024, d, h, FURNITURE, mat)
    if back:
        b.box(0, -d / 2 + 0.006, 0, w, 0.012, h, FURNITURE, mat)
    levels = max(int(h / float(rng.uniform(0.3, 0.45))), 1)
    gap = (h - 0.05) / levels
    for k in range(levels + 1):
        z = 0.03 + k * gap
        b.box(0, 0, z, w, d, 0.022, FURNITURE, mat)
        if k == levels or rng.uniform() > fill:
            continue
        x = -w / 2 + 0.03
        while x < w / 2 - 0.1:
            if rng.uniform() < 0.25:
                x += float(rng.uniform(0.05, 0.3))
                continue
            wide = min(float(rng.uniform(0.1, 0.5)), w / 2 - 0.03 - x)
            tall = gap * float(rng.uniform(0.45, 0.9))
            deep = d * float(rng.uniform(0.5, 0.95))
            slot, cls = (Slot.BOOKS, FURNITURE) if rng.uniform() < 0.65 else (Slot.CARDBOARD, CLUTTER)
            b.box(x + wide / 2, 0.3 * (d - deep), z + 0.022, wide, deep, tall, cls, slot)
            x += wide + 0.01


def rack(b: MeshBuilder, rng: np.random.Generator, w: float, d: float, h: float, fill: float) -> None:
    """Add a storage rack with posts, beams and loaded boards."""
    n = max(int(round(w / 2.0)), 1)
    for k in range(n + 1):
        for sy in (-1, 1):
            b.box(-w / 2 + k * w / n, sy * (d / 2 - 0.03), 0, 0.06, 0.06, h, FURNITURE, Slot.METAL)
    levels = max(int(h / float(rng.uniform(0.5, 1.3))), 2)
    for k in range(levels):
        z = 0.12 + k * (h - 0.3) / levels
        b.box(0, 0, z, w, d, 0.03, FURNITURE, Slot.METAL)
        for sy in (-1, 1):
            b.box(0, sy * (d / 2 - 0.03), z - 0.06, w, 0.04, 0.09, FURNITURE, Slot.MACHINE)
        room = (h - 0.3) / levels
        for _ in range(int(fill * w * 2.2)):
            sx, sy_, sz = float(rng.uniform(0.2, 0.7)), float(rng.uniform(0.3, 0.95)) * d, float(rng.uniform(0.3, 0.85)) * room
            b.box(
                float(rng.uniform(-1, 1)) * max(w - sx, 0) / 2,
                0.3 * (d - sy_),
                z + 0.03,
                sx,
                sy_,
                sz,
                CLUTTER,
                int(rng.choice([Slot.CARDBOARD, Slot.PLASTIC, Slot.PLASTIC_DARK, Slot.MACHINE_B])),
            )


def fridge(b: MeshBuilder, rng: np.random.Generator, w: float, d: float, h: float) -> None:
    """Add a refrigerator, oven, washing machine or copier, by its size."""
    mat = int(rng.choice([Slot.CERAMIC, Slot.METAL, Slot.PLASTIC, Slot.PLASTIC_DARK]))
    b.box(0, 0, 0.02, w, d, h - 0.02, FURNITURE, mat)
    b.box(0, d / 2 + 0.02, 0.08, w - 0.02, 0.04, h * 0.55, FURNITURE, mat)
    b.box(w / 2 - 0.06, d / 2 + 0.06, 0.3 * h, 0.03, 0.04, 0.3, FURNITURE, Slot.HANDLE)
    if h < 1.3:
        b.box(0, -0.05, h, w * 0.9, d * 0.7, 0.15, FURNITURE, Slot.PLASTIC_DARK)


def radiator(b: MeshBuilder, rng: np.random.Generator, w: float, h: float) -> None:
    """Add a wall radiator with ribs."""
    b.box(0, -0.01, 0.12, w, 0.05, h, FURNITURE, Slot.RADIATOR)
    for k in range(max(int(w / 0.14), 2)):
        b.box(-w / 2 + 0.07 + 0.14 * k, 0.03, 0.12, 0.05, 0.05, h, FURNITURE, Slot.RADIATOR)


def bed(b: MeshBuilder, rng: np.random.Generator, w: float, d: float) -> None:
    """Add a bed, head at -y."""
    b.box(0, 0, 0.1, w, d, 0.2, FURNITURE, Slot.WOOD)
    b.box(0, 0.03, 0.3, w - 0.05, d - 0.1, float(rng.uniform(0.12, 0.3)), FURNITURE, Slot.FABRIC_B)
    b.box(0, -d / 2 + 0.03, 0, w, 0.05, float(rng.uniform(0.6, 1.1)), FURNITURE, Slot.WOOD)
    b.box(0, -d / 2 + 0.3, 0.5, w * 0.7, 0.4, 0.14, FURNITURE, Slot.CURTAIN)


def sink_block(b: MeshBuilder, rng: np.random.Generator, w: float, d: float) -> None:
    """Add a wash basin on the wall or a row of them on a board."""
    h = float(rng.uniform(0.78, 0.9))
    for k in range(max(int(w / 0.75), 1)):
        x = -w / 2 + 0.35 + 0.75 * k
        b.cylinder(x, 0, h - 0.16, 0.26, 0.16, FURNITURE, Slot.CERAMIC, radius_y=d / 2 - 0.02, sides=12)
        b.cylinder(x, -d / 2 + 0.1, h - 0.5, 0.04, 0.35, FURNITURE, Slot.METAL)
        b.limb((x, -d / 2 + 0.06, h), (x, 0, h + 0.15), 0.015, FURNITURE, Slot.METAL)
    if w > 1.2:
        b.box(0, 0, h - 0.05, w, d, 0.04, FURNITURE, Slot.TABLE_TOP)


def toilet_bowl(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add a toilet bowl with cistern."""
    b.cylinder(0, 0.05, 0.02, 0.18, 0.4, FURNITURE, Slot.CERAMIC, radius_y=0.26, sides=12)
    b.box(0, -0.27, 0.4, 0.38, 0.16, 0.38, FURNITURE, Slot.CERAMIC)


def wall_cupboard(b: MeshBuilder, rng: np.random.Generator, w: float, d: float, z: float) -> None:
    """Add cupboards or a board hung on the wall above a counter or desk."""
    if rng.uniform() < 0.5:
        b.box(0, 0, z, w, d, float(rng.uniform(0.4, 0.8)), FURNITURE, Slot.CABINET)
    else:
        b.box(0, 0, z, w, d * 0.8, 0.03, FURNITURE, Slot.WOOD)
        _boxes_on(b, rng, w, d * 0.7, z + 0.03, int(w * 4))
