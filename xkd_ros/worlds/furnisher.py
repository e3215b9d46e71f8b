"""Finds places for furniture: against walls, free in the room, on walls. Rooms say what, this class says where."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from xkd_ros.worlds.mesh import MeshBuilder
from xkd_ros.worlds.people import Person, make_person
from xkd_ros.worlds.shell import NORMALS, OUT_YAW, RoomShell
from xkd_ros.worlds.space import Space

Build = Callable[[MeshBuilder, np.random.Generator], None]


class Furnisher:
    """Places things in one room.

    Args:
        b: Receives the triangles.
        rng: Source of every choice.
        room: The room.
        space: Free floor of the storey.
        people: Receives people who sit on the room's chairs.
        variety: Standard deviation of how much a piece is stretched along each axis.
    """

    def __init__(
        self, b: MeshBuilder, rng: np.random.Generator, room: RoomShell, space: Space, people: list[Person], variety: float = 0.0
    ) -> None:
        self._variety = variety
        self.b, self.rng, self.room, self.space, self.people = b, rng, room, space, people
        self.density = room.density

    def uniform(self, low: float, high: float) -> float:
        """Draw a float."""
        return float(self.rng.uniform(low, high)) if low < high else (low + high) / 2

    def chance(self, p: float) -> bool:
        """Draw true with probability p."""
        return bool(self.rng.uniform() < p)

    def count(self, mean: float) -> int:
        """Draw a number of things, scaled by the room's density."""
        return int(self.rng.poisson(max(mean * self.density * 1.6, 0.0)))

    def _build(self, x: float, y: float, z: float, yaw: float, build: Build) -> None:
        """Build a thing in a frame of its own, a little larger or smaller than drawn."""
        if self._variety:
            sx, sy, sz = np.clip(self.rng.normal(1.0, self._variety, 3), 0.7, 1.4).tolist()
            self.b.stretch(sx, sy, sz)
        self.b.frame(x, y, z, yaw)
        build(self.b, self.rng)
        self.b.stretch()

    def at(self, x: float, y: float, w: float, d: float, yaw: float, build: Build, gap: float = 0.0) -> bool:
        """Put a thing at a given place if it fits."""
        if not self.space.fits(x, y, w, d, yaw):
            return False
        self.space.take(x, y, w + gap, d + gap, yaw)
        self._build(x, y, 0, yaw, build)
        return True

    def along_wall(
        self, w: float, d: float, h: float, build: Build, gap: float | None = None, tries: int = 8
    ) -> tuple[float, float, float] | None:
        """Put a thing with its back to a wall; returns its pose or None when there is no room."""
        room = self.room
        off = abs(float(self.rng.normal(0, 0.03))) + 0.01 if gap is None else gap
        for _ in range(tries):
            edge = int(self.rng.integers(4))
            low, high = room.free_range[edge]
            if high - low < w:
                continue
            along = self.uniform(low + w / 2, high - w / 2)
            if not room.wall_free(edge, along - w / 2, along + w / 2, 0.0, h):
                continue
            nx, ny = NORMALS[edge]
            x, y = room.point(edge, along)
            x, y, yaw = x - nx * (d / 2 + off), y - ny * (d / 2 + off), OUT_YAW[edge] + math.pi
            if self.space.fits(x, y, w, d, yaw):
                self.space.take(x, y, w, d, yaw)
                room.taken[edge].append((along - w / 2, along + w / 2, 0.0, h))
                self._build(x, y, 0, yaw, build)
                return x, y, yaw
        return None

    def free(
        self, w: float, d: float, build: Build, aligned: float = 0.5, tries: int = 8, margin: float = 0.0
    ) -> tuple[float, float, float] | None:
        """Put a thing anywhere in the room; `aligned` is the chance of a right angle to the walls."""
        room = self.room
        for _ in range(tries):
            yaw = float(self.rng.integers(4)) * math.pi / 2 if self.chance(aligned) else self.uniform(-math.pi, math.pi)
            reach = max(w, d) / 2
            if room.x1 - room.x0 < w or room.y1 - room.y0 < min(w, d):
                return None
            x, y = (
                self.uniform(room.x0 + min(reach, 0.5), room.x1 - min(reach, 0.5)),
                self.uniform(room.y0 + min(reach, 0.5), room.y1 - min(reach, 0.5)),
            )
            if self.space.fits(x, y, w + margin, d + margin, yaw):
                self.space.take(x, y, w, d, yaw)
                self._build(x, y, 0, yaw, build)
                return x, y, yaw
        return None

    def on_wall(self, w: float, z0: float, z1: float, build: Build, tries: int = 4) -> bool:
        """Hang a thing on a wall, in a frame at the wall surface whose +y points out of the room."""
        room = self.room
        z1 = min(z1, room.height)
        for _ in range(tries):
            edge = int(self.rng.integers(4))
            low, high = room.free_range[edge]
            if high - low < w + 0.1:
                continue
            along = self.uniform(low + w / 2, high - w / 2)
            if room.wall_free(edge, along - w / 2, along + w / 2, z0, z1):
                room.taken[edge].append((along - w / 2, along + w / 2, z0, z1))
                self._build(*room.point(edge, along), 0, OUT_YAW[edge], build)
                return True
        return False

    def seat_at(self, x: float, y: float, yaw: float, build: Build, size: float = 0.5, occupied: float = 0.06) -> bool:
        """Put a chair if it fits, with somebody on it now and then; the chair's front is +y of its frame."""
        yaw += float(self.rng.normal(0, 0.25))
        if not self.space.fits(x, y, size * 0.5, size * 0.5, yaw):  # chairs are pushed under tables a little
            return False
        self.space.take(x, y, size, size, yaw)
        self._build(x, y, 0, yaw, build)
        if self.chance(occupied):
            self.people.append(make_person(self.rng, x, y, yaw + math.pi / 2, "sitting"))
        return True
