"""Chairs, stools, benches and sofas (class chair). Frames: origin on the floor in the middle of the footprint, front towards +y."""

from __future__ import annotations

import math

import numpy as np

from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import MeshBuilder

CHAIR = 8


def swivel_chair(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add an office chair on a star base."""
    seat, fabric = float(rng.uniform(0.42, 0.56)), int(rng.choice([Slot.FABRIC, Slot.FABRIC_B, Slot.PLASTIC_DARK]))
    for k in range(5):
        a = k * 2 * math.pi / 5
        b.limb((0, 0, 0.1), (0.3 * math.cos(a), 0.3 * math.sin(a), 0.07), 0.022, CHAIR, Slot.PLASTIC_DARK)
        b.sphere(0.3 * math.cos(a), 0.3 * math.sin(a), 0.035, 0.03, 0.03, 0.035, CHAIR, Slot.PLASTIC_DARK)
    b.cylinder(0, 0, 0.08, 0.028, seat - 0.1, CHAIR, Slot.METAL_DARK)
    b.box(0, 0, seat - 0.05, 0.49, 0.48, 0.08, CHAIR, fabric)
    tall = float(rng.uniform(0.4, 0.8))
    b.box(0, -0.25, seat + 0.08, 0.45, 0.06, tall, CHAIR, fabric, yaw=float(rng.normal(0, 0.03)))
    b.limb((0, -0.2, seat - 0.05), (0, -0.28, seat + 0.2), 0.025, CHAIR, Slot.PLASTIC_DARK)
    if rng.uniform() < 0.6:
        for side in (-1, 1):
            b.box(side * 0.27, 0, seat + 0.2, 0.06, 0.26, 0.03, CHAIR, Slot.PLASTIC_DARK)
            b.box(side * 0.27, -0.02, seat - 0.02, 0.04, 0.05, 0.22, CHAIR, Slot.PLASTIC_DARK)


def four_leg_chair(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add a plain chair with four legs or a cantilever frame."""
    w, d, seat = float(rng.uniform(0.38, 0.52)), float(rng.uniform(0.38, 0.5)), float(rng.uniform(0.42, 0.48))
    mat = int(rng.choice([Slot.WOOD, Slot.PLASTIC, Slot.PLASTIC_DARK, Slot.FABRIC]))
    leg = int(rng.choice([Slot.METAL, Slot.WOOD, Slot.METAL_DARK]))
    r = float(rng.uniform(0.011, 0.02))
    top = seat + float(rng.uniform(0.33, 0.5))
    for sx in (-1, 1):
        x = sx * (w / 2 - 0.02)
        b.limb((x, d / 2 - 0.02, seat), (x * 1.05, d / 2, 0), r, CHAIR, leg)
        b.limb((x, -d / 2 + 0.02, seat), (x * 1.05, -d / 2 - 0.03, 0), r, CHAIR, leg)
        b.limb((x, -d / 2 + 0.02, seat), (x, -d / 2 - 0.06, top), r, CHAIR, leg)
    b.box(0, 0, seat, w, d, float(rng.uniform(0.015, 0.06)), CHAIR, mat)
    low = seat + float(rng.uniform(0.02, 0.2))
    b.box(0, -d / 2 - 0.03, low, w, 0.03, top - low, CHAIR, mat)


def stool(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add a low or bar stool."""
    seat, r = float(rng.uniform(0.4, 0.8)), float(rng.uniform(0.15, 0.2))
    b.cylinder(0, 0, seat - 0.05, r, 0.05, CHAIR, Slot.WOOD, sides=12)
    if rng.uniform() < 0.4:
        b.cylinder(0, 0, 0.02, 0.03, seat - 0.06, CHAIR, Slot.METAL)
        b.cylinder(0, 0, 0, r * 1.2, 0.03, CHAIR, Slot.METAL, sides=12)
        return
    for k in range(4):
        a = math.pi / 4 + k * math.pi / 2
        b.limb((0.7 * r * math.cos(a), 0.7 * r * math.sin(a), seat - 0.05), (r * math.cos(a), r * math.sin(a), 0), 0.014, CHAIR, Slot.METAL)


def sofa(b: MeshBuilder, rng: np.random.Generator, w: float, d: float) -> None:
    """Add an armchair or sofa of width w and depth d."""
    mat = int(rng.choice([Slot.FABRIC, Slot.FABRIC_B]))
    seat, back, arm = float(rng.uniform(0.36, 0.46)), float(rng.uniform(0.68, 0.95)), float(rng.uniform(0.1, 0.22))
    b.box(0, 0.03, 0.08, w - 2 * arm, d - 0.06, seat - 0.08, CHAIR, mat)
    b.box(0, -d / 2 + 0.12, 0.08, w, 0.24, back - 0.08, CHAIR, mat)
    if rng.uniform() < 0.85:
        for side in (-1, 1):
            b.box(side * (w - arm) / 2, 0, 0.08, arm, d, float(rng.uniform(0.45, 0.62)), CHAIR, mat)
    for k in range(max(int(w / 0.7), 1)):
        if rng.uniform() < 0.4:
            b.sphere(-w / 2 + arm + 0.3 + 0.6 * k, -d / 2 + 0.3, seat + 0.2, 0.2, 0.08, 0.18, CHAIR, Slot.FABRIC_B)


def bench(b: MeshBuilder, rng: np.random.Generator, w: float, d: float) -> None:
    """Add a bench with or without a back."""
    seat = float(rng.uniform(0.4, 0.5))
    mat = int(rng.choice([Slot.WOOD, Slot.METAL, Slot.PLASTIC]))
    b.box(0, 0, seat - 0.04, w, d, 0.05, CHAIR, mat)
    for side in (-1, 1):
        b.box(side * (w / 2 - 0.15), 0, 0, 0.06, d * 0.9, seat - 0.04, CHAIR, Slot.METAL_DARK)
    if rng.uniform() < 0.5:
        b.box(0, -d / 2, seat + 0.05, w, 0.04, 0.4, CHAIR, mat)


def seat_row(b: MeshBuilder, rng: np.random.Generator, count: int, pitch: float) -> None:
    """Add a row of fixed folding seats as in lecture halls and waiting rooms."""
    mat = int(rng.choice([Slot.FABRIC, Slot.WOOD, Slot.PLASTIC]))
    folded = rng.uniform() < 0.6
    for k in range(count):
        x = (k - (count - 1) / 2) * pitch
        b.box(x, -0.2, 0.4, pitch * 0.88, 0.07, 0.48, CHAIR, mat)
        if folded and rng.uniform() < 0.8:
            b.box(x, -0.1, 0.4, pitch * 0.8, 0.07, 0.38, CHAIR, mat)
        else:
            b.box(x, 0.05, 0.4, pitch * 0.82, 0.4, 0.06, CHAIR, mat)
        b.box(x + pitch / 2, -0.08, 0, 0.05, 0.3, 0.6, CHAIR, Slot.METAL_DARK)


def any_chair(b: MeshBuilder, rng: np.random.Generator, taste: int) -> None:
    """Add the chair type of a room (taste 0 swivel, 1 four legs, 2 stool), seldom another one."""
    pick = taste if rng.uniform() < 0.88 else int(rng.integers(3))
    (swivel_chair, four_leg_chair, stool)[pick](b, rng)
