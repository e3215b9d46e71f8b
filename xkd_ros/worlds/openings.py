"""Doors, windows and glass walls in their own frames: x along the wall, y out of the room, z up from the floor."""

from __future__ import annotations

import math

import numpy as np

from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import MeshBuilder
from xkd_ros.worlds.shell import FLOOR, WALL, add_reveal

DOOR, WINDOW = 3, 4


def add_door(
    b: MeshBuilder,
    rng: np.random.Generator,
    width: float,
    height: float,
    depth: float,
    state: str,
    contrast: float,
) -> tuple[float, bool]:
    """Add lining, frame, leaf or leaves and handles of one door.

    Args:
        b: Builder whose frame is at the middle of the opening.
        rng: Source of every choice.
        width: Clear width.
        height: Clear height.
        depth: Wall thickness.
        state: closed, ajar, open, passage, sliding or lift.
        contrast: Difference of reflectivity between door and wall; a cue when large.
    Returns:
        Opening angle in radians, and whether a lidar can see the door.
    """
    lined = state != "passage"
    slot = int(Slot.DOOR if rng.uniform() < 0.65 else Slot.DOOR_B)
    add_reveal(b, width, 0, height, depth, DOOR if lined else WALL, Slot.DOOR_FRAME if lined else Slot.WALL, FLOOR, Slot.FLOOR_B)
    if not lined:
        return math.pi / 2, True
    leaf = 0.04
    hinted = rng.uniform() < 0.78
    slack = max(depth - leaf, 0.0)
    recess = min(float(rng.uniform(0.05, 0.1)) if hinted else float(rng.uniform(0, 0.02)), slack * 0.5)
    y_leaf = recess if rng.uniform() < 0.5 else slack - recess
    if hinted and slack > 0.16:
        y_leaf = float(rng.uniform(0.06, slack - 0.06))
    casing = float(rng.uniform(0.015, 0.045)) if hinted and rng.uniform() < 0.7 else float(rng.choice([0.0, 0.006]))
    if casing:
        wide = float(rng.uniform(0.05, 0.11))
        for y in (-casing / 2, depth + casing / 2):
            for side in (-1, 1):
                b.box(side * (width / 2 + wide / 2), y, 0, wide, casing, height + wide, DOOR, Slot.DOOR_FRAME)
            b.box(0, y, height, width, casing, wide, DOOR, Slot.DOOR_FRAME)
    glazed = rng.uniform() < (0.45 if width > 1.35 else 0.15)
    leaves = 2 if width > 1.25 else 1
    single = width / leaves
    angle = {"closed": 0.0, "ajar": float(rng.uniform(0.1, 0.8)), "open": float(rng.uniform(0.9, 2.6))}.get(state, 0.0)
    inwards = -1 if rng.uniform() < 0.5 else 1
    for k in range(leaves):
        side = -1 if (k == 0 and (leaves == 2 or rng.uniform() < 0.5)) else 1
        swing = 0.0 if leaves == 2 and k == 1 and rng.uniform() < 0.5 else angle
        _leaf(b, rng, side, single, width, height, y_leaf, leaf, swing * inwards, slot, glazed, state)
    visible = bool(min(y_leaf, slack - y_leaf) >= 0.05 or casing >= 0.02 or glazed or angle > 0.1 or contrast > 0.25)
    return angle, visible


def _leaf(
    b: MeshBuilder,
    rng: np.random.Generator,
    side: int,
    single: float,
    width: float,
    height: float,
    y: float,
    thick: float,
    swing: float,
    slot: int,
    glazed: bool,
    state: str,
) -> None:
    """Add one leaf hinged at x = side * width / 2; positive swing turns it out of the room."""
    hinge, yaw = side * width / 2, -side * swing
    cos, sin = math.cos(yaw), math.sin(yaw)
    base = y + thick / 2
    if state in ("sliding", "lift"):
        hinge += side * single * float(rng.uniform(0, 0.8)) if state == "sliding" else 0.0

    def part(along: float, z0: float, long: float, tall: float, cls: int, mat: int, thickness: float, off: float = 0.0) -> None:
        x_local, y_local = -side * along, off
        b.box(hinge + cos * x_local - sin * y_local, base + sin * x_local + cos * y_local, z0, long, thickness, tall, cls, mat, yaw=yaw)

    if glazed:
        rim = float(rng.uniform(0.06, 0.16))
        low = float(rng.choice([rim, 0.25, 1.0]))
        part(rim / 2, 0.01, rim, height - 0.02, DOOR, slot, thick)
        part(single - rim / 2, 0.01, rim, height - 0.02, DOOR, slot, thick)
        part(single / 2, 0.01, single - 2 * rim, low, DOOR, slot, thick)
        part(single / 2, height - rim - 0.01, single - 2 * rim, rim, DOOR, slot, thick)
        part(single / 2, low, single - 2 * rim, height - low - rim, DOOR, Slot.GLASS, 0.008)
    else:
        part(single / 2, 0.01, single - 0.006, height - 0.015, DOOR, slot, thick)
        if rng.uniform() < 0.3:
            part(single / 2, 1.1, 0.2, 0.6, DOOR, Slot.GLASS, thick + 0.01)
    if state != "lift":
        for face in (-1, 1):
            part(single - 0.08, 0.98, 0.13, 0.035, DOOR, Slot.HANDLE, 0.03, face * (thick / 2 + 0.045))
            part(single - 0.05, 0.9, 0.045, 0.2, DOOR, Slot.HANDLE, 0.012, face * (thick / 2 + 0.006))


def add_gate(b: MeshBuilder, rng: np.random.Generator, width: float, height: float, depth: float) -> float:
    """Add a roller or sectional gate (class door), closed or partly up; returns how far it is open, 0..1."""
    add_reveal(b, width, 0, height, depth, DOOR, Slot.DOOR_FRAME, FLOOR, Slot.FLOOR_B)
    up = float(rng.choice([0.0, 0.0, rng.uniform(0.2, 0.95)]))
    y, ribs = depth * float(rng.uniform(0.25, 0.8)), int(rng.integers(4, 9))
    tall = height * (1 - up)
    for k in range(ribs):
        z = height * up + k * tall / ribs
        b.box(0, y + (0.012 if k % 2 else 0), z, width, 0.03, tall / ribs, DOOR, Slot.DOOR_B)
    b.box(0, -0.2, height, width + 0.1, 0.35, 0.35, DOOR, Slot.DOOR_FRAME)
    return up


def add_window(b: MeshBuilder, rng: np.random.Generator, width: float, z0: float, z1: float, depth: float, cover: str) -> bool:
    """Add reveal, frame, mullions, pane and blind or curtain of one window; returns whether a lidar can see it."""
    add_reveal(b, width, z0, z1, depth, WALL, Slot.WALL, WALL, Slot.SKIRTING)
    recess = min(float(rng.uniform(0.05, 0.2)), max(depth - 0.06, 0.0)) if rng.uniform() < 0.85 else 0.005
    rim, thick = float(rng.uniform(0.04, 0.1)), float(rng.uniform(0.04, 0.08))
    h = z1 - z0
    y = recess + thick / 2
    b.box(-width / 2 + rim / 2, y, z0, rim, thick, h, WINDOW, Slot.WINDOW_FRAME)
    b.box(width / 2 - rim / 2, y, z0, rim, thick, h, WINDOW, Slot.WINDOW_FRAME)
    b.box(0, y, z0, width, thick, rim, WINDOW, Slot.WINDOW_FRAME)
    b.box(0, y, z1 - rim, width, thick, rim, WINDOW, Slot.WINDOW_FRAME)
    for k in range(1, max(int(round(width / float(rng.uniform(0.7, 1.5)))), 1)):
        x = -width / 2 + k * width / max(int(round(width / 1.0)), 2)
        if abs(x) < width / 2 - rim:
            b.box(x, y, z0, rim, thick, h, WINDOW, Slot.WINDOW_FRAME)
    if h > 1.4 and rng.uniform() < 0.5:
        b.box(0, y, z0 + h * float(rng.choice([0.3, 0.7])), width, thick, rim, WINDOW, Slot.WINDOW_FRAME)
    b.box(0, y, z0, width - 0.02, 0.008, h, WINDOW, Slot.GLASS)
    if rng.uniform() < 0.5 and z0 > 0.3:
        b.box(0, recess / 2 - 0.05, z0 - 0.02, width + 0.06, recess + 0.1, 0.03, WALL, Slot.SKIRTING)
    if cover == "blind":
        drop = h * float(rng.uniform(0.25, 1.0))
        y = min(0.03, recess / 2) - (0.06 if recess < 0.05 else 0.0)
        for k in range(2):
            b.box(0, y + 0.006 * k, z1 - drop, width - 0.03, 0.01, drop, WINDOW, Slot.BLIND)
    elif cover == "curtain":
        _curtain(b, rng, width, max(z0 - float(rng.uniform(0, 1.0)), 0.03), z1 + 0.1)
    elif cover == "drawn":
        _curtain(b, rng, width * 2, max(z0 - float(rng.uniform(0, 1.0)), 0.03), z1 + 0.1, full=True)
    return recess >= 0.05 or cover != "none" or rim >= 0.05


def _curtain(b: MeshBuilder, rng: np.random.Generator, width: float, z0: float, z1: float, full: bool = False) -> None:
    """Add folds of cloth at both sides of a window, or across it."""
    fold = float(rng.uniform(0.08, 0.18))
    spans = [(-width / 2, width / 2)] if full else [(-width / 2 - 0.15, -width / 2 + 0.25), (width / 2 - 0.25, width / 2 + 0.15)]
    for low, high in spans:
        count = max(int((high - low) / fold), 2)
        xs = np.linspace(low, high, count + 1)
        ys = -0.1 + np.where(np.arange(count + 1) % 2 == 0, -0.03, 0.03)
        for xa, xb, ya, yb in zip(xs[:-1], xs[1:], ys[:-1], ys[1:], strict=True):
            b.quad((xa, ya, z0), (xb, yb, z0), (xb, yb, z1), (xa, ya, z1), WINDOW, Slot.CURTAIN)


def add_glass_wall(b: MeshBuilder, rng: np.random.Generator, width: float, z0: float, height: float, depth: float) -> None:
    """Add a glass partition with mullions over the whole opening (class window)."""
    y, rim = depth / 2, float(rng.uniform(0.03, 0.08))
    count = max(int(round(width / float(rng.uniform(0.8, 1.8)))), 1)
    for k in range(count + 1):
        b.box(-width / 2 + k * width / count, y, z0, rim, rim, height - z0, WINDOW, Slot.WINDOW_FRAME)
    b.box(0, y, z0, width, rim, rim, WINDOW, Slot.WINDOW_FRAME)
    b.box(0, y, height - rim, width, rim, rim, WINDOW, Slot.WINDOW_FRAME)
    if rng.uniform() < 0.3:
        b.box(0, y, 1.0, width, rim, rim, WINDOW, Slot.WINDOW_FRAME)
    b.box(0, y, z0, width, 0.012, height - z0, WINDOW, Slot.GLASS)
    if rng.uniform() < 0.3:  # frosted band that returns like a wall
        b.box(0, y, 0.9, width, 0.016, 0.5, WINDOW, Slot.BLIND)
