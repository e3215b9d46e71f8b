"""Ceilings and what hangs from them: lamps, ducts, pipes, cable trays, beams, trusses, baffles, cranes."""

from __future__ import annotations

import math

import numpy as np

from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import MeshBuilder
from xkd_ros.worlds.shell import WALL, RoomShell

CEILING = 2


def build_ceiling(b: MeshBuilder, rng: np.random.Generator, room: RoomShell) -> None:
    """Add the ceiling of a room and its services."""
    x0, y0, x1, y1, h = room.x0, room.y0, room.x1, room.y1, room.height
    kind = room.cell.ceiling
    mat = int(Slot.CEILING if kind == "flat" else Slot.CEILING_B)
    b.frame()
    if kind == "gabled":
        _gable(b, rng, room, mat)
    elif kind == "none":
        if rng.uniform() < 0.6:
            top = h + float(rng.uniform(2, 7))
            b.quad((x0 - 4, y0 - 4, top), (x1 + 4, y0 - 4, top), (x1 + 4, y1 + 4, top), (x0 - 4, y1 + 4, top), CEILING, mat)
    else:
        b.quad((x0, y0, h), (x1, y0, h), (x1, y1, h), (x0, y1, h), CEILING, mat)
    if kind == "beams":
        _beams(b, rng, room)
    if kind in ("open", "beams", "gabled") and rng.uniform() < 0.85:
        for _ in range(1 + int(rng.integers(0, 3 + int(room.area > 50) * 5))):
            _service(b, rng, room)
    elif kind == "flat" and rng.uniform() < 0.12:
        _service(b, rng, room)
    _lamps(b, rng, room)
    if rng.uniform() < 0.22 and room.height > 2.6:
        _sails(b, rng, room)
    if kind == "flat":
        _details(b, rng, room)
    if room.kind in ("workshop", "hall") and h > 4.5 and rng.uniform() < 0.4:
        _crane(b, rng, room)


def _gable(b: MeshBuilder, rng: np.random.Generator, room: RoomShell, mat: int) -> None:
    x0, y0, x1, y1, h = room.x0, room.y0, room.x1, room.y1, room.height
    along_x = (x1 - x0) >= (y1 - y0)
    span = (y1 - y0) if along_x else (x1 - x0)
    rise = span * float(rng.uniform(0.1, 0.45))
    peak = float(rng.choice([0.5, 0.5, 0.0, 1.0, 0.3]))

    def at(u: float, v: float, z: float) -> tuple[float, float, float]:
        return (u, v, z) if along_x else (v, u, z)

    (u0, u1), (v0, v1) = ((x0, x1), (y0, y1)) if along_x else ((y0, y1), (x0, x1))
    ridge = v0 + peak * (v1 - v0)
    b.quad(at(u0, v0, h), at(u1, v0, h), at(u1, ridge, h + rise), at(u0, ridge, h + rise), CEILING, mat)
    b.quad(at(u0, v1, h), at(u1, v1, h), at(u1, ridge, h + rise), at(u0, ridge, h + rise), CEILING, mat)
    for u in (u0, u1):
        b.quad(at(u, v0, h), at(u, v1, h), at(u, ridge, h + rise), at(u, ridge, h + rise), WALL, Slot.WALL)
    if peak in (0.0, 1.0):
        v = v0 if peak == 0.0 else v1
        b.quad(at(u0, v, h), at(u1, v, h), at(u1, v, h + rise), at(u0, v, h + rise), WALL, Slot.WALL)
    step = float(rng.uniform(2, 5))
    for u in np.arange(u0 + step / 2, u1, step).tolist():
        p, q, r = at(u, v0, h - 0.1), at(u, v1, h - 0.1), at(u, ridge, h + rise - 0.15)
        for a, c in ((p, q), (p, r), (q, r)):
            b.limb(a, c, 0.07, CEILING, Slot.BEAM)
        for f in (0.3, 0.5, 0.7):
            v = v0 + f * (v1 - v0)
            reach = f / max(peak, 1e-3) if f < peak else (1 - f) / max(1 - peak, 1e-3)
            b.limb(at(u, v, h - 0.1), at(u, v, h + rise * min(reach, 1.0) - 0.15), 0.04, CEILING, Slot.BEAM)


def _beams(b: MeshBuilder, rng: np.random.Generator, room: RoomShell) -> None:
    deep, wide, step = float(rng.uniform(0.12, 0.6)), float(rng.uniform(0.1, 0.45)), float(rng.uniform(1.2, 5))
    deep = min(deep, room.height - 2.1)
    if deep < 0.08:
        return
    along_x = rng.uniform() < 0.5
    both = rng.uniform() < 0.25
    cx, cy = (room.x0 + room.x1) / 2, (room.y0 + room.y1) / 2
    z = room.height - deep
    if along_x or both:
        for y in np.arange(room.y0 + step / 2, room.y1, step).tolist():
            b.box(cx, y, z, room.x1 - room.x0, wide, deep, CEILING, Slot.BEAM)
    if not along_x or both:
        for x in np.arange(room.x0 + step / 2, room.x1, step).tolist():
            b.box(x, cy, z, wide, room.y1 - room.y0, deep, CEILING, Slot.BEAM)


def _service(b: MeshBuilder, rng: np.random.Generator, room: RoomShell) -> None:
    """Add a duct, a bundle of pipes or a cable tray along the room."""
    along_x = (rng.uniform() < 0.7) == ((room.x1 - room.x0) > (room.y1 - room.y0))
    low, high, side0, side1 = (room.x0, room.x1, room.y0, room.y1) if along_x else (room.y0, room.y1, room.x0, room.x1)
    side = float(rng.uniform(side0 + 0.2, side1 - 0.2)) if side1 - side0 > 0.6 else (side0 + side1) / 2
    drop = float(rng.uniform(0.05, max(0.1, min(2.0, room.height - 2.9))))
    z = room.height - drop
    kind = str(rng.choice(["round", "square", "pipes", "tray"], p=[0.3, 0.25, 0.25, 0.2]))
    middle, long = (low + high) / 2, high - low
    b.frame(0, 0, 0, 0)

    def bar(offset: float, z0: float, wide: float, tall: float) -> None:
        if along_x:
            b.box(middle, side + offset, z0, long, wide, tall, CEILING, Slot.DUCT)
        else:
            b.box(side + offset, middle, z0, wide, long, tall, CEILING, Slot.DUCT)

    def tube(offset: float, zc: float, radius: float) -> None:
        p, q = ((low, side + offset, zc), (high, side + offset, zc)) if along_x else ((side + offset, low, zc), (side + offset, high, zc))
        b.limb(p, q, radius, CEILING, Slot.DUCT, sides=12)

    if kind == "round":
        radius = float(rng.uniform(0.1, 0.4))
        tube(0, max(z - radius, 2.3), radius)
    elif kind == "square":
        tall = float(rng.uniform(0.15, 0.5))
        bar(0, max(z - tall, 2.15), float(rng.uniform(0.25, 0.9)), tall)
    elif kind == "pipes":
        for k in range(int(rng.integers(1, 6))):
            tube(0.17 * k, max(z - 0.1, 2.2), float(rng.uniform(0.02, 0.07)))
    else:
        wide = float(rng.uniform(0.15, 0.5))
        bar(0, max(z - 0.08, 2.2), wide, 0.02)
        for edge in (-wide / 2, wide / 2):
            bar(edge, max(z - 0.08, 2.2), 0.012, 0.08)


def _lamps(b: MeshBuilder, rng: np.random.Generator, room: RoomShell) -> None:
    """Add a grid of lamps, flush with the ceiling or hung from it."""
    if rng.uniform() < 0.12:
        return
    kind = str(rng.choice(["panel", "tube", "pendant", "highbay", "baffle"], p=[0.36, 0.3, 0.16, 0.12, 0.06]))
    if kind == "highbay" and room.height < 3.6:
        kind = "tube"
    step = float(rng.uniform(1.6, 4.0)) * (1.0 if room.area < 80 else 1.4)
    hung = kind in ("pendant", "highbay", "baffle") or (kind == "tube" and rng.uniform() < 0.55)
    drop = float(rng.uniform(0.15, max(0.2, min(3.0, room.height - 2.2)))) if hung else float(rng.uniform(0.0, 0.08))
    z = room.height - drop
    turned = rng.uniform() < 0.5
    long, wide = (float(rng.uniform(1.1, 1.6)), float(rng.uniform(0.06, 0.3))) if kind == "tube" else (0.6, 0.6)
    if kind == "baffle":
        long, wide = float(rng.uniform(0.8, 2.4)), float(rng.uniform(0.04, 1.2))
    rope = hung and rng.uniform() < 0.8
    xs = np.arange(room.x0 + step / 2, room.x1 - 0.3, step)
    ys = np.arange(room.y0 + step / 2, room.y1 - 0.3, step)
    for x in xs:
        for y in ys:
            if rng.uniform() < 0.06:
                continue
            b.frame(float(x), float(y), 0, math.pi / 2 if turned else 0.0)
            if kind == "pendant":
                b.sphere(0, 0, z - 0.12, 0.2, 0.2, 0.14, CEILING, Slot.LAMP)
            elif kind == "highbay":
                b.cylinder(0, 0, z - 0.3, 0.22, 0.16, CEILING, Slot.LAMP, sides=12)
                b.cylinder(0, 0, z - 0.15, 0.1, 0.15, CEILING, Slot.METAL_DARK)
            elif kind == "baffle":
                b.box(0, 0, z - 0.25, long, wide, 0.25 if wide < 0.2 else 0.05, CEILING, Slot.CEILING_B)
            else:
                b.box(0, 0, z - 0.05, long, wide, 0.06 if hung else 0.05 + drop, CEILING, Slot.LAMP)
            if rope:
                for side in (-1, 1) if long > 0.8 else (0,):
                    b.cylinder(side * long * 0.4, 0, z, 0.006, drop, CEILING, Slot.METAL_DARK)


def _details(b: MeshBuilder, rng: np.random.Generator, room: RoomShell) -> None:
    """Add smoke detectors, projectors, vents and lowered ceiling parts."""
    h = room.height
    if rng.uniform() < 0.18 and room.area > 8:
        wide = float(rng.uniform(0.4, 1.4))
        low = min(float(rng.uniform(0.12, 0.5)), h - 2.15)
        if low > 0.08:
            b.frame()
            edge = int(rng.integers(4))
            cx, cy = (room.x0 + room.x1) / 2, (room.y0 + room.y1) / 2
            at = [(cx, room.y0 + wide / 2), (room.x1 - wide / 2, cy), (cx, room.y1 - wide / 2), (room.x0 + wide / 2, cy)][edge]
            size = (room.x1 - room.x0, wide) if edge % 2 == 0 else (wide, room.y1 - room.y0)
            b.box(*at, h - low, *size, low, CEILING, Slot.CEILING)
    for _ in range(int(rng.integers(0, 4))):
        b.frame(float(rng.uniform(room.x0 + 0.3, room.x1 - 0.3)), float(rng.uniform(room.y0 + 0.3, room.y1 - 0.3)))
        if rng.uniform() < 0.25:
            b.cylinder(0, 0, h - 0.4, 0.03, 0.4, CEILING, Slot.PLASTIC)
            b.box(0, 0, h - 0.55, 0.35, 0.3, 0.15, CEILING, Slot.PLASTIC)
        else:
            b.box(0, 0, h - 0.04, 0.4, 0.4, 0.05, CEILING, Slot.PLASTIC)


def _sails(b: MeshBuilder, rng: np.random.Generator, room: RoomShell) -> None:
    """Add acoustic sails, fans and lowered patches at different heights and slight tilts."""
    for _ in range(int(rng.integers(2, 4 + min(int(room.area / 8), 25)))):
        w, d = float(rng.uniform(0.6, 2.4)), float(rng.uniform(0.5, 1.3))
        if room.x1 - room.x0 < w + 0.2 or room.y1 - room.y0 < w + 0.2:
            continue
        z = room.height - float(rng.uniform(0.08, max(0.1, min(1.2, room.height - 2.35))))
        b.frame(
            float(rng.uniform(room.x0 + w / 2, room.x1 - w / 2)),
            float(rng.uniform(room.y0 + w / 2, room.y1 - w / 2)),
            0,
            float(rng.integers(4)) * math.pi / 2,
        )
        b.box(0, 0, z - 0.04, w, d, 0.04, CEILING, Slot.CEILING, pitch=float(rng.normal(0, 0.06)) if rng.uniform() < 0.4 else 0.0)


def _crane(b: MeshBuilder, rng: np.random.Generator, room: RoomShell) -> None:
    """Add a bridge crane: two rails, a girder and a hoist."""
    z, cx, cy = room.height - float(rng.uniform(0.8, 1.5)), (room.x0 + room.x1) / 2, (room.y0 + room.y1) / 2
    b.frame()
    for y in (room.y0 + 0.25, room.y1 - 0.25):
        b.box(cx, y, z, room.x1 - room.x0, 0.25, 0.4, CEILING, Slot.BEAM)
    x = float(rng.uniform(room.x0 + 1, room.x1 - 1))
    b.box(x, cy, z + 0.1, 0.4, room.y1 - room.y0, 0.6, CEILING, Slot.MACHINE)
    y = float(rng.uniform(room.y0 + 1, room.y1 - 1))
    b.box(x, y, z - 0.4, 0.5, 0.6, 0.5, CEILING, Slot.MACHINE_B)
    b.cylinder(x, y, z - 1.6, 0.02, 1.2, CEILING, Slot.METAL_DARK)


def add_column(b: MeshBuilder, rng: np.random.Generator, x: float, y: float, height: float, width: float, round_: bool) -> None:
    """Add one column from floor to ceiling, with a base or capital now and then."""
    b.frame(x, y)
    if round_:
        b.cylinder(0, 0, 0, width / 2, height, 5, Slot.COLUMN, sides=24)
    else:
        b.box(0, 0, 0, width, width, height, 5, Slot.COLUMN)
    if rng.uniform() < 0.15:
        b.box(0, 0, 0, width * 1.3, width * 1.3, 0.25, 5, Slot.COLUMN)
    if rng.uniform() < 0.1:
        b.box(0, 0, height - 0.3, width * 1.5, width * 1.5, 0.3, 5, Slot.COLUMN)
