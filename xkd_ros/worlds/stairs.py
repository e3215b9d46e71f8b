"""Stairs, railings, ramps, platforms and tiers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import MeshBuilder

STAIRS, FLOOR, WALL = 6, 1, 0


def flight(
    b: MeshBuilder,
    rng: np.random.Generator,
    width: float,
    steps: int,
    rise: float,
    tread: float,
    closed: bool,
    rails: tuple[bool, bool] = (True, True),
    z0: float = 0.0,
    y0: float = 0.0,
    x0: float = 0.0,
    direction: int = 1,
) -> None:
    """Add a straight flight climbing along direction * y from (x0, y0, z0).

    Args:
        b: Builder in the stair's frame.
        rng: Source of details.
        width: Across x.
        steps: Number of steps.
        rise: Height of a step; negative for a flight going down.
        tread: Depth of a step.
        closed: Solid under the steps, else open boards.
        rails: Railing on the -x and the +x side.
        z0: Height of the first tread's lower floor.
        y0: Start along y.
        x0: Middle along x.
        direction: +1 climbs towards +y, -1 towards -y.
    """
    for k in range(steps):
        y = y0 + direction * (k + 0.5) * tread
        top = z0 + (k + 1) * rise
        if rise < 0:
            b.box(x0, y, top - 0.3, width, tread, 0.3, STAIRS, Slot.STAIR)
        elif closed:
            b.box(
                x0,
                y,
                max(top - 0.45, min(z0, 0.0)) if z0 > 0.5 else z0,
                width,
                tread,
                top - (max(top - 0.45, min(z0, 0.0)) if z0 > 0.5 else z0),
                STAIRS,
                Slot.STAIR,
            )
        else:
            b.box(x0, y, top - 0.05, width, tread * 1.1, 0.05, STAIRS, Slot.STAIR)
    end = y0 + direction * steps * tread
    top = z0 + steps * rise
    if not closed:
        for side in (-1, 1):
            b.limb((x0 + side * width / 2, y0, z0), (x0 + side * width / 2, end, top - 0.05), 0.06, STAIRS, Slot.RAILING)
    for side, wanted in zip((-1, 1), rails, strict=True):
        if wanted:
            railing(b, rng, (x0 + side * (width / 2 - 0.04), y0, z0), (x0 + side * (width / 2 - 0.04), end, top))


def railing(b: MeshBuilder, rng: np.random.Generator, p: tuple[float, float, float], q: tuple[float, float, float]) -> None:
    """Add a railing 0.9-1.1 m high between two floor points (class stairs)."""
    h = float(rng.uniform(0.88, 1.1))
    a, c = (p[0], p[1], p[2] + h), (q[0], q[1], q[2] + h)
    b.limb(a, c, 0.025, STAIRS, Slot.RAILING)
    length = float(np.linalg.norm(np.subtract(q, p)))
    kind = int(rng.integers(4))
    if kind == 0:  # a solid or glass panel
        b.quad(
            (p[0], p[1], p[2] + 0.1),
            (q[0], q[1], q[2] + 0.1),
            (q[0], q[1], q[2] + h - 0.1),
            (p[0], p[1], p[2] + h - 0.1),
            STAIRS,
            Slot.GLASS if rng.uniform() < 0.4 else Slot.RAILING,
        )
    elif kind == 1:
        for f in (0.3, 0.6):
            b.limb((p[0], p[1], p[2] + h * f), (q[0], q[1], q[2] + h * f), 0.012, STAIRS, Slot.RAILING)
    gap = (0.12, 0.25, 1.0, 1.2)[(kind + 2) % 4] if kind in (2, 3) else 1.1
    for f in np.linspace(0, 1, max(int(length / gap), 1) + 1):
        x, y, z = (p[i] + float(f) * (q[i] - p[i]) for i in range(3))
        b.cylinder(x, y, z, 0.012 if gap < 0.5 else 0.022, h, STAIRS, Slot.RAILING)


@dataclass(frozen=True)
class Well:
    """Sizes of a stairwell with two opposite flights and a half landing.

    Attributes:
        w: Across x, both flights together.
        d: Along y.
        rise: Height of a step.
        tread: Depth of a step.
        steps: Steps of a flight.
        landing: Depth of the half landing at +y.
    """

    w: float
    d: float
    rise: float
    tread: float
    steps: int
    landing: float

    @property
    def start(self) -> float:
        """Where the flights begin along y, in the well's frame."""
        return self.d / 2 - self.landing - self.steps * self.tread


def plan_well(rng: np.random.Generator, w: float, d: float, height: float) -> Well:
    """Draw the steps of a w by d well in a storey of a height."""
    rise, tread, landing = float(rng.uniform(0.155, 0.185)), float(rng.uniform(0.25, 0.3)), min(w / 2, 1.6)
    return Well(w, d, rise, tread, max(min(int((d - landing - 0.4) / tread), int(height / 2 / rise)), 3), landing)


def stairwell(b: MeshBuilder, rng: np.random.Generator, well: Well, height: float, down: bool) -> None:
    """Add two opposite flights with a half landing; frame in the well's middle, entrance at -y.

    Args:
        b: Builder in the well's frame.
        rng: Source of details.
        well: Sizes.
        height: Storey height.
        down: The second flight goes down through a hole that the caller left in the floor, else on upwards.
    """
    w, rise, tread, steps, start = well.w, well.rise, well.tread, well.steps, well.start
    inner, back, half = well.d / 2 - well.landing, well.d / 2, w / 2 - 0.06
    closed = rng.uniform() < 0.6
    flight(b, rng, half, steps, rise, tread, closed, (True, True), 0.0, start, -w / 4)
    middle, deep = steps * rise, -steps * rise - 0.2
    b.box(0, (inner + back) / 2, middle - 0.2, w, well.landing, 0.2, STAIRS, Slot.STAIR)
    if down:
        flight(b, rng, half, steps, -rise, tread, True, (True, True), 0.0, start, w / 4)
        b.quad((0, start, 0), (0, inner, 0), (0, inner, deep), (0, start, deep), WALL, Slot.WALL)
        b.quad((w / 2, start, 0), (w / 2, back, 0), (w / 2, back, deep), (w / 2, start, deep), WALL, Slot.WALL)
        b.quad((0, back, 0), (w / 2, back, 0), (w / 2, back, deep), (0, back, deep), WALL, Slot.WALL)
        b.box(w / 4, (inner + back) / 2, deep, w / 2, well.landing, 0.2, STAIRS, Slot.STAIR)
    else:
        more = min(steps, max(int((height - middle) / rise), 1))
        flight(b, rng, half, more, rise, tread, closed, (True, True), middle, inner, w / 4, -1)


def straight_stair(b: MeshBuilder, rng: np.random.Generator, width: float, length: float, height: float) -> None:
    """Add one free flight along +y with a landing on top."""
    tread = float(rng.uniform(0.25, 0.31))
    steps = max(int((length - 0.9) / tread), 2)
    rise = min(float(rng.uniform(0.155, 0.19)), height / steps)
    flight(b, rng, width, steps, rise, tread, rng.uniform() < 0.5, (True, True), 0.0, -length / 2)
    b.box(0, length / 2 - 0.45, steps * rise - 0.18, width, 0.9, 0.18, STAIRS, Slot.STAIR)
    railing(b, rng, (-width / 2, length / 2, steps * rise), (width / 2, length / 2, steps * rise))
    for side in (-1, 1):
        b.box(side * (width / 2 - 0.06), length / 2 - 0.1, 0, 0.1, 0.1, steps * rise - 0.18, STAIRS, Slot.RAILING)


def few_steps(b: MeshBuilder, rng: np.random.Generator, width: float, steps: int) -> None:
    """Add a short flight of free steps, as before a stage."""
    flight(
        b,
        rng,
        width,
        steps,
        float(rng.uniform(0.12, 0.18)),
        float(rng.uniform(0.26, 0.34)),
        True,
        (rng.uniform() < 0.3, False),
        0.0,
        -steps * 0.15,
    )


def ladder(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add a step ladder (clutter)."""
    h, w = float(rng.uniform(1.0, 2.4)), 0.45
    for side in (-1, 1):
        b.limb((side * w / 2, 0.35, 0), (side * w / 3, 0, h), 0.025, 11, Slot.METAL)
        b.limb((side * w / 2, -0.35, 0), (side * w / 3, 0, h), 0.02, 11, Slot.METAL)
    for f in np.arange(0.12, 0.95, 0.28 / h):
        b.box(0, 0.35 * (1 - float(f)), h * float(f), w * (1 - 0.3 * float(f)), 0.08, 0.03, 11, Slot.METAL)


def stage(b: MeshBuilder, rng: np.random.Generator, w: float, d: float, h: float) -> None:
    """Add a platform with its top as floor and a step at its front now and then."""
    b.box(0, 0, 0, w, d, h, FLOOR, Slot.WOOD)
    if h > 0.3 and rng.uniform() < 0.6:
        b.box(float(rng.uniform(-0.3, 0.3)) * w, d / 2 + 0.15, 0, 1.0, 0.3, h / 2, STAIRS, Slot.STAIR)
