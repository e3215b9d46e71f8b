"""An endless supply of labelled scans for training: random building, rig, pose, tilt, sensor and flaws, all from one number.

Next room: the training data set, which levels and voxelises these scans exactly as a robot's scans are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from xkd_ros.core.se3 import make_transform, rotation_from_rpy
from xkd_ros.worlds.building import Building, make_building
from xkd_ros.worlds.carrier import make_carrier
from xkd_ros.worlds.lidar import Flaws, LidarModel, Sectors
from xkd_ros.worlds.mesh import Mesh, concatenate
from xkd_ros.worlds.motion import Motion
from xkd_ros.worlds.nearby import draw_things
from xkd_ros.worlds.people import Person, make_person
from xkd_ros.worlds.raycaster import Raycaster
from xkd_ros.worlds.sensors import SENSORS, Sensor

SCANS_PER_BUILDING = 4
_FIRST_BUILDING = {"train": 1_000_000, "shifted": 3_000_000_000}
_MAX_RAYS = 66_000
_PEOPLE_WITHIN_M = 20.0
CEILING, STAIRS, TABLE, FURNITURE, CLUTTER = 2, 6, 7, 9, 11


@dataclass(frozen=True)
class _Mount:
    """Where the sensor is and how it is held."""

    position: np.ndarray
    yaw: float
    tilt: np.ndarray  # (3, 3) levelled_from_lidar
    height_m: float
    kind: str


@lru_cache(maxsize=3)
def _world(seed: int, style: str) -> tuple[Building, Raycaster]:
    building = make_building(seed, style)
    return building, Raycaster(building.mesh)


def sample_scan(
    seed: int,
    split: str = "train",
    scans_per_building: int = SCANS_PER_BUILDING,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    """Make one labelled scan; the same seed gives the same scan.

    Args:
        seed: Any non-negative integer; consecutive seeds share a building, so ask for them in order.
        split: "train", or "shifted": buildings of another style family, for choosing between models.
        scans_per_building: How many consecutive seeds share a building.
    Returns:
        points_m (N, 3) float32 in the sensor frame as mounted (tilted), intensity (N,) float32 in the sensor's unit, labels (N,) uint8
        (indoor-12, 255 unknown), and meta: rotation (3, 3) levelled_from_lidar, floor_height_m (floor plane in the levelled frame), sensor,
        building_seed, style, mount, people.
    """
    building, caster = _world(_FIRST_BUILDING[split] + seed // scans_per_building, "shifted" if split == "shifted" else "auto")
    rng = np.random.default_rng([seed, _FIRST_BUILDING[split] % 1_000_003, 5])
    for _ in range(4):
        mount = _draw_mount(rng, building, caster)
        model = _draw_model(rng)
        people = _draw_people(rng, building, mount)
        moving = [p.mesh_in_world() for p in people] + draw_things(rng, building, mount.position)
        meshes = [concatenate(moving)] if moving else []
        carrier = make_carrier(rng, mount.kind, mount.height_m)
        rotation = rotation_from_rpy(0.0, 0.0, mount.yaw) @ mount.tilt
        scan, labels = model.scan(
            caster.with_meshes(meshes),
            building.materials,
            make_transform(rotation, mount.position),
            rng,
            _draw_motion(rng, mount),
            Raycaster(_tilted(carrier, mount.tilt)) if len(carrier.faces) else None,
        )
        if np.count_nonzero(labels < 12) > 800:
            break
    intensity = np.zeros(len(scan), np.float32) if scan.intensity is None else scan.intensity
    meta = {
        "rotation": mount.tilt,
        "floor_height_m": -float(mount.position[2]),
        "sensor": model.sensor.name,
        "building_seed": building.seed,
        "style": building.style,
        "mount": mount.kind,
        "people": len(people),
    }
    return scan.points_m, intensity, labels, meta


def _tilted(carrier: Mesh, tilt: np.ndarray) -> Mesh:
    """Express a gravity-aligned carrier in the sensor's tilted frame."""
    return replace(carrier, vertices=(carrier.vertices @ tilt).astype(np.float32))


def _draw_mount(rng: np.random.Generator, building: Building, caster: Raycaster) -> _Mount:
    xy = building.sample_free(rng, 1, bool(rng.uniform() < 0.85), float(rng.choice([0.0, 1.5, 3.0], p=[0.12, 0.33, 0.55])))[0]
    if rng.uniform() < 0.08:
        xy = _near_stairs(rng, building, xy)
    kind = str(rng.choice(["robot", "handheld", "tripod", "bare"], p=[0.45, 0.27, 0.08, 0.2]))
    low, high = {"robot": (0.22, 1.5), "handheld": (0.9, 2.1), "tripod": (0.5, 1.9), "bare": (0.25, 2.2)}[kind]
    height = float(rng.uniform(low, high))
    if kind == "bare" and rng.uniform() < 0.18:
        height = float(rng.uniform(2.2, 3.6))  # flying
    up = caster.cast(np.array([[*xy, 0.15]], np.float32), np.array([[0, 0, 1]], np.float32))
    room_above = float(up.distance_m[0]) + 0.15
    if rng.uniform() < 0.1:  # put down on a table or box
        xy, height, room_above = _on_furniture(rng, building, caster, xy, height, room_above)
        kind = "bare"
    height = min(height, room_above - 0.12)
    return _Mount(np.array([*xy, max(height, 0.15)]), float(rng.uniform(-math.pi, math.pi)), _draw_tilt(rng, kind), max(height, 0.15), kind)


def _near_stairs(rng: np.random.Generator, building: Building, xy: np.ndarray) -> np.ndarray:
    """Move to within sight of a stair where the building has one: stairs are rare by area."""
    steps = np.flatnonzero(building.face_class == STAIRS)
    if not len(steps):
        return xy
    corner = building.vertices[building.faces[steps[int(rng.integers(len(steps)))], 0], :2]
    spots = building.sample_free(rng, 80)
    distance = np.linalg.norm(spots - corner, axis=1)
    return np.asarray(spots[int(np.argmin(np.abs(distance - rng.uniform(1.0, 5.0))))])


def _on_furniture(
    rng: np.random.Generator, building: Building, caster: Raycaster, xy: np.ndarray, height: float, above: float
) -> tuple[np.ndarray, float, float]:
    """Find something 0.4-1.3 m high near a free place to stand a sensor on."""
    around = xy + rng.uniform(-2.5, 2.5, (60, 2))
    origins = np.c_[around, np.full(60, 1.6)].astype(np.float32)
    down = caster.cast(origins, np.tile(np.array([0, 0, -1], np.float32), (60, 1)))
    up = caster.cast(origins, np.tile(np.array([0, 0, 1], np.float32), (60, 1)))
    top = 1.6 - down.distance_m
    solid = np.isin(down.face_class, (TABLE, FURNITURE, CLUTTER))
    good = np.flatnonzero((top > 0.4) & (top < 1.3) & solid & (up.face_class == CEILING))
    if not len(good):
        return xy, height, above
    pick = int(good[rng.integers(len(good))])
    return around[pick], float(top[pick]) + float(rng.uniform(0.08, 0.4)), 1.6 + float(up.distance_m[pick])


def _draw_tilt(rng: np.random.Generator, kind: str) -> np.ndarray:
    if rng.uniform() < 0.035:  # a second lidar mounted on its side
        return rotation_from_rpy(
            float(rng.choice([-1, 1])) * math.pi / 2 + float(rng.normal(0, 0.03)), float(rng.normal(0, 0.05)), float(rng.uniform(-3.1, 3.1))
        )
    spread = {"robot": [0.6, 0.25, 0.15], "handheld": [0.15, 0.45, 0.4], "tripod": [0.6, 0.3, 0.1], "bare": [0.35, 0.35, 0.3]}[kind]
    size = float(rng.choice([0.6, 3.0, 8.0], p=spread))
    roll, pitch = np.radians(np.clip(rng.normal(0, size, 2), -15, 15))
    return rotation_from_rpy(float(roll), float(pitch), 0.0)


def _draw_motion(rng: np.random.Generator, mount: _Mount) -> Motion | None:
    if mount.kind == "tripod" or rng.uniform() < 0.35:
        return None
    speed, turn = abs(float(rng.normal(0, 0.7))), float(rng.normal(0, 0.5))
    if mount.kind == "handheld":
        turn *= 1.6
    heading = float(rng.normal(0, 0.3)) if rng.uniform() < 0.8 else float(rng.uniform(-3.1, 3.1))
    return Motion((speed * math.cos(heading), speed * math.sin(heading), float(rng.normal(0, 0.05))), turn)


def _draw_sensor(rng: np.random.Generator) -> Sensor:
    if rng.uniform() < 0.12:  # none that exists: any fan of beams
        beams = int(rng.choice([8, 12, 16, 24, 32, 48, 64, 96]))
        low, high = -float(rng.uniform(5, 50)), float(rng.uniform(5, 50))
        angles = np.sort(np.linspace(low, high, beams) + rng.normal(0, 0.15, beams) * (rng.uniform() < 0.5))
        sensor = Sensor(
            f"any{beams}",
            tuple(float(a) for a in angles),
            int(rng.choice([512, 900, 1024, 1800])),
            noise_m=float(rng.uniform(0.005, 0.03)),
            calibrated=bool(rng.uniform() < 0.5),
            row_major=True,
        )
    else:
        names = [
            "vlp16",
            "vlp16_900",
            "vlp32c",
            "hdl32",
            "rs16",
            "rs32",
            "xt32",
            "xt16",
            "pandar40",
            "helios32",
            "bpearl",
            "mid360",
            "os1_16",
            "os1_32",
            "os1_64_gen1",
            "os1_64",
            "os1_128",
            "os0_32",
            "os0_64",
            "os0_128",
            "os2_64",
        ]
        odds = np.array([15, 4, 10, 2, 2, 2, 12, 2, 1, 1.5, 0.7, 2, 7, 9, 3, 6, 5, 5, 5, 6, 0.8])
        sensor = SENSORS[str(rng.choice(names, p=odds / odds.sum()))]
    if rng.uniform() < 0.15 and len(sensor.elevations_deg) > 16:  # thinned: every second beam
        sensor = replace(sensor, elevations_deg=sensor.elevations_deg[int(rng.integers(2)) :: 2], name=sensor.name + "/2")
    columns = sensor.columns
    if rng.uniform() < 0.3:
        columns = int(columns * float(rng.choice([0.5, 0.5, 0.35])))
    return replace(
        sensor,
        columns=max(min(columns, _MAX_RAYS // len(sensor.elevations_deg)), 300),
        elevations_deg=tuple(e + float(rng.normal(0, 0.05)) for e in sensor.elevations_deg),
    )


def _draw_model(rng: np.random.Generator) -> LidarModel:
    flaws = Flaws(
        dropout=float(rng.choice([0.0, 0.01, 0.05, 0.15], p=[0.3, 0.45, 0.18, 0.07])),
        dark_loss=float(rng.choice([0.2, 1.0, 4.0, 12.0], p=[0.25, 0.4, 0.25, 0.1])),
        mixed=float(rng.choice([0.0, 0.25, 0.6], p=[0.2, 0.5, 0.3])),
        glass_return=float(rng.choice([0.02, 0.1, 0.35, 0.8], p=[0.3, 0.4, 0.2, 0.1])),
        ghosts=float(rng.choice([0.0, 0.3, 1.0], p=[0.35, 0.45, 0.2])),
        noise=float(rng.uniform(0.5, 2.2)),
        gamma=float(rng.uniform(0.5, 1.8)),
        gain=float(np.exp(rng.normal(0, 0.4))),
        beam_bias_m=float(rng.choice([0.0, 0.004, 0.012])),
    )
    blocked: list[tuple[float, float]] = []
    pick = rng.uniform()
    start = float(rng.uniform(-math.pi, math.pi))
    if pick < 0.14:  # a large part of the turn is hidden
        blocked.append((start, start + math.radians(float(rng.uniform(60, 250)))))
    elif pick < 0.3:  # posts
        for _ in range(int(rng.integers(1, 5))):
            at = float(rng.uniform(-math.pi, math.pi))
            blocked.append((at, at + math.radians(float(rng.uniform(1.5, 25)))))
    return LidarModel(_draw_sensor(rng), flaws, Sectors(tuple(blocked)))


def _draw_people(rng: np.random.Generator, building: Building, mount: _Mount) -> list[Person]:
    """The building's people within reach, and now and then somebody close to the sensor."""
    here = mount.position[:2]
    people = [p for p in building.people if 0.45 < math.hypot(p.x_m - here[0], p.y_m - here[1]) < _PEOPLE_WITHIN_M]
    if len(people) > 14:
        people = people[:14]
    if rng.uniform() < 0.4:
        for _ in range(int(rng.integers(1, 4))):
            angle, reach = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(0.7, 3.5))
            spot = here + reach * np.array([math.cos(angle), math.sin(angle)])
            if building.is_free(spot)[0]:
                people.append(make_person(rng, float(spot[0]), float(spot[1]), float(rng.uniform(0, 6.28))))
    return people
