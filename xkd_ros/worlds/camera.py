"""Pictures of a building through a calibrated camera, lens distortion included.

Comes in: a `Shader` and a `Camera`. Goes out: `Picture`s with true distances and classes, for `simulate` and for teaching image models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xkd_ros.core.camera import Camera
from xkd_ros.core.types import UNKNOWN
from xkd_ros.worlds.exposure import Exposure, SensorModel
from xkd_ros.worlds.people import Person
from xkd_ros.worlds.shading import Shader


@dataclass(frozen=True, eq=False)
class Picture:
    """One rendered picture.

    Attributes:
        rgb: (H, W, 3) uint8.
        distance_m: (H, W) float32 from the camera to the first surface along each ray, glass included; inf where there is none.
        labels: (H, W) uint8 indoor-12 class of the first surface; 255 where there is none.
    """

    rgb: np.ndarray
    distance_m: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Look:
    """What falls into a camera, before its sensor.

    Attributes:
        light: (3, H * W) float32 linear light.
        distance_m, labels: (H, W) as of a `Picture`.
    """

    light: np.ndarray
    distance_m: np.ndarray
    labels: np.ndarray


class CameraRenderer:
    """Renders one camera: rays once per camera, one per pixel, through the lens model.

    Args:
        camera: Intrinsics; pixels that no ray reaches stay black.
        shader: The building to look at.
        sensor: Exposure, noise and blur.
    """

    def __init__(self, camera: Camera, shader: Shader, sensor: SensorModel | None = None) -> None:
        rows, columns = np.mgrid[0 : camera.height, 0 : camera.width]
        rays = camera.unproject(np.stack([columns.reshape(-1), rows.reshape(-1)], 1))
        self._seen = np.flatnonzero(np.isfinite(rays).all(1))
        self._rays = np.ascontiguousarray(rays[self._seen], np.float32)
        self._size = (camera.height, camera.width)
        self._pixel_rad = float(1 / camera.K[0, 0])
        self._shader = shader
        self._exposure = Exposure(camera, sensor or SensorModel())

    def render(self, world_from_cam: np.ndarray, rng: np.random.Generator, people: tuple[Person, ...] = ()) -> Picture:
        """Render one picture: `look` and `develop`."""
        return self.develop(self.look(world_from_cam, people), rng)

    def look(self, world_from_cam: np.ndarray, people: tuple[Person, ...] = ()) -> Look:
        """Compute what falls into the camera; the same whatever was rendered before.

        Args:
            world_from_cam: (4, 4) float64, optical frame to world.
            people: Where everybody is at this moment.
        """
        rays = self._rays @ world_from_cam[:3, :3].T.astype(np.float32)
        light = self._shader.shade(world_from_cam[:3, 3], rays, self._pixel_rad, people)
        count = self._size[0] * self._size[1]
        rgb = light.rgb
        distance, labels = light.distance_m, light.labels
        if len(self._seen) < count:
            whole = np.zeros((3, count), np.float32)
            whole[:, self._seen] = rgb
            rgb = whole
            distance, labels = _scatter(distance, self._seen, count, np.inf), _scatter(labels, self._seen, count, UNKNOWN)
        return Look(rgb, distance.reshape(self._size), labels.reshape(self._size))

    def develop(self, look: Look, rng: np.random.Generator) -> Picture:
        """Make a picture of it; successive calls share the exposure, as in a film.

        Args:
            look: From `look`.
            rng: Sensor noise.
        """
        return Picture(self._exposure.develop(look.light, rng), look.distance_m, look.labels)


def _scatter(values: np.ndarray, where: np.ndarray, count: int, rest: float) -> np.ndarray:
    whole = np.full(count, rest, values.dtype)
    whole[where] = values
    return whole
