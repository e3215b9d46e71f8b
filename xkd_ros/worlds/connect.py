"""Cuts doors, passages, glass walls and windows into the walls of a plan and builds them."""

from __future__ import annotations

import math

import numpy as np

from xkd_ros.worlds import openings
from xkd_ros.worlds.building import Door
from xkd_ros.worlds.layout import Plan
from xkd_ros.worlds.materials import Material, Slot
from xkd_ros.worlds.mesh import MeshBuilder
from xkd_ros.worlds.shell import FLOOR, NORMALS, OUT_YAW, WALL, Opening, RoomShell, add_reveal
from xkd_ros.worlds.space import Space


class Connector:
    """Opens the walls of all rooms of a building.

    Args:
        b: Receives the triangles.
        rng: Source of every choice.
        plan: Wall thicknesses and plan name.
        rooms: All rooms.
        space: Free floor; doorways are opened in it.
        materials: To know how much a door differs from the wall.
    """

    def __init__(
        self, b: MeshBuilder, rng: np.random.Generator, plan: Plan, rooms: list[RoomShell], space: Space, materials: tuple[Material, ...]
    ) -> None:
        self.b, self.rng, self.plan, self.rooms, self.space = b, rng, plan, rooms, space
        self.contrast = abs(materials[Slot.DOOR].reflectivity - materials[Slot.WALL].reflectivity)
        self.doors: list[Door] = []
        self.window_cues: list[bool] = []
        self.outer: list[list[tuple[float, float]]] = []

    def run(self) -> None:
        """Open all walls."""
        shared: dict[tuple[int, int], list[tuple[float, float]]] = {}
        for i in range(len(self.rooms)):
            for j in range(len(self.rooms)):
                for edge in (1, 2):
                    span = self._shared(i, j, edge)
                    if span is not None:
                        self._join(i, j, edge, *span)
                        shared.setdefault((i, edge), []).append(span)
                        shared.setdefault((j, (edge + 2) % 4), []).append(span)
        for i, room in enumerate(self.rooms):
            for edge in range(4):
                self._outer_wall(i, room, edge, shared.get((i, edge), []))

    def _shared(self, i: int, j: int, edge: int) -> tuple[float, float] | None:
        """Return the interval where wall `edge` of room i touches room j."""
        a, c = self.rooms[i].cell, self.rooms[j].cell
        if i == j:
            return None
        if edge == 1:
            touching, low, high = abs(a.x1 - c.x0) < 1e-6, max(a.y0, c.y0), min(a.y1, c.y1)
        else:
            touching, low, high = abs(a.y1 - c.y0) < 1e-6, max(a.x0, c.x0), min(a.x1, c.x1)
        return (low, high) if touching and high - low > 0.2 else None

    def _cut(self, i: int, j: int, edge: int, low: float, high: float, z0: float, z1: float) -> bool:
        """Reserve the same hole in both rooms (j = -1: outer wall)."""
        room = self.rooms[i]
        if z1 > room.height - 0.03 or not room.wall_free(edge, low - 0.12, high + 0.12, z0, z1):
            return False
        if j >= 0:
            other, back = self.rooms[j], (edge + 2) % 4
            if z1 > other.height - 0.03 or not other.wall_free(back, low - 0.12, high + 0.12, z0, z1):
                return False
            other.openings[back].append(Opening(low, high, z0, z1))
        room.openings[edge].append(Opening(low, high, z0, z1))
        return True

    def _join(self, i: int, j: int, edge: int, low: float, high: float) -> None:
        rng = self.rng
        kinds = {self.rooms[i].kind, self.rooms[j].kind}
        top = min(self.rooms[i].height, self.rooms[j].height)
        if ("corridor" in kinds and len(kinds) == 1) or (rng.uniform() < 0.08 and high - low > 2.2):
            self._passage(i, j, edge, low, high, top)
            return
        wants = 0.93 if "corridor" in kinds else 0.55
        big = max(self.rooms[i].area, self.rooms[j].area) > 90
        if rng.uniform() < wants:
            state = str(rng.choice(["closed", "ajar", "open", "passage", "sliding"], p=[0.45, 0.12, 0.3, 0.09, 0.04]))
            width = float(rng.uniform(0.75, 1.05)) if rng.uniform() < (0.6 if big else 0.85) else float(rng.uniform(1.3, 2.0))
            self._door(i, j, edge, low, high, width, min(float(rng.choice([1.97, 2.02, 2.1, 2.3, 2.5])), top - 0.12), state)
        modern = kinds & {"meeting", "office", "openoffice", "lab", "classroom"}
        if modern and rng.uniform() < (0.45 if self.plan.name == "open" else 0.17):
            self._glass_wall(i, j, edge, low, high, top)
        elif "corridor" in kinds and high - low > 4 and rng.uniform() < 0.25:
            self._door(i, j, edge, low, high, float(rng.uniform(0.8, 1.0)), min(2.05, top - 0.12), "closed")

    def _passage(self, i: int, j: int, edge: int, low: float, high: float, top: float) -> None:
        margin = float(self.rng.uniform(0.2, 0.6))
        z1 = top - float(self.rng.uniform(0.08, 0.5))
        lo, hi = low + margin, high - margin
        if hi - lo > 3.5:
            hi = lo + float(self.rng.uniform(1.6, 3.5))
        if hi - lo < 0.7 or not self._cut(i, j, edge, lo, hi, 0.0, z1):
            return
        depth = self.plan.wall_m
        self._frame(i, edge, lo, hi)
        add_reveal(self.b, hi - lo, 0.0, z1, depth, WALL, Slot.WALL, FLOOR, Slot.FLOOR_B)
        self._record(i, j, edge, lo, hi, z1, math.pi / 2, True, depth)

    def _frame(self, i: int, edge: int, low: float, high: float) -> None:
        x, y = self.rooms[i].point(edge, (low + high) / 2)
        self.b.frame(x, y, 0.0, OUT_YAW[edge])

    def _door(self, i: int, j: int, edge: int, low: float, high: float, width: float, height: float, state: str) -> None:
        depth = self.plan.wall_m if j >= 0 else self.plan.outer_wall_m
        if height < 1.8:
            return
        for _ in range(4):
            if high - low < width + 0.5:
                return
            lo = float(self.rng.uniform(low + 0.25, high - 0.25 - width))
            if self.rng.uniform() < 0.5:  # doors stand near corners more often than in the middle
                lo = low + 0.25 if self.rng.uniform() < 0.5 else high - 0.25 - width
            if self._cut(i, j, edge, lo, lo + width, 0.0, height):
                self._frame(i, edge, lo, lo + width)
                angle, cue = openings.add_door(self.b, self.rng, width, height, depth, state, self.contrast)
                self._record(i, j, edge, lo, lo + width, height, angle, cue, depth)
                return

    def _record(self, i: int, j: int, edge: int, low: float, high: float, height: float, angle: float, cue: bool, depth: float) -> None:
        room, (nx, ny) = self.rooms[i], NORMALS[edge]
        x, y = room.point(edge, (low + high) / 2)
        self.doors.append(Door(np.array([x, y, 0.0]), np.array([nx, ny]), high - low, height, angle, cue, (i, j)))
        reach = (high - low) / 2 + (0.9 if angle > 0.1 else 0.4)
        half = (high - low) / 2
        for side in (-1, 1):  # keep furniture away on both sides
            cx, cy = x + nx * side * 0.5, y + ny * side * 0.5
            wx, wy = (half + 0.1, reach) if edge % 2 == 0 else (reach, half + 0.1)
            self.space.close(cx - wx, cy - wy, cx + wx, cy + wy, walkable=True)
        if angle > 0.75 and j >= 0:
            wx, wy = (half - 0.1, depth + 0.15) if edge % 2 == 0 else (depth + 0.15, half - 0.1)
            self.space.passage(x - wx, y - wy, x + wx, y + wy)

    def _glass_wall(self, i: int, j: int, edge: int, low: float, high: float, top: float) -> None:
        """Fill the longest free stretch of a shared wall with glass."""
        used = sorted((o.low, o.high) for o in self.rooms[i].openings[edge])
        free_low, free_high = self.rooms[i].free_range[edge]
        other_low, other_high = self.rooms[j].free_range[(edge + 2) % 4]
        borders = [max(low, free_low, other_low) + 0.2, *[v for span in used for v in span], min(high, free_high, other_high) - 0.2]
        spans = sorted(((b - a, a, b) for a, b in zip(borders[::2], borders[1::2], strict=False)), reverse=True)
        if not spans or spans[0][0] < 1.0:
            return
        _, lo, hi = spans[0]
        lo, hi = lo + 0.15, min(hi - 0.15, lo + 6.0)
        z0 = float(self.rng.choice([0.02, 0.02, 0.9, 2.1 if top > 2.9 else 0.02]))
        z1 = top - float(self.rng.choice([0.1, 0.5]))
        if z1 - z0 < 0.8 or hi - lo < 0.7 or not self._cut(i, j, edge, lo, hi, z0, z1):
            return
        self._frame(i, edge, lo, hi)
        add_reveal(self.b, hi - lo, z0, z1, self.plan.wall_m, WALL, Slot.WALL, WALL, Slot.WALL)
        openings.add_glass_wall(self.b, self.rng, hi - lo, z0, z1, self.plan.wall_m)
        self.window_cues.append(True)

    def _outer_wall(self, i: int, room: RoomShell, edge: int, shared: list[tuple[float, float]]) -> None:
        rng = self.rng
        low, high = room.free_range[edge]
        for a, c in shared:  # keep the longer part that nothing touches
            low, high = (low, min(high, a)) if a - low > high - c else (max(low, c), high)
        if high - low < 1.2:
            return
        outside = self.plan.name != "garage"
        if room.kind in ("garage", "workshop", "storage", "hall") and room.area > 45 and rng.uniform() < 0.35:
            width = float(rng.uniform(2.2, 4.2))
            height = min(float(rng.uniform(2.2, 4.0)), room.height - 0.5)
            if high - low > width + 0.6 and height > 1.9:
                lo = float(rng.uniform(low + 0.25, high - width - 0.25))
                if self._cut(i, -1, edge, lo, lo + width, 0.0, height):
                    self._frame(i, edge, lo, lo + width)
                    up = openings.add_gate(self.b, rng, width, height, self.plan.outer_wall_m)
                    self._record(i, -1, edge, lo, lo + width, height, 0.0 if up < 0.5 else 1.5, True, self.plan.outer_wall_m)
        if rng.uniform() < 0.2:
            wide = float(rng.uniform(0.8, 1.0)) if rng.uniform() < 0.7 else float(rng.uniform(1.4, 2.0))
            state = str(rng.choice(["closed", "open", "lift", "ajar"], p=[0.8, 0.06, 0.06, 0.08]))
            self._door(i, -1, edge, low, high, wide, min(float(rng.uniform(2.0, 2.3)), room.height - 0.12), state)
        chance = {"corridor": 0.35, "storage": 0.15, "stairwell": 0.4, "toilet": 0.2}.get(room.kind, 0.62)
        if outside and rng.uniform() < chance:
            self._windows(i, room, edge, low, high)
        if rng.uniform() < 0.3:
            self._niche(i, room, edge, low, high)

    def _windows(self, i: int, room: RoomShell, edge: int, low: float, high: float) -> None:
        rng = self.rng
        width = min(float(rng.uniform(0.6, 3.2)), high - low - 0.5)
        gap = float(rng.uniform(0.25, 2.5))
        z0 = float(rng.choice([rng.uniform(0.75, 1.1), 0.05, rng.uniform(1.5, 2.2)], p=[0.75, 0.13, 0.12]))
        z1 = min(room.height - float(rng.uniform(0.1, 0.6)), z0 + float(rng.uniform(0.8, 2.6)))
        cover = str(rng.choice(["none", "blind", "curtain", "drawn"], p=[0.52, 0.28, 0.14, 0.06]))
        if z1 - z0 < 0.4 or width < 0.4:
            return
        lo = low + 0.3 + float(rng.uniform(0, 0.5))
        while lo + width < high - 0.2:
            if self._cut(i, -1, edge, lo, lo + width, z0, z1):
                self._frame(i, edge, lo, lo + width)
                mine = cover if rng.uniform() < 0.8 else "none"
                self.window_cues.append(openings.add_window(self.b, rng, width, z0, z1, self.plan.outer_wall_m, mine))
            lo += width + gap

    def _niche(self, i: int, room: RoomShell, edge: int, low: float, high: float) -> None:
        alcove = self.rng.uniform() < 0.5  # deep enough to walk into
        width = float(self.rng.uniform(0.8, 4.0) if alcove else self.rng.uniform(0.4, 2.0))
        width = min(width, max(high - low - 0.7, 0.4))
        z0 = 0.0 if alcove else float(self.rng.choice([0.0, 0.5, 1.0]))
        z1 = min(z0 + float(self.rng.uniform(2.0, 3.5) if alcove else self.rng.uniform(0.5, 2.2)), room.height - 0.05)
        if high - low < width + 0.6 or z1 - z0 < 0.3:
            return
        lo = float(self.rng.uniform(low + 0.2, high - width - 0.2))
        if self._cut(i, -1, edge, lo, lo + width, z0, z1):
            depth = float(self.rng.uniform(0.4, 2.2) if alcove else self.rng.uniform(0.08, 0.5))
            self._frame(i, edge, lo, lo + width)
            add_reveal(self.b, width, z0, z1, depth, WALL, Slot.WALL, WALL if z0 > 0.1 else FLOOR, Slot.WALL_B)
            h = width / 2
            self.b.quad((-h, depth, z0), (h, depth, z0), (h, depth, z1), (-h, depth, z1), WALL, Slot.WALL_B)
