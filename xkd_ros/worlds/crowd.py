"""People during a recording: some walk about, some stand or sit, none is run over by the rig.

Comes in: a building, the rig's trajectory. Goes out: a `Crowd` that says where everybody is at any moment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from xkd_ros.worlds.building import Building
from xkd_ros.worlds.floor_map import FloorMap
from xkd_ros.worlds.mesh import Mesh
from xkd_ros.worlds.people import Person, make_person
from xkd_ros.worlds.trajectory import Trajectory

WALKERS = 2
"""People added to each recording who walk within sight of the rig."""
MOST_WALKERS = 200

_RADIUS_M = 0.25
_APART_M = 0.65
_NEAR_M = 5.0
_TRIES = 20
_STRIDE_M = 1.4


@dataclass(frozen=True, eq=False)
class _Walker:
    """A person with a way: points a few centimetres apart, and the distance covered at time zero and per second."""

    person: Person
    path: np.ndarray
    along: np.ndarray
    start_m: float
    speed_mps: float

    def place(self, time_s: np.ndarray | float) -> np.ndarray:
        """Return (..., 2) world xy; walkers turn round at both ends of their way."""
        length = self.along[-1]
        at = np.abs((self.start_m + self.speed_mps * np.asarray(time_s) + length) % (2 * length) - length)
        return np.stack([np.interp(at, self.along, self.path[:, k]) for k in range(2)], -1)

    def at(self, time_s: float) -> Person:
        """Return the person at a moment, in the middle of a step."""
        x, y = self.place(time_s)
        ahead, behind = self.place(time_s + 0.3), self.place(time_s - 0.3)
        moved = replace(self.person, mesh=_stride(self.person, self.start_m + self.speed_mps * time_s))
        return moved.at(float(x), float(y), float(np.arctan2(*(ahead - behind)[::-1])))


class Crowd:
    """Everybody in the building during one recording.

    Args:
        building: Its people; those drawn as walking get a way.
        rig: People keep away from it.
        rng: Chooses ways and speeds.
        seconds: Length of the recording.
        walkers: People added who walk within sight of the rig's way; one who finds no way past the rig stays out.
    """

    def __init__(self, building: Building, rig: Trajectory, rng: np.random.Generator, seconds: float, walkers: int = WALKERS) -> None:
        self._moments = np.arange(0, seconds + 0.5, 0.1)
        self._rig = rig.at(self._moments)[:, :2]
        floor = FloorMap(building, _RADIUS_M)
        strolling = [p for p in building.people if p.pose == "walking"]
        self._still = tuple(p for p in building.people if p.pose != "walking" and self._clear(np.array([p.x_m, p.y_m])))
        strolling += [make_person(rng, 0.0, 0.0, 0.0, "walking") for _ in range(walkers)]
        self._walkers: list[_Walker] = []
        for number, person in enumerate(strolling):
            near = number >= len(strolling) - walkers
            walker = self._send(person, floor, rng, near)
            if walker is not None:
                self._walkers.append(walker)

    def at(self, time_s: float) -> tuple[Person, ...]:
        """Return everybody at a moment, in a fixed order."""
        return (*self._still, *(walker.at(time_s) for walker in self._walkers))

    @property
    def walkers(self) -> int:
        """Number of people who walk."""
        return len(self._walkers)

    def _clear(self, places: np.ndarray) -> bool:
        return bool(np.hypot(*(self._rig - places).T).min() > _APART_M)

    def _send(self, person: Person, floor: FloorMap, rng: np.random.Generator, near: bool) -> _Walker | None:
        """Find a way that never comes too close to the rig; None when there is none."""
        for _ in range(_TRIES):
            options = floor.random_points(rng, 96)
            beside = np.hypot(*(options[:, None] - self._rig[None, ::5]).transpose(2, 0, 1)).min(1)
            # In sight of the rig's way, but with room to pass.
            good = options[(beside > 1.2 * _APART_M) & (beside < _NEAR_M)]
            if near and len(good) > 1:
                start, goal = good[0], good[int(rng.integers(1, len(good)))]
            else:
                start, goal = options[0], options[1]
                if person.x_m or person.y_m:
                    start = np.array([person.x_m, person.y_m])
            if np.hypot(*(goal - start)) < 1.2:
                continue
            path = floor.smooth(floor.route(start, goal))
            along = np.append(0, np.cumsum(np.hypot(*np.diff(path, axis=0).T)))
            walker = _Walker(person, path, along, float(rng.uniform(0, 2 * along[-1])), float(rng.uniform(0.6, 1.3)))
            if self._clear(walker.place(self._moments)):
                return walker
        return None


def _stride(person: Person, travelled_m: float) -> Mesh:
    """Swing the legs of a walking body, whose mesh stands with one foot forward."""
    vertices = person.mesh.vertices
    hip = 0.5 * person.height_m
    feet = vertices[:, 2] < 0.1
    left, right = feet & (vertices[:, 1] > 0), feet & (vertices[:, 1] <= 0)
    if not left.any() or not right.any():
        return person.mesh
    half_step = (vertices[left, 0].mean() - vertices[right, 0].mean()) / 2
    swing = np.cos(2 * np.pi * travelled_m / _STRIDE_M) - 1
    below = np.clip(1 - vertices[:, 2] / hip, 0, 1)
    shifted = vertices.copy()
    shifted[:, 0] += (half_step * swing * below * np.sign(vertices[:, 1])).astype(np.float32)
    return replace(person.mesh, vertices=shifted)
