"""How a rig moves through a building: a smooth walk from room to room with a little wobble.

Comes in: a building and a random generator. Goes out: a `Trajectory` that gives the pose at any moment, for the lidar, the camera and
the odometry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xkd_ros.core.se3 import make_transform, rotation_from_rpy
from xkd_ros.worlds.building import Building
from xkd_ros.worlds.floor_map import FloorMap
from xkd_ros.worlds.surfaces import rooms_of

_RATE_HZ = 100
_RADIUS_M = 0.26
_TURN_RADPS = 0.8
_AHEAD_POINTS = 6


@dataclass(frozen=True)
class Gait:
    """How the carrier moves.

    Attributes:
        speed_mps: On straight stretches.
        tilt_rad: Amplitude of roll and pitch.
        bob_m: Amplitude of the height.
        look_rad: How far the heading sways from the direction of travel.
        step_hz: Rhythm of the wobble.
    """

    speed_mps: float = 0.8
    tilt_rad: float = 0.015
    bob_m: float = 0.004
    look_rad: float = 0.12
    step_hz: float = 0.9


class Trajectory:
    """Pose of the rig's base over time.

    Args:
        times_s: (T,) ascending seconds.
        values: (T, 6) x, y, z in metres, roll, pitch, unwrapped yaw in radians.
    """

    def __init__(self, times_s: np.ndarray, values: np.ndarray) -> None:
        self.times_s, self.values = times_s, values

    def at(self, time_s: np.ndarray | float) -> np.ndarray:
        """Return (6,) or (T, 6) x, y, z, roll, pitch, yaw; held at the ends."""
        columns = [np.interp(time_s, self.times_s, self.values[:, k]) for k in range(6)]
        return np.stack(columns, -1)

    def pose(self, time_s: float) -> np.ndarray:
        """Return world_from_base (4, 4) float64."""
        x, y, z, roll, pitch, yaw = self.at(time_s)
        return make_transform(rotation_from_rpy(roll, pitch, yaw), (x, y, z))


def make_trajectory(building: Building, rng: np.random.Generator, seconds: float, gait: Gait = Gait()) -> Trajectory:
    """Walk through the building for some seconds, from room to room as far as doors are open.

    Args:
        building: Where to walk; closed doors and furniture are avoided.
        rng: Chooses the way.
        seconds: Length of the walk.
        gait: Speed and wobble.
    """
    from scipy.ndimage import gaussian_filter1d

    path = _tour(building, FloorMap(building, _RADIUS_M), rng, 1.2 * seconds * gait.speed_mps + 3)
    yaw = _heading(path)
    moments = _timing(path, yaw, gait.speed_mps)
    # The first second is skipped so that the recording begins in motion.
    times = np.arange(0, seconds + 1, 1 / _RATE_HZ)
    place, turn = (np.stack([np.interp(times + 1.0, moments, column) for column in columns.T], 1) for columns in (path, yaw[:, None]))
    eased = gaussian_filter1d(np.column_stack([place, turn]), 0.12 * _RATE_HZ, axis=0, mode="nearest")
    values = np.column_stack([
        eased[:, :2],
        gait.bob_m * _wave(rng, times, gait.step_hz),
        gait.tilt_rad * _wave(rng, times, gait.step_hz),
        gait.tilt_rad * _wave(rng, times, gait.step_hz),
        eased[:, 2] + gait.look_rad * _wave(rng, times, 0.12),
    ])  # fmt: skip
    return Trajectory(times, values)


def _tour(building: Building, floor: FloorMap, rng: np.random.Generator, length_m: float) -> np.ndarray:
    """Join routes from room to room until the walk is long enough; (P, 2)."""
    at = floor.random_points(rng, 1)[0]
    visited = set(rooms_of(building, at[None]).tolist())
    pieces, total = [at[None]], 0.0
    while total < length_m:
        candidates = floor.random_points(rng, 80)
        rooms = rooms_of(building, candidates)
        effort = floor.effort(at, candidates)
        fresh = np.flatnonzero(~np.isin(rooms, list(visited)) & (effort > 1.0))
        # The next room is a near one; within the last room, go far.
        order = fresh[np.argsort(effort[fresh])] if len(fresh) else np.argsort(-effort)
        goal = candidates[order[int(rng.integers(min(4, len(order))))]]
        leg = floor.route(at, goal)
        total += max(float(np.hypot(*np.diff(leg, axis=0).T).sum()), 0.2)
        pieces.append(leg[1:])
        visited |= set(rooms_of(building, leg).tolist())
        if not len(fresh):
            visited = set(rooms_of(building, goal[None]).tolist())
        at = goal
    return floor.smooth(np.concatenate(pieces))


def _heading(path: np.ndarray) -> np.ndarray:
    """Direction of travel along a path (P, 2), seen a little ahead and behind; (P,) radians, unwrapped."""
    from scipy.ndimage import gaussian_filter1d

    tangent = gaussian_filter1d(np.gradient(path, axis=0), _AHEAD_POINTS, axis=0, mode="nearest")
    return np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))


def _timing(path: np.ndarray, yaw: np.ndarray, speed_mps: float) -> np.ndarray:
    """Assign moments (P,) to the points of a path: full speed when straight, never turning faster than a person would."""
    from scipy.ndimage import gaussian_filter1d, minimum_filter1d

    step = np.hypot(*np.diff(path, axis=0).T)
    turn = np.abs(np.diff(yaw))
    speed = np.minimum(speed_mps, step / np.maximum(turn, 1e-6) * _TURN_RADPS)
    # Brake before a bend and speed up after it.
    speed = gaussian_filter1d(minimum_filter1d(np.maximum(speed, 0.1), 7, mode="nearest"), 3, mode="nearest")
    return np.append(0, np.cumsum(np.maximum(step / speed, turn / _TURN_RADPS)))


def _wave(rng: np.random.Generator, times_s: np.ndarray, hz: float) -> np.ndarray:
    """Draw a smooth oscillation of about unit amplitude."""
    rates, phases = hz * rng.uniform(0.6, 1.5, 3), rng.uniform(0, 2 * np.pi, 3)
    return np.asarray((np.sin(2 * np.pi * rates * times_s[:, None] + phases) * [0.5, 0.3, 0.2]).sum(1))
