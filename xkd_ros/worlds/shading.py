"""Colour of what camera rays hit: picture, light, glass, mirrors, daylight.

Comes in: rays. Goes out: linear radiance, distance and class per ray, for `exposure`. All per-pixel arrays are float32, one per component:
numpy walks those several times faster than (M, 3) arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xkd_ros.worlds.building import Building
from xkd_ros.worlds.lighting import LightVolume
from xkd_ros.worlds.mesh import concatenate
from xkd_ros.worlds.people import Person
from xkd_ros.worlds.raycaster import Raycaster
from xkd_ros.worlds.surfaces import GLASS, MIRROR, OUTDOORS, Decorator, SurfaceTable
from xkd_ros.worlds.textures import atlas_of, family_index

_SUN = np.array([0.5, 0.3, 0.81], np.float32)
_DAYLIGHT = 4.5
_SKY_HORIZON, _SKY_ZENITH = np.array([6.0, 6.3, 6.6], np.float32), np.array([2.6, 3.9, 6.2], np.float32)
_PANE = np.array([0.86, 0.92, 0.9], np.float32)
_MOST_PANES = 6


@dataclass(frozen=True, eq=False)
class Radiance:
    """What M rays see.

    Attributes:
        rgb: (3, M) float32 linear; 1 is white paper in a well-lit room.
        distance_m: (M,) float32 distance along the ray to the first surface, glass included; inf for the sky.
        labels: (M,) uint8 class of the first surface; 255 where there is none.
    """

    rgb: np.ndarray
    distance_m: np.ndarray
    labels: np.ndarray


class Shader:
    """Shades rays in one building.

    Args:
        building: What is seen; its people are left out, pass them per picture.
        family: Texture family.
        raycaster: Ray caster of `building.mesh`, shared with the lidar when given.
    """

    def __init__(self, building: Building, family: str, raycaster: Raycaster | None = None) -> None:
        self._raycaster = raycaster or Raycaster(building.mesh)
        self._decorator = Decorator(building, atlas_of(building.seed, family), family_index(family))
        self._atlas = self._decorator.atlas
        self._table = self._decorator.table(building.mesh)
        self._light = LightVolume(building, building.seed)

    def shade(self, origin_m: np.ndarray, rays: np.ndarray, pixel_rad: float, people: tuple[Person, ...] = ()) -> Radiance:
        """Trace and shade rays from one point.

        Args:
            origin_m: (3,) world.
            rays: (M, 3) float32 unit directions, world.
            pixel_rad: Angle between neighbouring rays.
            people: Where everybody is at this moment.
        """
        caster, table = self._raycaster, self._table
        if people:
            crowd = concatenate([person.mesh_in_world() for person in people])
            caster, table = caster.with_meshes([crowd]), table.joined(self._decorator.table(crowd))
        origins = np.broadcast_to(np.asarray(origin_m, np.float32), rays.shape)
        hits = caster.cast(origins, rays)
        face, distance = hits.face, hits.distance_m
        first = Radiance(np.zeros((3, 0)), hits.distance_m, hits.face_class)
        optics = table.optics[face]
        special = np.flatnonzero((optics == GLASS) | (optics == MIRROR))
        if not len(special):
            return Radiance(self._colour(table, face, origins, rays, distance, distance, pixel_rad), first.distance_m, first.labels)
        face, start, direction, length = face.copy(), origins.copy(), rays.copy(), distance.copy()
        tint = np.ones((3, len(special)), np.float32)
        total = distance[special].copy()
        self._pass_through(caster, table, special, face, start, direction, length, tint, total)
        travelled = distance.copy()
        travelled[special] = total
        rgb = self._colour(table, face, start, direction, length, travelled, pixel_rad)
        # A pane adds a faint reflection of its own room.
        rgb[:, special] = rgb[:, special] * tint + np.float32(0.02)
        return Radiance(rgb, first.distance_m, first.labels)

    def _pass_through(
        self,
        caster: Raycaster,
        table: SurfaceTable,
        special: np.ndarray,
        face: np.ndarray,
        start: np.ndarray,
        direction: np.ndarray,
        length: np.ndarray,
        tint: np.ndarray,
        total: np.ndarray,
    ) -> None:
        """Follow the rays `special` through panes and off mirrors, in place, until they hit something solid."""
        open_rays = np.arange(len(special))
        for _ in range(_MOST_PANES):
            where = special[open_rays]
            optics = table.optics[face[where]]
            keep = (optics == GLASS) | (optics == MIRROR)
            open_rays, where, optics = open_rays[keep], where[keep], optics[keep]
            if not len(where):
                return
            tint[:, open_rays] *= np.where(optics == MIRROR, np.float32(0.85), _PANE[:, None])
            normal = table.normal[:, face[where]].T
            across = np.einsum("ij,ij->i", normal, direction[where])[:, None]
            place = start[where] + direction[where] * length[where, None]
            turned = np.where((optics == MIRROR)[:, None], direction[where] - 2 * across * normal, direction[where])
            start[where] = place + np.float32(2e-3) * turned
            direction[where] = turned
            hits = caster.cast(start[where], turned)
            face[where], length[where] = hits.face, hits.distance_m
            total[open_rays] += hits.distance_m

    def _colour(
        self,
        table: SurfaceTable,
        face: np.ndarray,
        start: np.ndarray,
        direction: np.ndarray,
        length: np.ndarray,
        travelled: np.ndarray,
        pixel_rad: float,
    ) -> np.ndarray:
        """Colour of the surfaces `face` hit at start + length * direction; (3, M) float32."""
        length = np.where(face >= 0, length, 0).astype(np.float32)
        dx, dy, dz = (np.ascontiguousarray(direction[:, k]) for k in range(3))
        x, y, z = (start[:, k] + d * length for k, d in enumerate((dx, dy, dz)))
        nx, ny, nz = (column[face] for column in table.normal)
        cosine = nx * dx + ny * dy + nz * dz
        side = np.where(cosine > 0, np.float32(-1), np.float32(1))
        normal = (nx * side, ny * side, nz * side)
        a, b, c, d = (column[face] for column in table.along_u)
        u = x * a + y * b + z * c + d
        a, b, c, d = (column[face] for column in table.along_v)
        v = x * a + y * b + z * c + d
        slant = np.maximum(np.abs(cosine), np.float32(0.25))
        footprint = np.where(face >= 0, travelled, 0) * np.float32(pixel_rad) * table.per_metre[face] / slant
        texel = self._atlas.look_up(table.layer[face], u, v, footprint)
        light, tint = self._light.look_up(x, y, z, normal, table.axis[face])
        # A touch of the viewing angle shapes round things.
        light *= np.float32(0.85) + np.float32(0.15) * np.abs(cosine)
        glow = table.glow[face]
        rgb = np.empty((3, len(face)), np.float32)
        for k in range(3):
            rgb[k] = table.rgb[k][face] * texel[k] * (light * tint[:, k] + glow)
        self._outdoors(table, face, normal, texel, dz, rgb)
        return rgb

    def _outdoors(
        self,
        table: SurfaceTable,
        face: np.ndarray,
        normal: tuple[np.ndarray, ...],
        texel: tuple[np.ndarray, ...],
        dz: np.ndarray,
        rgb: np.ndarray,
    ) -> None:
        """Overwrite what lies under the open sky, and the sky itself."""
        where = np.flatnonzero(table.optics[face] == OUTDOORS)
        if not len(where):
            return
        sun = sum(n[where] * s for n, s in zip(normal, _SUN))
        daylight = _DAYLIGHT * (0.45 + 0.55 * np.maximum(sun, 0))
        high = np.clip(dz[where], 0, 1) ** 0.7
        is_sky = face[where] < 0
        for k in range(3):
            sky = _SKY_HORIZON[k] + high * (_SKY_ZENITH[k] - _SKY_HORIZON[k])
            rgb[k, where] = np.where(is_sky, sky, table.rgb[k][face[where]] * texel[k][where] * daylight)
