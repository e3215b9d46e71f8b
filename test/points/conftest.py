"""A small ray-cast room, so that points and levelling are tested without the worlds room or any recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from xkd_ros.core.se3 import rotation_from_rpy


@dataclass
class Room:
    """Oriented boxes seen by a lidar; z is up in the room's frame, the floor is at z = 0."""

    boxes: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)

    def add(self, centre, half_size, yaw_rad: float = 0.0, roll_rad: float = 0.0) -> Room:
        rotation = rotation_from_rpy(roll_rad, 0.0, yaw_rad)
        self.boxes.append((np.asarray(centre, float), np.asarray(half_size, float), rotation))
        return self

    def scan(
        self,
        height_m: float,
        world_from_lidar: np.ndarray,
        beams: int = 16,
        half_angle_deg: float = 20.0,
        columns: int = 450,
        noise_m: float = 0.01,
        seed: int = 0,
    ) -> np.ndarray:
        """Points (M, 3) float32 in the lidar frame, beams in rows; misses are (0, 0, 0)."""
        elevation, azimuth = np.meshgrid(
            np.deg2rad(np.linspace(-half_angle_deg, half_angle_deg, beams)), np.arange(columns) * 2 * np.pi / columns, indexing="ij"
        )
        directions = np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1).reshape(
            -1, 3
        )
        ranges = self._cast(np.array([0.0, 0.0, height_m]), directions @ world_from_lidar.T)
        ranges += np.random.default_rng(seed).normal(0, noise_m, len(ranges))
        ranges[~np.isfinite(ranges)] = 0.0
        return (directions * ranges[:, None]).astype(np.float32)

    def _cast(self, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        nearest = np.full(len(directions), np.inf)
        for centre, half_size, rotation in self.boxes:
            start, along = rotation.T @ (origin - centre), directions @ rotation
            with np.errstate(divide="ignore"):
                one, two = (-half_size - start) / along, (half_size - start) / along
            enter, leave = np.minimum(one, two).max(axis=1), np.maximum(one, two).min(axis=1)
            hit = (enter <= leave) & (enter > 0)
            nearest = np.where(hit & (enter < nearest), enter, nearest)
        return nearest


def _office(ceiling: bool = True, floor: bool = True) -> Room:
    room = Room()
    if floor:
        room.add((0, 0, -0.1), (6, 5, 0.1), 0.3)
    if ceiling:
        room.add((0, 0, 2.8), (6, 5, 0.1), 0.3)
    turn = rotation_from_rpy(0, 0, 0.3)
    for x, y, half_x, half_y in ((4, 0, 0.1, 3), (-5, 0, 0.1, 3), (0, 3, 5, 0.1), (0, -3, 5, 0.1)):
        room.add(turn @ np.array([x, y, 1.35]), (half_x, half_y, 1.35), 0.3)
    for x, y in ((2, 1.5), (2, -1.8), (-2.5, 1.4)):
        room.add(turn @ np.array([x, y, 0.73]), (0.8, 0.4, 0.02), 0.3)
        room.add(turn @ np.array([x, y, 0.35]), (0.05, 0.05, 0.35), 0.3)
    room.add((-1.5, -1.5, 0.9), (0.25, 0.2, 0.9), 1.0)
    return room


@pytest.fixture(scope="session")
def office() -> Callable[..., Room]:
    """A furnished office turned by 0.3 rad: office(ceiling=True, floor=True)."""
    return _office


@pytest.fixture(scope="session")
def room() -> Callable[[], Room]:
    """An empty room to be filled with boxes."""
    return Room


@pytest.fixture(scope="session")
def office_scan() -> np.ndarray:
    """A level scan of the office, 16 beams x 450 columns, from 1.2 m."""
    return _office().scan(1.2, np.eye(3))
