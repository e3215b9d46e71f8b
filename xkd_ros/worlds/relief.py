"""Walls that are not flat: cable channels, wainscots, ribs, corrugated sheet, cornices, rails (all class wall).

Real walls are seldom a plane; a network that saw only planes calls every deviation furniture.
"""

from __future__ import annotations

import numpy as np

from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import MeshBuilder
from xkd_ros.worlds.shell import OUT_YAW, WALL, RoomShell


def build_relief(b: MeshBuilder, rng: np.random.Generator, room: RoomShell) -> None:
    """Give the walls of a room one or two kinds of relief now and then."""
    for _ in range(int(rng.choice([0, 1, 2], p=[0.55, 0.33, 0.12]))):
        kind = str(rng.choice(["channel", "wainscot", "ribs", "cornice", "rail"], p=[0.3, 0.15, 0.25, 0.15, 0.15]))
        z0, z1, out = _profile(rng, kind, room.height)
        step = float(rng.uniform(0.12, 1.2))
        every = bool(rng.uniform() < 0.6)
        for edge in range(4):
            if not every and rng.uniform() < 0.5:
                continue
            for low, high in _free_stretches(room, edge, z0, z1):
                if high - low < 0.3:
                    continue
                x, y = room.point(edge, (low + high) / 2)
                b.frame(x, y, 0.0, OUT_YAW[edge])
                if kind == "ribs":
                    width = step * 0.45
                    for along in np.arange(-(high - low) / 2 + width / 2, (high - low) / 2 - width / 2, step).tolist():
                        b.box(along, -out / 2, z0, width, out, z1 - z0, WALL, Slot.WALL_B)
                else:
                    b.box(0, -out / 2, z0, high - low, out, z1 - z0, WALL, Slot.WALL_B)


def _profile(rng: np.random.Generator, kind: str, height: float) -> tuple[float, float, float]:
    """Draw lower and upper edge and how far it stands out."""
    if kind == "channel":
        z0 = float(rng.uniform(0.15, 1.1))
        return z0, z0 + float(rng.uniform(0.08, 0.2)), float(rng.uniform(0.04, 0.12))
    if kind == "wainscot":
        return 0.0, float(rng.uniform(0.7, 1.5)), float(rng.uniform(0.015, 0.08))
    if kind == "ribs":
        z0 = float(rng.choice([0.0, 0.0, rng.uniform(0.3, 2.0)]))
        return min(z0, height - 0.4), height, float(rng.uniform(0.02, 0.15))
    if kind == "cornice":
        size = float(rng.uniform(0.06, 0.25))
        return height - size, height, size
    z0 = float(rng.uniform(0.7, 1.1))
    return z0, z0 + 0.05, float(rng.uniform(0.05, 0.09))


def _free_stretches(room: RoomShell, edge: int, z0: float, z1: float) -> list[tuple[float, float]]:
    """Return the intervals of a wall that nothing interrupts between two heights."""
    first, last = room.free_range[edge]
    used = [(o.low, o.high, o.z0, o.z1) for o in room.openings[edge]] + room.taken[edge]
    stretches, cursor = [], first
    for low, high in sorted((low, high) for low, high, bottom, top in used if bottom < z1 and top > z0):
        if low > cursor:
            stretches.append((cursor, low - 0.08))
        cursor = max(cursor, high + 0.08)
    if last > cursor:
        stretches.append((cursor, last))
    return stretches
