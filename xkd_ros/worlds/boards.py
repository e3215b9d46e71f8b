"""Free-standing flat things and frames (class clutter): panels, movable boards, calibration targets, trestles."""

from __future__ import annotations

import math

import numpy as np

from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import MeshBuilder

CLUTTER = 11


def panel(b: MeshBuilder, rng: np.random.Generator, w: float, h: float) -> None:
    """Add a large free-standing panel, movable whiteboard, banner or screen: flat like a wall, but not one."""
    low, tilt = float(rng.choice([0.03, 0.1, 0.6])), float(rng.normal(0, 0.05))
    mat = int(rng.choice([Slot.BOARD, Slot.POSTER, Slot.FABRIC_B, Slot.WOOD_B, Slot.CARDBOARD, Slot.PLASTIC]))
    low = min(low, h * 0.5)
    thick = float(rng.uniform(0.01, 0.06))
    hypotenuse = h - low
    b.quad(
        (-w / 2, 0, low), (w / 2, 0, low), (w / 2, math.sin(tilt) * hypotenuse, h), (-w / 2, math.sin(tilt) * hypotenuse, h), CLUTTER, mat
    )
    b.quad(
        (-w / 2, thick, low),
        (w / 2, thick, low),
        (w / 2, thick + math.sin(tilt) * hypotenuse, h),
        (-w / 2, thick + math.sin(tilt) * hypotenuse, h),
        CLUTTER,
        mat,
    )
    for side in (-1, 1):
        b.box(side * (w / 2 - 0.05), 0, 0, 0.04, 0.04, max(low, 0.05) + 0.05, CLUTTER, Slot.METAL)
        b.box(side * (w / 2 - 0.05), 0, 0, 0.05, 0.5, 0.04, CLUTTER, Slot.METAL)


def target_board(b: MeshBuilder, rng: np.random.Generator, held: bool) -> None:
    """Add a flat board turned in its own plane, held by somebody or on a tripod, as people use it to calibrate sensors."""
    w, h = float(rng.uniform(0.4, 1.6)), float(rng.uniform(0.4, 1.2))
    z = float(rng.uniform(0.9, 1.5)) if held else float(rng.uniform(0.7, 1.9))
    spin, lean = float(rng.choice([0.0, rng.uniform(-0.8, 0.8)])), float(rng.normal(0, 0.15))
    mat = int(rng.choice([Slot.BOARD, Slot.POSTER, Slot.CARDBOARD, Slot.WOOD_B]))
    c, s = math.cos(spin), math.sin(spin)
    turned = [(c * u - s * v, s * u + c * v) for u, v in ((-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2))]
    for offset in (0.0, 0.015):
        p, q, r, t = ((x, offset - math.sin(lean) * up, max(z + math.cos(lean) * up, 0.02)) for x, up in turned)
        b.quad(p, q, r, t, CLUTTER, mat)
    if not held:
        for k in range(3):
            a = k * 2.094 + 0.5
            b.limb((0, -0.03, z * 0.6), (0.45 * math.cos(a), 0.45 * math.sin(a) - 0.03, 0), 0.018, CLUTTER, Slot.METAL_DARK)
        b.cylinder(0, -0.03, z * 0.5, 0.02, z * 0.5, CLUTTER, Slot.METAL_DARK)


def trestle(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add an A-frame or gantry of square tubes."""
    w, h = float(rng.uniform(0.8, 2.2)), float(rng.uniform(0.8, 2.2))
    for side in (-1, 1):
        x = side * w / 2
        b.limb((x, -0.4, 0.05), (x, 0, h), 0.03, CLUTTER, Slot.METAL)
        b.limb((x, 0.4, 0.05), (x, 0, h), 0.03, CLUTTER, Slot.METAL)
        b.box(x, 0, 0.25, 0.05, 0.7, 0.05, CLUTTER, Slot.METAL)
    b.limb((-w / 2, 0, h), (w / 2, 0, h), 0.04, CLUTTER, Slot.METAL)
