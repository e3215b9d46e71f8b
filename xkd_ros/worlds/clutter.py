"""Everything small or odd (class clutter): screens, boxes, plants, bins, bags, bicycles, machines, robots, panels, trolleys."""

from __future__ import annotations

import math

import numpy as np

from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import MeshBuilder

CLUTTER = 11
CAR_LABEL = 255


def tabletop(b: MeshBuilder, rng: np.random.Generator, w: float, d: float, h: float, amount: float, screens: bool) -> None:
    """Put screens, laptops, paper, cups and boxes on a table top whose back is at -d/2."""
    if screens and rng.uniform() < 0.85:
        count = int(rng.integers(1, 3)) if w > 1.1 else 1
        for k in range(count):
            x = (k - (count - 1) / 2) * 0.62 + float(rng.normal(0, 0.05))
            y, wide, tall = -d / 2 + float(rng.uniform(0.12, 0.3)), float(rng.uniform(0.4, 0.7)), float(rng.uniform(0.26, 0.42))
            yaw = float(rng.normal(0, 0.15))
            b.box(x, y, h + 0.12, wide, 0.035, tall, CLUTTER, Slot.SCREEN, yaw=yaw)
            b.box(x, y - 0.04, h, 0.05, 0.04, 0.25, CLUTTER, Slot.PLASTIC_DARK)
            b.box(x, y, h, 0.22, 0.18, 0.015, CLUTTER, Slot.PLASTIC_DARK)
        if rng.uniform() < 0.7:
            b.box(0, 0.1, h, 0.44, 0.14, 0.025, CLUTTER, Slot.PLASTIC_DARK)
    for _ in range(int(rng.poisson(amount * w * 3))):
        x, y = float(rng.uniform(-w / 2 + 0.1, w / 2 - 0.1)), float(rng.uniform(-d / 2 + 0.1, d / 2 - 0.1))
        pick = rng.uniform()
        if pick < 0.25:
            b.cylinder(x, y, h, float(rng.uniform(0.03, 0.06)), float(rng.uniform(0.08, 0.28)), CLUTTER, Slot.CERAMIC)
        elif pick < 0.4:
            b.box(x, y, h, 0.32, 0.23, 0.02, CLUTTER, Slot.METAL_DARK)
            b.box(x, y - 0.13, h + 0.02, 0.32, 0.012, 0.2, CLUTTER, Slot.SCREEN)
        else:
            sx, sy, sz = float(rng.uniform(0.06, 0.35)), float(rng.uniform(0.05, 0.3)), float(rng.exponential(0.1)) + 0.02
            b.box(
                x,
                y,
                h,
                sx,
                sy,
                min(sz, 0.5),
                CLUTTER,
                int(rng.choice([Slot.BOOKS, Slot.CARDBOARD, Slot.PLASTIC, Slot.METAL, Slot.PLASTIC_DARK])),
                yaw=float(rng.uniform(0, 3)),
            )


def boxes(b: MeshBuilder, rng: np.random.Generator, w: float, d: float) -> None:
    """Add a stack of boxes, crates or a loaded pallet."""
    z = 0.0
    if rng.uniform() < 0.3:
        b.box(0, 0, 0, w, d, 0.14, CLUTTER, Slot.WOOD)
        z = 0.14
    for _ in range(int(rng.integers(1, 5))):
        sx, sy, sz = w * float(rng.uniform(0.5, 1)), d * float(rng.uniform(0.5, 1)), float(rng.uniform(0.15, 0.55))
        b.box(
            float(rng.normal(0, 0.03)),
            float(rng.normal(0, 0.03)),
            z,
            sx,
            sy,
            sz,
            CLUTTER,
            int(rng.choice([Slot.CARDBOARD, Slot.PLASTIC, Slot.PLASTIC_DARK, Slot.WOOD])),
            yaw=float(rng.normal(0, 0.08)),
        )
        z += sz
        if z > 1.7:
            break


def plant(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add a potted plant of 0.5 to 2.2 m."""
    h, pot = float(rng.uniform(0.5, 2.2)), float(rng.uniform(0.12, 0.25))
    b.cylinder(0, 0, 0, pot, pot * 1.8, CLUTTER, Slot.POT, sides=12)
    b.cylinder(0, 0, pot * 1.8, 0.02, h * 0.5, CLUTTER, Slot.WOOD)
    for _ in range(int(rng.integers(6, 16))):
        a, r = float(rng.uniform(0, 6.3)), float(rng.uniform(0.05, 0.4)) * (0.5 + h / 3)
        z = float(rng.uniform(0.4, 1.0)) * h
        b.sphere(
            r * math.cos(a),
            r * math.sin(a),
            z,
            float(rng.uniform(0.05, 0.22)),
            float(rng.uniform(0.05, 0.22)),
            float(rng.uniform(0.03, 0.14)),
            CLUTTER,
            Slot.PLANT,
        )


def bin_(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add a waste bin or bucket."""
    h, r = float(rng.uniform(0.28, 0.95)), float(rng.uniform(0.13, 0.27))
    mat = int(rng.choice([Slot.PLASTIC, Slot.PLASTIC_DARK, Slot.METAL]))
    if rng.uniform() < 0.5:
        b.cylinder(0, 0, 0, r, h, CLUTTER, mat, sides=12)
    else:
        b.box(0, 0, 0, 2 * r, 1.6 * r, h, CLUTTER, mat)


def bag(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add a bag or coat dropped on the floor."""
    b.sphere(
        0, 0, 0.16, float(rng.uniform(0.14, 0.26)), float(rng.uniform(0.08, 0.18)), float(rng.uniform(0.16, 0.28)), CLUTTER, Slot.CLOTH_B
    )


def bicycle(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add a bicycle standing along x."""
    for x in (-0.52, 0.52):
        for k in range(10):
            a0, a1 = k * math.pi / 5, (k + 1) * math.pi / 5
            b.limb(
                (x + 0.34 * math.cos(a0), 0, 0.34 + 0.34 * math.sin(a0)),
                (x + 0.34 * math.cos(a1), 0, 0.34 + 0.34 * math.sin(a1)),
                0.022,
                CLUTTER,
                Slot.RUBBER,
            )
    joints = {
        "rear": (-0.52, 0, 0.34),
        "crank": (-0.05, 0, 0.3),
        "seat": (-0.2, 0, 0.85),
        "head": (0.38, 0, 0.85),
        "front": (0.52, 0, 0.34),
    }
    for p, q in (("rear", "crank"), ("rear", "seat"), ("crank", "seat"), ("crank", "head"), ("seat", "head"), ("head", "front")):
        b.limb(joints[p], joints[q], 0.02, CLUTTER, Slot.METAL)
    b.limb((0.36, -0.3, 1.0), (0.36, 0.3, 1.0), 0.016, CLUTTER, Slot.METAL_DARK)
    b.box(-0.2, 0, 0.9, 0.25, 0.14, 0.06, CLUTTER, Slot.PLASTIC_DARK)


def machine(b: MeshBuilder, rng: np.random.Generator, w: float, d: float, h: float) -> None:
    """Add a workshop machine: a base, a body, a column, cables and knobs."""
    mats = [Slot.MACHINE, Slot.MACHINE_B, Slot.METAL, Slot.METAL_DARK]
    b.box(0, 0, 0, w, d, h * float(rng.uniform(0.3, 0.55)), CLUTTER, int(rng.choice(mats)))
    for _ in range(int(rng.integers(2, 7))):
        sx, sy, sz = w * float(rng.uniform(0.15, 0.7)), d * float(rng.uniform(0.15, 0.8)), h * float(rng.uniform(0.2, 0.55))
        z = h * float(rng.uniform(0.2, 0.5))
        b.box(
            float(rng.uniform(-1, 1)) * (w - sx) / 2,
            float(rng.uniform(-1, 1)) * (d - sy) / 2,
            z,
            sx,
            sy,
            min(sz, h - z),
            CLUTTER,
            int(rng.choice(mats)),
        )
    if rng.uniform() < 0.4:
        b.cylinder(w * 0.2, 0, h * 0.4, w * 0.15, h * 0.6, CLUTTER, int(rng.choice(mats)), sides=12)
    if rng.uniform() < 0.4:
        p = (0.0, 0.0, h * 0.9)
        for _ in range(3):
            q = (p[0] + float(rng.normal(0, 0.4)), p[1] + float(rng.normal(0, 0.4)), max(p[2] + float(rng.normal(0, 0.35)), 0.4))
            b.limb(p, q, float(rng.uniform(0.04, 0.13)), CLUTTER, Slot.MACHINE_B)
            p = q


def robot(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add a mobile robot base with a mast and a sensor."""
    w, d, h = float(rng.uniform(0.35, 0.8)), float(rng.uniform(0.4, 1.1)), float(rng.uniform(0.2, 0.5))
    b.box(0, 0, 0.1, w, d, h, CLUTTER, int(rng.choice([Slot.PLASTIC, Slot.METAL_DARK, Slot.MACHINE])))
    for sx in (-1, 1):
        for sy in (-1, 1):
            b.limb((sx * w / 2 - 0.05, sy * d / 3, 0.13), (sx * w / 2 + 0.05, sy * d / 3, 0.13), 0.13, CLUTTER, Slot.RUBBER, sides=12)
    if rng.uniform() < 0.7:
        top = h + float(rng.uniform(0.2, 1.1))
        b.box(0, 0, h, 0.06, 0.06, top - h, CLUTTER, Slot.METAL)
        b.cylinder(0, 0, top, 0.07, 0.1, CLUTTER, Slot.PLASTIC_DARK, sides=12)


def tripod(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add a tripod, floor lamp or coat stand."""
    h = float(rng.uniform(1.0, 1.9))
    for k in range(3):
        a = k * 2.094 + float(rng.normal(0, 0.1))
        b.limb((0, 0, h * 0.75), (0.4 * math.cos(a), 0.4 * math.sin(a), 0), 0.018, CLUTTER, Slot.METAL_DARK)
    b.cylinder(0, 0, h * 0.5, 0.02, h * 0.5, CLUTTER, Slot.METAL_DARK)
    if rng.uniform() < 0.5:
        b.box(0, 0, h, 0.2, 0.25, 0.15, CLUTTER, Slot.PLASTIC_DARK)
    else:
        b.cylinder(0, 0, h, 0.2, 0.25, CLUTTER, Slot.CURTAIN, sides=12)


def trolley(b: MeshBuilder, rng: np.random.Generator, w: float, d: float) -> None:
    """Add a trolley with two or three boards and things on it."""
    h = float(rng.uniform(0.7, 1.1))
    for sx in (-1, 1):
        for sy in (-1, 1):
            b.box(sx * (w / 2 - 0.02), sy * (d / 2 - 0.02), 0.08, 0.03, 0.03, h - 0.08, CLUTTER, Slot.METAL)
    for z in (0.15, 0.5, h - 0.03):
        if rng.uniform() < 0.85:
            b.box(0, 0, z, w, d, 0.03, CLUTTER, Slot.METAL)
            b.box(float(rng.uniform(-0.2, 0.2)) * w, 0, z + 0.03, w * 0.5, d * 0.6, float(rng.uniform(0.08, 0.3)), CLUTTER, Slot.PLASTIC)


def car(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add a parked car along x (no class: vehicles are ignored)."""
    long, wide, h = float(rng.uniform(3.6, 4.9)), float(rng.uniform(1.6, 1.95)), float(rng.uniform(1.4, 1.8))
    b.box(0, 0, 0.25, long, wide, 0.55, CAR_LABEL, Slot.CAR)
    b.box(-0.2, 0, 0.8, long * 0.55, wide * 0.88, h - 0.8, CAR_LABEL, Slot.CAR)
    for sx in (-1, 1):
        for sy in (-1, 1):
            b.limb(
                (sx * long * 0.32, sy * (wide / 2 - 0.2), 0.31),
                (sx * long * 0.32, sy * (wide / 2 + 0.01), 0.31),
                0.31,
                CAR_LABEL,
                Slot.RUBBER,
                sides=12,
            )


def heap(b: MeshBuilder, rng: np.random.Generator, w: float, d: float) -> None:
    """Add a random heap: poles leaning, rolls, crates and cables."""
    for _ in range(int(rng.integers(2, 9))):
        x, y = float(rng.uniform(-w / 2, w / 2)), float(rng.uniform(-d / 2, d / 2))
        pick, mat = rng.uniform(), int(rng.choice([Slot.METAL, Slot.WOOD, Slot.PLASTIC, Slot.PLASTIC_DARK, Slot.CARDBOARD]))
        if pick < 0.35:
            b.limb(
                (x, y, 0),
                (x * 0.6 + float(rng.normal(0, 0.1)), -d / 2, float(rng.uniform(0.5, 2.2))),
                float(rng.uniform(0.01, 0.05)),
                CLUTTER,
                mat,
            )
        elif pick < 0.55:
            b.limb((x - 0.3, y, 0.12), (x + 0.3, y + 0.1, 0.12), float(rng.uniform(0.05, 0.15)), CLUTTER, mat)
        elif pick < 0.7:
            b.sphere(x, y, 0.15, 0.25, 0.2, 0.2, CLUTTER, mat)
        else:
            b.box(
                x,
                y,
                0,
                float(rng.uniform(0.1, 0.6)),
                float(rng.uniform(0.1, 0.5)),
                float(rng.uniform(0.1, 1.0)),
                CLUTTER,
                mat,
                yaw=float(rng.uniform(0, 3)),
            )


def fan(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add a standing fan, a fire extinguisher or a sign on a foot."""
    if rng.uniform() < 0.4:
        b.cylinder(0, 0, 0.02, 0.08, 0.5, CLUTTER, Slot.SIGN, sides=12)
        return
    h = float(rng.uniform(0.9, 1.4))
    b.cylinder(0, 0, 0, 0.2, 0.03, CLUTTER, Slot.PLASTIC_DARK, sides=12)
    b.cylinder(0, 0, 0.03, 0.015, h, CLUTTER, Slot.METAL)
    b.box(0, 0, h, 0.4, 0.08, 0.45, CLUTTER, Slot.PLASTIC)
