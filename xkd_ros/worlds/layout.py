"""Floor plans: where the rooms of a building are, what they are for and how high they are.

Comes in: a random generator and a plan name. Goes out: a `Plan` of rectangles, for `shell` to put walls around.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np


@dataclass
class Cell:
    """One room before it has walls: a rectangle between wall centre lines.

    Attributes:
        x0: Metres, as y0, x1 and y1.
        kind: What the room is for.
        height_m: Ceiling height.
        ceiling: flat, open (services visible), beams, gabled or none.
        cuts: Corner cuts as (corner 0-3 counter-clockwise from x0 y0, kind chamfer|notch|round, size x, size y).
    """

    x0: float
    y0: float
    x1: float
    y1: float
    kind: str
    height_m: float = 2.7
    ceiling: str = "flat"
    cuts: list[tuple[int, str, float, float]] = field(default_factory=list)

    @property
    def size(self) -> tuple[float, float]:
        """Extent along x and y."""
        return self.x1 - self.x0, self.y1 - self.y0


@dataclass
class Plan:
    """Rooms that touch each other, wall thickness and the taste of the building."""

    name: str
    cells: list[Cell]
    wall_m: float
    outer_wall_m: float


SMALL = [
    "office",
    "office",
    "office",
    "meeting",
    "lab",
    "storage",
    "kitchen",
    "toilet",
    "lounge",
    "copyroom",
    "bedroom",
    "library",
    "stairwell",
]
MEDIUM = [
    "classroom",
    "classroom",
    "lab",
    "lab",
    "openoffice",
    "workshop",
    "library",
    "lounge",
    "meeting",
    "storage",
    "lecture",
    "canteen",
    "stairwell",
]
LARGE = ["hall", "workshop", "workshop", "openoffice", "lecture", "library", "canteen", "lobby", "gym", "storage", "lab"]


def kind_for(rng: np.random.Generator, area_m2: float) -> str:
    """Draw what a room of this size is for."""
    pool = SMALL if area_m2 < 28 else MEDIUM if area_m2 < 110 else LARGE
    return str(pool[int(rng.integers(len(pool)))])


def _slices(rng: np.random.Generator, length: float, low: float, high: float) -> list[float]:
    """Cut a length into pieces between low and high; returns the borders."""
    borders = [0.0]
    while length - borders[-1] > high:
        borders.append(borders[-1] + float(rng.uniform(low, min(high, length - borders[-1] - low))))
        if length - borders[-1] < low:
            borders.pop()
            break
    borders.append(length)
    return borders


def _row(rng: np.random.Generator, x0: float, x1: float, y0: float, y1: float, low: float, high: float) -> list[Cell]:
    borders = _slices(rng, x1 - x0, low, high)
    cells = []
    for a, b in pairwise(borders):
        cells.append(Cell(x0 + a, y0, x0 + b, y1, kind_for(rng, (b - a) * (y1 - y0))))
    return cells


def _corridor(rng: np.random.Generator) -> list[Cell]:
    length, width = float(rng.uniform(12, 48)), float(rng.choice([rng.uniform(1.3, 2.4), rng.uniform(2.2, 4.0)]))
    low = float(rng.choice([2.6, 3.4, 5.0, 7.0]))
    cells = []
    cross = float(rng.uniform(0.3, 0.7)) * length if rng.uniform() < 0.4 and length > 18 else None
    cross_width = float(rng.uniform(1.4, 3.5))
    up, down = float(rng.uniform(3.2, 11)), float(rng.uniform(3.2, 11))
    spans = [(0.0, length)] if cross is None else [(0.0, cross), (cross + cross_width, length)]
    for a, b in spans:
        cells += _row(rng, a, b, width, width + up, low, low * 2.5)
        if rng.uniform() < 0.85:
            cells += _row(rng, a, b, -down, 0.0, low, low * 2.5)
    if cross is not None:
        cells.append(Cell(cross, width, cross + cross_width, width + up, "corridor"))
        if rng.uniform() < 0.6:
            cells.append(Cell(cross, -down, cross + cross_width, 0.0, "corridor"))
    cells.append(Cell(0.0, 0.0, length, width, "corridor"))
    if rng.uniform() < 0.6:
        size = float(rng.uniform(4, 10))
        kind = str(rng.choice(["lobby", "stairwell", "stairwell", "lounge", "hall"]))
        cells.append(Cell(length, width / 2 - size / 2, length + size, width / 2 + size / 2, kind))
    return cells


def _hall(rng: np.random.Generator) -> list[Cell]:
    wide, deep = float(rng.uniform(9, 32)), float(rng.uniform(7, 21))
    kind = str(rng.choice(["workshop", "hall", "workshop", "gym", "lobby", "storage", "canteen"]))
    cells = [Cell(0, 0, wide, deep, kind, float(rng.uniform(3.6, 9.0)))]
    if rng.uniform() < 0.8:
        cells += _row(rng, 0, wide, -float(rng.uniform(3, 6)), 0, 3, 9)
    if rng.uniform() < 0.4:
        cells += _row(rng, 0, wide, deep, deep + float(rng.uniform(2, 6)), 3, 10)
    if rng.uniform() < 0.35:
        cells.append(Cell(wide, 0, wide + float(rng.uniform(3, 14)), deep, str(rng.choice(["workshop", "stairwell", "hall", "lab"]))))
    return cells


def _split(rng: np.random.Generator, cell: Cell, smallest: float) -> list[Cell]:
    wide, deep = cell.size
    if wide * deep < smallest or max(wide, deep) < 4.0 or min(wide, deep) < 2.0:
        return [cell]
    cut = float(rng.uniform(0.32, 0.68))
    if wide > deep:
        x = cell.x0 + cut * wide
        parts = [Cell(cell.x0, cell.y0, x, cell.y1, ""), Cell(x, cell.y0, cell.x1, cell.y1, "")]
    else:
        y = cell.y0 + cut * deep
        parts = [Cell(cell.x0, cell.y0, cell.x1, y, ""), Cell(cell.x0, y, cell.x1, cell.y1, "")]
    return [leaf for part in parts for leaf in _split(rng, part, smallest)]


def _house(rng: np.random.Generator) -> list[Cell]:
    cells = _split(rng, Cell(0, 0, float(rng.uniform(8, 24)), float(rng.uniform(6, 18)), ""), float(rng.uniform(14, 90)))
    for cell in cells:
        wide, deep = cell.size
        slim = min(wide, deep) < 2.4 and max(wide, deep) / min(wide, deep) > 2
        cell.kind = "corridor" if slim else kind_for(rng, wide * deep)
    return cells


def _single(rng: np.random.Generator) -> list[Cell]:
    wide, deep = float(rng.uniform(4.5, 16)), float(rng.uniform(4, 11))
    kind = str(
        rng.choice(
            ["classroom", "office", "lab", "openoffice", "meeting", "workshop", "library", "lecture", "lounge", "canteen", "kitchen"]
        )
    )
    cells = [Cell(0, 0, wide, deep, kind, float(rng.uniform(2.4, 4.2)))]
    if rng.uniform() < 0.8:
        cells.append(Cell(-float(rng.uniform(0, 8)), -float(rng.uniform(1.6, 3)), wide + float(rng.uniform(0, 8)), 0, "corridor"))
    if rng.uniform() < 0.4:
        other = float(rng.uniform(3, 7))
        cells.append(Cell(wide, 0, wide + other, deep, kind_for(rng, other * deep)))
    return cells


def _garage(rng: np.random.Generator) -> list[Cell]:
    wide, deep = float(rng.uniform(16, 40)), float(rng.uniform(12, 26))
    cells = [Cell(0, 0, wide, deep, "garage", float(rng.uniform(2.2, 3.6)), "beams" if rng.uniform() < 0.5 else "open")]
    cells.append(Cell(wide, deep / 3, wide + 5, deep / 3 + float(rng.uniform(3, 6)), "stairwell"))
    if rng.uniform() < 0.6:
        cells += _row(rng, 0, wide, -float(rng.uniform(2.5, 5)), 0, 3, 8)
        for cell in cells[2:]:
            cell.kind = str(rng.choice(["storage", "corridor", "workshop", "copyroom"]))
    return cells


def _open(rng: np.random.Generator) -> list[Cell]:
    wide, deep, side = float(rng.uniform(10, 30)), float(rng.uniform(7, 16)), float(rng.uniform(2.6, 4.5))
    cells = [Cell(0, 0, wide, deep, "openoffice", float(rng.uniform(2.5, 4.0)))]
    cells += _row(rng, 0, wide, deep, deep + side, 2.4, 6)
    for cell in cells[1:]:
        cell.kind = str(rng.choice(["meeting", "office", "meeting", "copyroom", "kitchen"]))
    if rng.uniform() < 0.5:
        cells.append(Cell(0, -2.2, wide, 0, "corridor"))
    return cells


def _atrium(rng: np.random.Generator) -> list[Cell]:
    size, deep = float(rng.uniform(7, 18)), float(rng.uniform(7, 16))
    kind = str(rng.choice(["lobby", "stairwell", "stairwell", "hall"]))
    cells = [Cell(0, 0, size, deep, kind, float(rng.uniform(4.5, 12)))]
    width = float(rng.uniform(1.8, 3.5))
    at = float(rng.uniform(0, deep - width))
    cells.append(Cell(size, at, size + float(rng.uniform(6, 22)), at + width, "corridor"))
    if rng.uniform() < 0.5:
        cells.append(Cell(-float(rng.uniform(6, 16)), at, 0, at + width, "corridor"))
    cells += _row(rng, 0, size, deep, deep + float(rng.uniform(3, 7)), 3, 9)
    if rng.uniform() < 0.6:
        cells += _row(rng, 0, size, -float(rng.uniform(3, 7)), 0, 3, 9)
    return cells


PLANS: dict[str, Callable[[np.random.Generator], list[Cell]]] = {
    "corridor": _corridor,
    "hall": _hall,
    "house": _house,
    "single": _single,
    "garage": _garage,
    "open": _open,
    "atrium": _atrium,
}
_ODDS = {"corridor": 0.25, "hall": 0.25, "house": 0.08, "single": 0.19, "garage": 0.05, "open": 0.1, "atrium": 0.08}


def make_plan(rng: np.random.Generator, name: str = "auto", shifted: bool = False) -> Plan:
    """Draw a floor plan.

    Args:
        rng: Source of every choice.
        name: Plan name, or "auto" to draw one.
        shifted: Other proportions and heights than any training building.
    """
    if name not in PLANS:
        name = str(rng.choice(list(_ODDS), p=list(_ODDS.values())))
    cells = PLANS[name](rng)
    base = float(np.clip(rng.normal(2.75, 0.3), 2.3, 3.7))
    if shifted:
        base = float(rng.choice([2.28, 3.35, 4.3]))
        stretch = np.array([1.35, 0.8]) if rng.uniform() < 0.5 else np.array([0.75, 1.3])
        for cell in cells:
            cell.x0, cell.x1 = cell.x0 * stretch[0], cell.x1 * stretch[0]
            cell.y0, cell.y1 = cell.y0 * stretch[1], cell.y1 * stretch[1]
    tall = {"hall", "workshop", "gym", "lobby", "garage", "stairwell", "canteen", "lecture", "storage"}
    for cell in cells:
        wide, deep = cell.size
        given = cell.height_m
        if given == 2.7:
            cell.height_m = base + (0.0 if rng.uniform() < 0.7 else float(rng.uniform(-0.35, 0.9)))
        if cell.kind in tall and cell.kind != "garage" and wide * deep > 60 and given == 2.7:
            cell.height_m = float(rng.uniform(3.2, 8.5))
        if cell.kind == "corridor" and rng.uniform() < 0.5:
            cell.height_m = max(2.25, cell.height_m - float(rng.uniform(0, 0.5)))
        cell.height_m = max(cell.height_m, 2.2)
        if cell.ceiling == "flat":
            loft = cell.height_m > 3.6
            cell.ceiling = str(
                rng.choice(
                    ["flat", "open", "beams", "gabled", "none"],
                    p=[0.25, 0.32, 0.25, 0.13, 0.05] if loft else [0.72, 0.13, 0.08, 0.03, 0.04],
                )
            )
        _cut_corners(rng, cell, shifted)
    return Plan(name, cells, float(rng.uniform(0.08, 0.35)), float(rng.uniform(0.18, 0.5)))


def _cut_corners(rng: np.random.Generator, cell: Cell, shifted: bool) -> None:
    """Make the rectangle L-shaped, slanted or round now and then."""
    wide, deep = cell.size
    if min(wide, deep) < 2.2 or cell.kind == "corridor":
        return
    for corner in range(4):
        if rng.uniform() > (0.45 if shifted else 0.19):
            continue
        kind = str(rng.choice(["chamfer", "notch", "round"], p=[0.6, 0.2, 0.2] if shifted else [0.22, 0.66, 0.12]))
        share = 0.45 if kind != "notch" else 0.4
        cell.cuts.append((corner, kind, float(rng.uniform(0.08, share)) * wide, float(rng.uniform(0.08, share)) * deep))
