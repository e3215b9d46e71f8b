"""Walls, floors and reveals around the rooms of a plan.

Comes in: a `Plan`. Goes out: triangles in a `MeshBuilder` and `RoomShell` objects that remember walls and openings, for the
furnishing of the rooms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from xkd_ros.worlds.layout import Cell
from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import MeshBuilder

WALL, FLOOR = 0, 1
# outward direction and yaw of a frame whose +y points outwards, for bottom, right, top and left walls
NORMALS = ((0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0))
OUT_YAW = (math.pi, -math.pi / 2, 0.0, math.pi / 2)


@dataclass
class Opening:
    """A hole in a wall: low..high along the wall's world axis, z0..z1 upwards."""

    low: float
    high: float
    z0: float
    z1: float


@dataclass
class RoomShell:
    """A room with walls.

    Attributes:
        cell: The plan's rectangle.
        x0, y0, x1, y1: Inner wall surfaces.
        openings: Per wall (bottom, right, top, left) the openings cut into it.
        taken: Per wall, intervals (low, high, z0, z1) that carry something already.
        free_range: Per wall, the interval of its straight part after corner cuts.
        density: 0 empty .. 1 crammed.
    """

    cell: Cell
    x0: float
    y0: float
    x1: float
    y1: float
    openings: list[list[Opening]] = field(default_factory=lambda: [[], [], [], []])
    taken: list[list[tuple[float, float, float, float]]] = field(default_factory=lambda: [[], [], [], []])
    free_range: list[tuple[float, float]] = field(default_factory=list)
    density: float = 0.5
    hole: tuple[float, float, float, float] | None = None

    @property
    def height(self) -> float:
        """Floor to ceiling."""
        return self.cell.height_m

    @property
    def kind(self) -> str:
        """What the room is for."""
        return self.cell.kind

    @property
    def area(self) -> float:
        """Floor area of the rectangle."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)

    def wall_line(self, edge: int) -> float:
        """Return the fixed coordinate of a wall."""
        return (self.y0, self.x1, self.y1, self.x0)[edge]

    def point(self, edge: int, along: float) -> tuple[float, float]:
        """Return the world xy of a position along a wall."""
        return (along, self.wall_line(edge)) if edge % 2 == 0 else (self.wall_line(edge), along)

    def wall_free(self, edge: int, low: float, high: float, z0: float, z1: float) -> bool:
        """Tell whether a patch of wall is inside the straight part and not used."""
        first, last = self.free_range[edge]
        if low < first or high > last:
            return False
        used = [(o.low, o.high, o.z0, o.z1) for o in self.openings[edge]] + self.taken[edge]
        return all(high <= a or low >= b or z1 <= c or z0 >= d for a, b, c, d in used)


def make_shell(cell: Cell, wall_m: float) -> RoomShell:
    """Make the inner surfaces of a room and find the straight part of each wall."""
    half = wall_m / 2
    room = RoomShell(cell, cell.x0 + half, cell.y0 + half, cell.x1 - half, cell.y1 - half)
    near, far = [0.0] * 4, [0.0] * 4  # length lost at the low and the high end of each wall
    for corner, _, cx, cy in cell.cuts:
        bottom_or_top, left_or_right = (0, 0, 2, 2)[corner], (3, 1, 1, 3)[corner]
        (near if corner in (0, 3) else far)[bottom_or_top] = cx
        (near if corner in (0, 1) else far)[left_or_right] = cy
    lows, highs = (room.x0, room.y0, room.x0, room.y0), (room.x1, room.y1, room.x1, room.y1)
    room.free_range = [(lows[e] + near[e] + 0.05, highs[e] - far[e] - 0.05) for e in range(4)]
    return room


def outline(room: RoomShell) -> np.ndarray:
    """Return the room's polygon (P, 2), counter-clockwise, with its corner cuts."""
    corners = [(room.x0, room.y0), (room.x1, room.y0), (room.x1, room.y1), (room.x0, room.y1)]
    cuts = {corner: (kind, cx, cy) for corner, kind, cx, cy in room.cell.cuts}
    points: list[tuple[float, float]] = []
    for k, (x, y) in enumerate(corners):
        if k not in cuts:
            points.append((x, y))
            continue
        kind, cx, cy = cuts[k]
        ix, iy = x + cx * (1 if k in (0, 3) else -1), y + cy * (1 if k in (0, 1) else -1)
        before, after = ((x, iy), (ix, y)) if k in (0, 2) else ((ix, y), (x, iy))
        if kind == "notch":
            points += [before, (ix, iy), after]
        elif kind == "round":
            angle = np.linspace(0, np.pi / 2, 7)
            # quarter ellipse around the inner point, bulging towards the corner
            ax, ay = (before[0] - ix, before[1] - iy), (after[0] - ix, after[1] - iy)
            points += [(ix + math.cos(t) * ax[0] + math.sin(t) * ay[0], iy + math.cos(t) * ax[1] + math.sin(t) * ay[1]) for t in angle]
        else:
            points += [before, after]
    return np.array(points)


def inside(room: RoomShell, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """Tell which points are inside the polygon (even-odd rule); arrays of equal shape."""
    polygon = outline(room)
    result = np.zeros(xs.shape, bool)
    for (xa, ya), (xb, yb) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if ya != yb:
            result ^= ((ya > ys) != (yb > ys)) & (xs < (xb - xa) * (ys - ya) / (yb - ya) + xa)
    return result


def build_walls(b: MeshBuilder, room: RoomShell, materials: list[int], skirting: float) -> None:
    """Add the wall panels of a room, leaving its openings out.

    Args:
        b: Receives the panels; every panel is an object of its own.
        room: The room, with all openings cut already.
        materials: Wall slot of each of the four sides.
        skirting: Height of the skirting board in metres; 0 for none.
    """
    polygon = outline(room)
    h = room.height
    for (xa, ya), (xb, yb) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        edge = _edge_of(room, xa, ya, xb, yb)
        b.frame()
        if edge is None:
            b.quad((xa, ya, 0), (xb, yb, 0), (xb, yb, h), (xa, ya, h), WALL, materials[0])
            continue
        low, high = sorted((xa, xb) if edge % 2 == 0 else (ya, yb))
        cursor = low
        for o in sorted(room.openings[edge], key=lambda o: o.low):
            _panel(b, room, edge, cursor, o.low, 0, h, materials[edge])
            _panel(b, room, edge, o.low, o.high, 0, o.z0, materials[edge])
            _panel(b, room, edge, o.low, o.high, o.z1, h, materials[edge])
            if skirting:
                _skirting(b, room, edge, cursor, o.low if o.z0 < 0.3 else o.high, skirting)
            cursor = o.high
        _panel(b, room, edge, cursor, high, 0, h, materials[edge])
        if skirting:
            _skirting(b, room, edge, cursor, high, skirting)


def _edge_of(room: RoomShell, xa: float, ya: float, xb: float, yb: float) -> int | None:
    for edge, (same, line) in enumerate(((ya == yb, ya), (xa == xb, xa), (ya == yb, ya), (xa == xb, xa))):
        if same and line == room.wall_line(edge):
            return edge
    return None


def _panel(b: MeshBuilder, room: RoomShell, edge: int, low: float, high: float, z0: float, z1: float, mat: int) -> None:
    if high - low < 1e-3 or z1 - z0 < 1e-3:
        return
    (xa, ya), (xb, yb) = room.point(edge, low), room.point(edge, high)
    b.quad((xa, ya, z0), (xb, yb, z0), (xb, yb, z1), (xa, ya, z1), WALL, mat)


def _skirting(b: MeshBuilder, room: RoomShell, edge: int, low: float, high: float, height: float) -> None:
    if high - low < 0.05:
        return
    x, y = room.point(edge, (low + high) / 2)
    nx, ny = NORMALS[edge]
    size = (high - low, 0.016) if edge % 2 == 0 else (0.016, high - low)
    b.box(x - nx * 0.008, y - ny * 0.008, 0, *size, height, WALL, Slot.SKIRTING)


def add_reveal(b: MeshBuilder, width: float, z0: float, z1: float, depth: float, cls: int, mat: int, sill: int, sill_mat: int) -> None:
    """Line an opening with four faces, in a frame at its middle whose +y points out of the room."""
    h = width / 2
    b.quad((-h, 0, z0), (-h, depth, z0), (-h, depth, z1), (-h, 0, z1), cls, mat)
    b.quad((h, 0, z0), (h, depth, z0), (h, depth, z1), (h, 0, z1), cls, mat)
    b.quad((-h, 0, z1), (h, 0, z1), (h, depth, z1), (-h, depth, z1), cls, mat)
    b.quad((-h, 0, z0), (h, 0, z0), (h, depth, z0), (-h, depth, z0), sill, sill_mat)


def build_floor(b: MeshBuilder, room: RoomShell, mat: int) -> None:
    """Add the floor, leaving the room's hole (a stair going down) out."""
    b.frame()
    x0, y0, x1, y1 = room.x0, room.y0, room.x1, room.y1
    if room.hole is None:
        b.quad((x0, y0, 0), (x1, y0, 0), (x1, y1, 0), (x0, y1, 0), FLOOR, mat)
        return
    hx0, hy0, hx1, hy1 = room.hole
    for ax0, ay0, ax1, ay1 in ((x0, y0, x1, hy0), (x0, hy1, x1, y1), (x0, hy0, hx0, hy1), (hx1, hy0, x1, hy1)):
        if ax1 - ax0 > 1e-3 and ay1 - ay0 > 1e-3:
            b.quad((ax0, ay0, 0), (ax1, ay0, 0), (ax1, ay1, 0), (ax0, ay1, 0), FLOOR, mat)
