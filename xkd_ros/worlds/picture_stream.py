"""An endless supply of labelled pictures for teaching image models: random building, camera, pose, exposure and people, from one number.

Next room: `picture_shards`, which stores them, and `distill`, which augments them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from xkd_ros.core.camera import Camera
from xkd_ros.core.se3 import make_transform, rotation_from_rpy
from xkd_ros.worlds.building import Building, make_building
from xkd_ros.worlds.camera import CameraRenderer
from xkd_ros.worlds.exposure import SensorModel
from xkd_ros.worlds.people import Person, make_person
from xkd_ros.worlds.raycaster import Raycaster
from xkd_ros.worlds.shading import Shader
from xkd_ros.worlds.textures import family_index

WIDTH, HEIGHT = 320, 240
PICTURES_PER_BUILDING = 6
VALIDATION_SEED = 1_000_000_002
"""First seed of pictures kept for validation: no seed below it shares a building with one from here on."""
_FIRST_BUILDING = {"teach2d": 4_000_000_000, "train": 0, "test": 60}
_BENCHMARK_BUILDINGS = {"train": 60, "test": 40}
_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # base (x forward, z up) from optical frame
_PEOPLE_WITHIN_M = 18.0
_VIEWS, _COARSE = 6, 12
_SAME_MOST = 0.8


@dataclass(frozen=True, eq=False)
class _World:
    building: Building
    caster: Raycaster
    shader: Shader


@lru_cache(maxsize=2)
def _world(seed: int, family: str) -> _World:
    building = make_building(seed)
    caster = Raycaster(building.mesh)
    return _World(building, caster, Shader(building, family, caster))


def building_of(seed: int, family: str, pictures_per_building: int = PICTURES_PER_BUILDING) -> int:
    """Return the building that a picture shows.

    Pictures of family "teach2d" show buildings that nothing else uses, those of "train" and "test" the buildings of the benchmark
    (0-59 and 60-99), over and over: there they tell how good an image model is where it will be used.
    """
    family_index(family)
    number = seed // pictures_per_building
    return _FIRST_BUILDING[family] + (number % _BENCHMARK_BUILDINGS[family] if family in _BENCHMARK_BUILDINGS else number)


def sample_picture(seed: int, family: str = "teach2d", pictures_per_building: int = PICTURES_PER_BUILDING) -> tuple[np.ndarray, np.ndarray]:
    """Render one labelled picture; the same seed gives the same picture.

    Args:
        seed: Any non-negative integer; consecutive seeds share a building, so ask for them in order.
        family: Texture family.
        pictures_per_building: How many consecutive seeds share a building.
    Returns:
        rgb (HEIGHT, WIDTH, 3) uint8, and labels (HEIGHT, WIDTH) uint8: indoor-12 class of the first surface, 255 where there is none.
    Raises:
        ConfigError: unknown family.
    """
    world = _world(building_of(seed, family, pictures_per_building), family)
    rng = np.random.default_rng([seed, family_index(family), 0x91C])
    camera = _draw_camera(rng)
    world_from_cam = _choose_view(rng, world, camera)
    people = _draw_people(rng, world.building, world_from_cam)
    sensor = SensorModel(
        noise=float(rng.uniform(0.5, 5.0)),
        blur_px=float(rng.uniform(0.35, 0.9)),
        vignetting=float(rng.uniform(0, 0.5)),
        mono=bool(rng.uniform() < 0.2),
        tint=(float(rng.normal(1, 0.05)), 1.0, float(rng.normal(1, 0.06))),
    )
    picture = CameraRenderer(camera, world.shader, sensor).render(world_from_cam, rng, people)
    return _expose(picture.rgb, rng), picture.labels


def _draw_camera(rng: np.random.Generator) -> Camera:
    """Draw a lens from narrow to fisheye; pixels need not be square, because image models see resized pictures."""
    fisheye = rng.uniform() < 0.35
    centre = ((WIDTH - 1) / 2 + rng.normal(0, 0.02 * WIDTH), (HEIGHT - 1) / 2 + rng.normal(0, 0.02 * HEIGHT))
    stretch = float(np.exp(rng.normal(0, 0.04)))
    if fisheye:
        across = math.radians(float(rng.uniform(95, 185)))
        focal = WIDTH / across
        bend = rng.normal(0, (0.04, 0.01, 0.006, 0.002))
        matrix = np.array([focal, 0, centre[0], 0, focal * stretch, centre[1], 0, 0, 1])
        return Camera(WIDTH, HEIGHT, matrix, "equidistant", bend)
    across = math.radians(float(rng.uniform(48, 105)))
    focal = WIDTH / (2 * math.tan(across / 2))
    k1 = float(rng.uniform(-0.3, 0.03)) if rng.uniform() < 0.6 else 0.0
    bend = np.array([k1, 0.27 * abs(k1), *rng.normal(0, 5e-4, 2), 0.0])
    return Camera(WIDTH, HEIGHT, np.array([focal, 0, centre[0], 0, focal * stretch, centre[1], 0, 0, 1]), "plumb_bob", bend)


def _draw_pose(rng: np.random.Generator, world: _World) -> np.ndarray:
    """Draw world_from_cam: somewhere on free floor, at any height that robots and people carry cameras at."""
    xy = world.building.sample_free(rng, 1, bool(rng.uniform() < 0.7), float(rng.choice([0.0, 1.0, 2.0])))[0]
    above = world.caster.cast(np.array([[*xy, 0.15]], np.float32), np.array([[0, 0, 1]], np.float32)).distance_m[0]
    height = max(0.2, min(float(rng.uniform(0.3, 2.0)), float(above) - 0.1))
    size = float(rng.choice([2.0, 6.0, 16.0], p=[0.35, 0.4, 0.25]))
    roll, pitch = np.radians(np.clip(rng.normal(0, (0.5 * size, size)), -35, 35))
    turn = rotation_from_rpy(float(roll), float(pitch), float(rng.uniform(-math.pi, math.pi)))
    return make_transform(turn @ _OPTICAL, (*xy, height))


def _choose_view(rng: np.random.Generator, world: _World, camera: Camera) -> np.ndarray:
    """Draw views until one shows more than a bare wall; half of the time take the richest of several, for the rare classes."""
    columns, rows = np.meshgrid(np.linspace(0, WIDTH - 1, _COARSE), np.linspace(0, HEIGHT - 1, _COARSE))
    rays = camera.unproject(np.stack([columns.reshape(-1), rows.reshape(-1)], 1))
    rays = np.ascontiguousarray(rays[np.isfinite(rays).all(1)], np.float32)
    rich = rng.uniform() < 0.5
    best, most = np.eye(4), -1.0
    for _ in range(_VIEWS):
        pose = _draw_pose(rng, world)
        origins = np.tile(pose[:3, 3].astype(np.float32), (len(rays), 1))
        seen = world.caster.cast(origins, rays @ pose[:3, :3].T.astype(np.float32)).face_class
        share = np.bincount(seen[seen < 12], minlength=12) / len(rays)
        richness = float(np.sqrt(share).sum())
        if richness > most:
            best, most = pose, richness
        if not rich and share.max() < _SAME_MOST:
            return pose
    return best


def _draw_people(rng: np.random.Generator, building: Building, world_from_cam: np.ndarray) -> tuple[Person, ...]:
    """The building's people within sight, and now and then some in front of the camera."""
    here, ahead = world_from_cam[:2, 3], math.atan2(world_from_cam[1, 2], world_from_cam[0, 2])
    people = [p for p in building.people if 0.6 < math.hypot(p.x_m - here[0], p.y_m - here[1]) < _PEOPLE_WITHIN_M][:12]
    if rng.uniform() < 0.3:
        for _ in range(int(rng.integers(1, 4))):
            angle, reach = ahead + float(rng.normal(0, 0.6)), float(rng.uniform(0.9, 6.0))
            spot = here + reach * np.array([math.cos(angle), math.sin(angle)])
            if building.is_free(spot)[0]:
                people.append(make_person(rng, float(spot[0]), float(spot[1]), float(rng.uniform(0, 6.28))))
    return tuple(people)


def _expose(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exposure that missed, and now and then a shaken camera."""
    import cv2

    if rng.uniform() < 0.15:
        length, angle = int(rng.integers(3, 8)), float(rng.uniform(0, math.pi))
        kernel = np.zeros((9, 9), np.float32)
        steps = np.linspace(-length / 2, length / 2, 25)
        kernel[np.rint(4 + steps * math.sin(angle)).astype(int), np.rint(4 + steps * math.cos(angle)).astype(int)] = 1
        rgb = cv2.filter2D(rgb, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    table = 255 * (np.arange(256) / 255) ** float(np.exp(rng.normal(0, 0.18)))
    return np.asarray(np.rint(table).astype(np.uint8)[rgb])
