"""Light in a building, computed once: how much falls at every place from each of six directions, with shadows.

Comes in: a building. Goes out: a `LightVolume` that `shading` reads for every pixel. Lamps and windows of a room light that room; light
through doors is left to the ambient term. People cast no shadow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xkd_ros.worlds.building import Building
from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.surfaces import rooms_of

_CELL_M = 0.25
_MOST_CELLS = 250_000
_NEAREST, _MOST_WINDOWS = 6, 4
_TRANSPARENT = (Slot.LAMP, Slot.GLASS)
_AXES = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32)
# Light that has bounced, seen by surfaces facing +x -x +y -y +z (floors) -z (ceilings).
_AMBIENT = np.array([0.36, 0.33, 0.38, 0.35, 0.32, 0.5], np.float32)


class LightVolume:
    """Six-sided light on a regular grid over the storey.

    Args:
        building: Lamps, windows and rooms come from its faces and polygons.
        seed: Draws brightness and colour of the light of each room.
    """

    def __init__(self, building: Building, seed: int) -> None:
        rng = np.random.default_rng([seed, 0x116])
        rooms = len(building.rooms)
        self._brightness = rng.uniform(0.55, 1.25, rooms + 1)
        warmth = rng.uniform(-1, 1, rooms + 1)[:, None]
        self._tint = np.clip(1 + warmth * [[0.10, 0.0, -0.16]], 0.7, 1.2).astype(np.float32)
        low = np.min([r.polygon.min(0) for r in building.rooms], 0) - 0.3
        high = np.max([r.polygon.max(0) for r in building.rooms], 0) + 0.3
        extent = np.append(high - low, max(r.height_m for r in building.rooms) + 0.3)
        self.cell_m = max(_CELL_M, float(np.prod(extent) / _MOST_CELLS) ** (1 / 3))
        self._origin = np.append(low, -0.1).astype(np.float32)
        self._shape = tuple(int(n) for n in np.ceil(extent / self.cell_m)[::-1] + 1)
        plan = np.stack(np.meshgrid(*(np.arange(n) for n in self._shape[:0:-1])), -1).reshape(-1, 2)
        self._room = rooms_of(building, plan * self.cell_m + low).reshape(self._shape[1:])
        self._light = self._compute(building)
        # Tint per column of the grid; outside every room the last, neutral one.
        self._tint[-1] = 1.0
        self._fill_walls()

    def _compute(self, building: Building) -> np.ndarray:
        """Sum the light of each room's lamps and windows; (6, Z * Y * X) float32."""
        light = np.zeros((6, *self._shape), np.float32)
        solid = ~np.isin(building.face_material, _TRANSPARENT)
        scene = _scene(building.vertices, building.faces[solid])
        heights = np.arange(self._shape[0]) * self.cell_m + self._origin[2]
        lamps = _lamps(building)
        windows = _windows(building)
        for index, room in enumerate(building.rooms):
            rows, columns = np.nonzero(self._room == index)
            levels = np.flatnonzero(heights < room.height_m + self.cell_m)
            above = slice(levels[-1] + 1, None)
            if not len(rows):
                continue
            z, k = (grid.reshape(-1) for grid in np.meshgrid(levels, np.arange(len(rows)), indexing="ij"))
            xyz = np.stack([columns[k], rows[k], z], 1).astype(np.float32) * np.float32(self.cell_m) + self._origin
            sources = lamps[lamps[:, 0] == index]
            if not len(sources):
                sources = _hidden_lamps(building, index)
            own_windows = windows[windows[:, 0] == index]
            strongest = own_windows[np.argsort(-own_windows[:, 7], kind="stable")[:_MOST_WINDOWS]]
            direct, seen = _direct(scene, xyz, np.concatenate([sources, strongest]))
            desk = np.abs(xyz[:, 2] - 0.9) < self.cell_m
            level = self._brightness[index] / max(float(direct[desk, 4].mean()), 1e-3)
            ambient = self._brightness[index] * _AMBIENT * (0.55 + 0.45 * seen[:, None])
            # Roofs higher than the walls get what reaches the top.
            light[:, z, rows[k], columns[k]] = (np.minimum(direct * level, 2.2 * self._brightness[index]) + ambient).T
            light[:, above, rows, columns] = light[:, levels[-1], rows, columns][:, None]
        return light.reshape(6, -1)

    def _fill_walls(self) -> None:
        """Copy the light of the nearest room into walls and beyond, so that interpolation does not darken borders."""
        from scipy.ndimage import distance_transform_edt

        y, x = distance_transform_edt(self._room < 0, return_distances=False, return_indices=True)
        light = self._light.reshape(6, *self._shape)
        self._light = np.ascontiguousarray(light[:, :, y, x]).reshape(6, -1)
        self._room = self._room[y, x]

    def look_up(
        self, x: np.ndarray, y: np.ndarray, z: np.ndarray, normal: tuple[np.ndarray, np.ndarray, np.ndarray], axis: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read the light that falls on surfaces.

        Args:
            x: (M,) float32 world, metres.
            y: (M,) float32 world.
            z: (M,) float32 world.
            normal: Three (M,) float32 components of the unit normal towards the viewer.
            axis: (M,) 0-2 where the normal lies along x, y or z, else -1.
        Returns:
            Light (M,) float32, about 1 on a well-lit table, and its tint as (M, 3) float32.
        """
        planes, height, width = self._shape
        inverse, half = np.float32(1 / self.cell_m), np.float32(0.5)
        base = np.zeros(len(x), np.int32)
        parts, column = [], None
        limits, strides = (width, height, planes), (1, width, width * height)
        for values, n, start, limit, stride in zip((x, y, z), normal, self._origin, limits, strides):
            # Half a cell off the surface: inside the room, not in the wall.
            place = np.clip((values - start) * inverse + n * half, 0, np.float32(limit - 1.001))
            cell = place.astype(np.int32)
            parts.append(place - cell)
            base += cell * np.int32(stride)
            if stride == width:
                column = base.copy()
        towards = np.where(axis >= 0, 2 * axis + (np.choose(np.maximum(axis, 0), normal) < 0), 0).astype(np.int32)
        result = self._interpolate(towards, base, parts)
        slanted = np.flatnonzero(axis < 0)
        if len(slanted):
            near = [part[slanted] for part in parts]
            total = np.zeros(len(slanted), np.float32)
            for k, n in enumerate(normal):
                along = n[slanted]
                total += along * along * self._interpolate(2 * k + (along < 0).astype(np.int32), base[slanted], near)
            result[slanted] = total
        return result, self._tint[self._room.reshape(-1)[column]]

    def _interpolate(self, towards: np.ndarray, base: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
        """Trilinear reading of one of the six directions."""
        _, height, width = self._shape
        flat = self._light.reshape(-1)
        index = towards * np.int32(self._light.shape[1]) + base
        fx, fy, fz = parts
        slices = []
        for dz in (0, width * height):
            rows = []
            for dy in (0, width):
                a = flat[index + np.int32(dz + dy)]
                rows.append(a + fx * (flat[index + np.int32(dz + dy + 1)] - a))
            slices.append(rows[0] + fy * (rows[1] - rows[0]))
        return slices[0] + fz * (slices[1] - slices[0])


def _scene(vertices: np.ndarray, faces: np.ndarray) -> Any:
    from embreex import rtcore_scene
    from embreex.mesh_construction import TriangleMesh

    scene = rtcore_scene.EmbreeScene()
    TriangleMesh(scene, np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.int32))
    return scene


def _direct(scene: Any, xyz: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Light of the nearest sources at every place: (V, 6) per direction, and (V,) the share of them that is seen."""
    total, seen = np.zeros((len(xyz), 6), np.float32), np.zeros(len(xyz), np.float32)
    count = min(_NEAREST, len(sources))
    square = np.square(xyz[:, None, :2] - sources[None, :, 1:3]).sum(2) if len(sources) > count else np.zeros((len(xyz), count))
    nearest = np.argpartition(square, count - 1, axis=1)[:, :count]
    for rank in range(count):
        source = sources[nearest[:, rank]]
        ray = source[:, 1:4] - xyz
        distance = np.sqrt(np.einsum("ij,ij->i", ray, ray))
        ray /= np.maximum(distance, 1e-3)[:, None]
        blocked = scene.run(xyz, np.ascontiguousarray(ray), dists=np.maximum(distance - 0.12, 0.0), query="OCCLUDED") >= 0
        # A little light leaves sideways and upwards too: real lamps have covers.
        facing = np.maximum(-np.einsum("ij,ij->i", ray, source[:, 4:7]), 0.12)
        strength = np.where(blocked, 0, source[:, 7] * facing / (distance**2 + 0.8)).astype(np.float32)
        # Wrapped cosine: lamps are not points.
        total += strength[:, None] * np.maximum((ray @ _AXES.T + 0.15) / 1.15, 0)
        seen += ~blocked
    return total, seen / max(count, 1)


def _hidden_lamps(building: Building, index: int) -> np.ndarray:
    """Light a room without visible lamps from a few places below its ceiling; rows like those of `_lamps`."""
    room = building.rooms[index]
    low, high = room.polygon.min(0), room.polygon.max(0)
    along_x, along_y = (np.linspace(a, b, 2 * max(1, round((b - a) / 4)) + 1)[1::2] for a, b in zip(low, high))
    spots = np.stack(np.meshgrid(along_x, along_y), -1).reshape(-1, 2)
    within = rooms_of(building, spots) == index
    spots = spots[within] if within.any() else room.polygon.mean(0)[None]
    rest = np.tile([room.height_m - 0.25, 0, 0, -1, 1.0], (len(spots), 1))
    return np.column_stack([np.full(len(spots), index), spots, rest]).astype(np.float32)


def _lamps(building: Building) -> np.ndarray:
    """Find lamps: (L, 8) rows of room, x, y, z, direction, power; faces less than a metre apart are one lamp."""
    faces = building.faces[building.face_material == Slot.LAMP]
    if not len(faces):
        return np.zeros((0, 8), np.float32)
    corners = building.vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    centre = corners.mean(1)
    _, group = np.unique(np.floor(centre[:, :2]).astype(np.int64), axis=0, return_inverse=True)
    group = group.reshape(-1)
    weight = np.bincount(group, area)
    place = np.stack([np.bincount(group, area * centre[:, k]) / np.maximum(weight, 1e-9) for k in range(3)], 1)
    lowest = np.full(len(weight), np.inf)
    np.minimum.at(lowest, group, corners[..., 2].min(1))
    place[:, 2] = lowest - 0.04
    down = np.tile([0.0, 0.0, -1.0], (len(place), 1))
    return np.column_stack([rooms_of(building, place[:, :2]), place, down, np.sqrt(weight)]).astype(np.float32)


def _windows(building: Building) -> np.ndarray:
    """Find panes with the outside behind them, shining into their room; rows like those of `_lamps`."""
    faces = building.faces[(building.face_material == Slot.GLASS) & (building.face_class == 4)]
    corners = building.vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normal, axis=1) / 2
    big = (area > 0.2) & (np.abs(normal[:, 2]) < 0.1 * area)
    corners, normal, area = corners[big], normal[big] / (2 * area[big, None]), area[big]
    # The two triangles of a pane meet on its diagonal; the mean of all corners is a little off its middle, which does not matter.
    centre = corners.mean(1)
    inside = rooms_of(building, (centre + 0.7 * normal)[:, :2])
    beyond = rooms_of(building, (centre - 0.7 * normal)[:, :2])
    good = (inside >= 0) & (beyond < 0)
    place = centre[good] + 0.15 * normal[good]
    return np.column_stack([inside[good], place, normal[good], 2.0 * area[good]]).astype(np.float32)
