"""A spinning lidar in a building: rays, returns, noise, losses, intensity.

Comes in: a ray caster, materials and the sensor's pose. Goes out: a `Scan` in the sensor's frame and the true label of each point.
Effects that real indoor scans show and that decide whether training on simulation carries over: glass lets rays through, mirrors and glossy
floors give ghosts, dark and grazing surfaces drop out, depth edges give points between two surfaces, the sensor moves during the turn, and
parts of its own rig stand in the way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xkd_ros.core.types import UNKNOWN, Scan
from xkd_ros.worlds.materials import Material, Slot
from xkd_ros.worlds.motion import Motion, Track
from xkd_ros.worlds.raycaster import Hits, Raycaster
from xkd_ros.worlds.sensors import Sensor

_GLASS_PASSES = 4


@dataclass(frozen=True)
class Flaws:
    """How far a scan is from ideal; every figure is a probability or a factor.

    Attributes:
        dropout: Share of returns lost at random.
        dark_loss: How strongly weak returns are lost; 0 never.
        mixed: Share of depth-edge returns that fall between the two surfaces.
        glass_return: Return probability of glass at random incidence (dirt); near-perpendicular glass returns more.
        ghosts: Strength of mirror images in glossy floors and glass; 0 none.
        noise: Factor on the sensor's range noise.
        gamma: Exponent of the intensity response.
        gain: Factor of the intensity response.
        beam_bias_m: Standard deviation of a fixed range error per beam.
    """

    dropout: float = 0.01
    dark_loss: float = 1.0
    mixed: float = 0.3
    glass_return: float = 0.1
    ghosts: float = 0.3
    noise: float = 1.0
    gamma: float = 1.0
    gain: float = 1.0
    beam_bias_m: float = 0.004


@dataclass(frozen=True)
class Sectors:
    """Directions that the mounting hides: azimuth intervals (low, high) in radians that give no return at all."""

    blocked: tuple[tuple[float, float], ...] = ()


class LidarModel:
    """Simulates one sensor.

    Args:
        sensor: Beams, ranges and reporting of intensity.
        flaws: Departures from the ideal.
        sectors: Hidden directions.
    """

    def __init__(self, sensor: Sensor, flaws: Flaws | None = None, sectors: Sectors | None = None) -> None:
        self.sensor = sensor
        self.flaws = flaws or Flaws()
        self.sectors = sectors or Sectors()
        beams, columns = len(sensor.elevations_deg), sensor.columns
        # stored order: beam by beam (Ouster) or firing by firing (Velodyne)
        if sensor.row_major:
            self._ring, self._column = (a.ravel() for a in np.meshgrid(np.arange(beams), np.arange(columns), indexing="ij"))
        else:
            self._column, self._ring = (a.ravel() for a in np.meshgrid(np.arange(columns), np.arange(beams), indexing="ij"))

    def scan(
        self,
        caster: Raycaster,
        materials: tuple[Material, ...],
        world_from_lidar: np.ndarray,
        rng: np.random.Generator,
        motion: Motion | Track | None = None,
        rig: Raycaster | None = None,
        stamp_ns: int = 0,
        frame_id: str = "lidar",
        keep_empty: bool = False,
    ) -> tuple[Scan, np.ndarray]:
        """Take one scan.

        Args:
            caster: The building with its people.
            materials: The building's materials.
            world_from_lidar: (4, 4) float64, pose at the start of the turn.
            rng: Source of every random effect.
            motion: Movement during the turn; standing still when None.
            rig: Parts of the own rig (robot, mast, carrier) in the sensor's frame.
            stamp_ns: Time of the start of the turn.
            frame_id: Name of the sensor frame.
            keep_empty: Keep one point per ray; missing returns become (0, 0, 0) or NaN as the sensor reports them.
        Returns:
            The scan in the sensor frame (as the sensor believes: motion is not corrected), and labels (N,) uint8, 255 for own rig,
            outside world, ghosts, mixed pixels and missing returns.
        """
        azimuth_of_column = -np.arange(self.sensor.columns) * (2 * np.pi / self.sensor.columns) + np.pi
        azimuth_of_column = azimuth_of_column + rng.normal(0, 0.0002, self.sensor.columns)
        keep = self._visible(azimuth_of_column)[self._column]
        ring, column = self._ring[keep], self._column[keep]
        rays = self._directions(azimuth_of_column, ring, column)
        time = (column / self.sensor.columns * (motion.period_s if motion else 0.1)).astype(np.float32)
        origins, world_rays = _place(rays, time, world_from_lidar, motion)
        look = _Look(caster, origins, world_rays)
        look.pass_glass(materials, rng, self.flaws)
        look.mirror(materials, rng, self.flaws)
        if rig is not None:
            look.block(rig.cast(np.zeros_like(rays), rays))
        distance, labels = look.distance.astype(np.float64), look.labels
        distance, labels = self._mix(distance, labels, ring, column, rng)
        strength = self._strength(look, materials, rng)
        lost = self._lost(distance, look.cos, strength, rng)
        bias = rng.normal(0, self.flaws.beam_bias_m, len(self.sensor.elevations_deg))
        sigma = (self.sensor.noise_m + self.sensor.noise_per_m * np.where(np.isfinite(distance), distance, 0)) * self.flaws.noise
        measured = distance + bias[ring] + rng.standard_normal(len(distance)) * sigma
        measured = np.round(measured / self.sensor.range_step_m) * self.sensor.range_step_m
        good = np.isfinite(measured) & ~lost & (measured >= self.sensor.min_range_m) & (measured <= self.sensor.max_range_m)
        intensity = self._intensity(strength, distance, rng)
        points = rays * np.where(good, measured, 0)[:, None].astype(np.float32)
        labels = np.where(good, labels, UNKNOWN).astype(np.uint8)
        if keep_empty and self.sensor.empty != "omit":
            if self.sensor.empty == "nan":
                points[~good] = np.nan
            intensity = np.where(good, intensity, 0).astype(np.float32)
            chosen: np.ndarray | slice = slice(None)
        else:
            chosen = good
        scan = Scan(
            points_m=np.ascontiguousarray(points[chosen], np.float32),
            intensity=intensity[chosen],
            stamp_ns=stamp_ns,
            frame_id=frame_id,
            ring=ring[chosen].astype(np.uint16),
            time_s=time[chosen],
        )
        return scan, labels[chosen]

    def _visible(self, azimuth: np.ndarray) -> np.ndarray:
        seen = np.ones(len(azimuth), bool)
        for low, high in self.sectors.blocked:
            seen &= ((azimuth - low) % (2 * np.pi)) > ((high - low) % (2 * np.pi))
        return seen

    def _directions(self, azimuth_of_column: np.ndarray, ring: np.ndarray, column: np.ndarray) -> np.ndarray:
        elevation = np.radians(np.asarray(self.sensor.elevations_deg))
        ca, sa = np.cos(azimuth_of_column).astype(np.float32), np.sin(azimuth_of_column).astype(np.float32)
        ce, se = np.cos(elevation).astype(np.float32), np.sin(elevation).astype(np.float32)
        return np.stack([ca[column] * ce[ring], sa[column] * ce[ring], se[ring]], 1)

    def _mix(
        self, distance: np.ndarray, labels: np.ndarray, ring: np.ndarray, column: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Put some returns at depth edges between the two surfaces, as a beam of finite width does."""
        if self.flaws.mixed <= 0:
            return distance, labels
        grid = np.full((len(self.sensor.elevations_deg), self.sensor.columns), np.inf)
        names = np.full(grid.shape, UNKNOWN, labels.dtype)
        grid[ring, column], names[ring, column] = distance, labels
        following, its_name = np.roll(grid, -1, axis=1)[ring, column], np.roll(names, -1, axis=1)[ring, column]
        with np.errstate(invalid="ignore"):
            jump = following - distance
            edge = np.isfinite(jump) & (np.abs(jump) > 0.15) & (np.abs(jump) < 4.0)
        edge &= rng.uniform(size=len(edge)) < self.flaws.mixed * 0.5
        where = np.flatnonzero(edge)
        part = rng.uniform(0, 1, len(where))
        moved = part * jump[where]
        distance, labels = distance.copy(), labels.copy()
        distance[where] += moved
        to_own, to_other = np.abs(moved), np.abs(jump[where] - moved)
        name = np.where(to_own <= to_other, labels[where], its_name[where])
        labels[where] = np.where(np.minimum(to_own, to_other) > 0.12, UNKNOWN, name)
        return distance, labels

    def _strength(self, look: _Look, materials: tuple[Material, ...], rng: np.random.Generator) -> np.ndarray:
        """Return the light that comes back before range falls off: reflectivity x incidence x surface variation."""
        reflectivity = np.array([m.reflectivity for m in materials] + [0.3], np.float32)
        per_object = np.random.default_rng(12345).uniform(0.75, 1.25, 4096).astype(np.float32)
        value = reflectivity[look.material] * per_object[look.object_id % 4096] * look.transmission
        return np.asarray(value * np.maximum(look.cos, 0.05) * rng.uniform(0.85, 1.15, len(value)).astype(np.float32))

    def _lost(self, distance: np.ndarray, cos: np.ndarray, strength: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        chance = np.full(len(distance), float(self.flaws.dropout))
        with np.errstate(over="ignore", invalid="ignore"):
            signal = strength / np.square(np.maximum(distance, 1.0) / 10.0)
            weak = np.exp(-signal * 60.0 / max(self.flaws.dark_loss, 1e-3))
        chance += np.where(np.isfinite(weak), weak, 1.0) + np.where(cos < 0.06, 0.35 * self.flaws.dark_loss, 0.0)
        return np.asarray(rng.uniform(size=len(distance)) < chance)

    def _intensity(self, strength: np.ndarray, distance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        value = np.power(np.maximum(strength, 1e-4) * self.flaws.gain, self.flaws.gamma)
        if not self.sensor.calibrated:
            value = value / np.square(1.0 + np.where(np.isfinite(distance), distance, 0) / 4.0)
        value = value * (0.4 * self.sensor.intensity_max) * (1 + 0.05 * rng.standard_normal(len(value)))
        value = np.clip(value, 0, self.sensor.intensity_max)
        return np.asarray(np.round(value / self.sensor.intensity_step) * self.sensor.intensity_step, np.float32)


def _place(
    rays: np.ndarray, time: np.ndarray, world_from_lidar: np.ndarray, motion: Motion | Track | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return world origins and directions of the rays, each at its own time."""
    rotation = world_from_lidar[:3, :3].astype(np.float32)
    position = world_from_lidar[:3, 3].astype(np.float32)
    if motion is None:
        return np.broadcast_to(position, rays.shape), rays @ rotation.T
    shift, turned = motion.moved(rays, time)
    return position + shift @ rotation.T, turned @ rotation.T


class _Look:
    """What each ray of a scan ends on, after glass, mirrors and the own rig."""

    def __init__(self, caster: Raycaster, origins: np.ndarray, rays: np.ndarray) -> None:
        self.caster, self.origins, self.rays = caster, np.asarray(origins), rays
        hits = caster.cast(origins, rays)
        self.distance = hits.distance_m.copy()
        self.labels, self.material, self.cos, self.normal = hits.face_class.copy(), hits.material.copy(), hits.cos_incidence, hits.normal
        self.object_id = caster.face_object[hits.face].copy()
        self.transmission = np.ones(len(rays), np.float32)
        self.glass = np.zeros(len(rays), bool)

    def _replace(self, where: np.ndarray, hits: Hits, extra_m: np.ndarray) -> None:
        self.distance[where] = hits.distance_m + extra_m
        self.labels[where], self.material[where] = hits.face_class, hits.material
        self.cos[where], self.normal[where] = hits.cos_incidence, hits.normal
        self.object_id[where] = self.caster.face_object[hits.face]

    def pass_glass(self, materials: tuple[Material, ...], rng: np.random.Generator, flaws: Flaws) -> None:
        """Let most rays go on behind glass."""
        is_glass = np.array([m.glass for m in materials] + [False])
        candidates = np.flatnonzero(is_glass[self.material])
        for _ in range(_GLASS_PASSES):
            if not len(candidates):
                return
            cos = self.cos[candidates]
            back = np.clip(flaws.glass_return + 0.85 * np.clip((cos - 0.97) / 0.03, 0, 1), 0, 0.95)
            onward = candidates[rng.uniform(size=len(candidates)) >= back]
            self.glass[onward] = True
            step = self.distance[onward] + 0.03 / np.maximum(self.cos[onward], 0.3)
            start = self.origins[onward] + self.rays[onward] * step[:, None]
            self._replace(onward, self.caster.cast(start, self.rays[onward]), step)
            self.transmission[onward] *= 0.7
            candidates = onward[is_glass[self.material[onward]]]
        self.distance[candidates] = np.inf

    def mirror(self, materials: tuple[Material, ...], rng: np.random.Generator, flaws: Flaws) -> None:
        """Give ghosts in mirrors, and sometimes in glossy floors and metal at grazing incidence."""
        specular = np.array([m.specular for m in materials] + [0.0], np.float32)[self.material]
        shine = np.where(self.material == Slot.MIRROR, 0.95, flaws.ghosts * np.clip(specular - 0.25, 0, 1) * np.power(1 - self.cos, 4))
        where = np.flatnonzero((shine > 0.003) & np.isfinite(self.distance) & (rng.uniform(size=len(shine)) < shine))
        if not len(where):
            return
        normal, rays = self.normal[where], self.rays[where]
        bounced = rays - 2 * np.einsum("ij,ij->i", rays, normal)[:, None] * normal
        first = self.distance[where]
        start = self.origins[where] + rays * first[:, None] + bounced * 0.01
        hits = self.caster.cast(start, bounced)
        self._replace(where, hits, first)
        self.labels[where] = UNKNOWN
        self.transmission[where] *= 0.5

    def block(self, rig: Hits) -> None:
        """Let parts of the own rig hide what is behind them."""
        nearer = np.flatnonzero(rig.distance_m < self.distance)
        self.distance[nearer] = rig.distance_m[nearer]
        self.labels[nearer], self.material[nearer] = rig.face_class[nearer], rig.material[nearer]
        self.cos[nearer] = rig.cos_incidence[nearer]
        self.transmission[nearer] = 1.0
