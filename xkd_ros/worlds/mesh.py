"""Triangle meshes with a class, a material and an object per face, and the builder that assembles them fast.

Builders call `box`, `cylinder`, `limb`, `sphere` and `quad` thousands of times; each call only remembers a few numbers.
`MeshBuilder.build` turns them into one mesh with a handful of vectorised operations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

UNLABELLED = 255  # outside world, own rig: never a class


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles with labels.

    Attributes:
        vertices: (V, 3) float32, metres, z up.
        faces: (F, 3) int32 into vertices.
        face_class: (F,) uint8, indoor-12 ids, 255 where there is no class.
        face_material: (F,) int16 into the building's materials.
        face_object: (F,) int32, one id per piece of furniture, person or wall panel.
    """

    vertices: np.ndarray
    faces: np.ndarray
    face_class: np.ndarray
    face_material: np.ndarray
    face_object: np.ndarray

    def moved(self, x_m: float, y_m: float, z_m: float, yaw_rad: float) -> Mesh:
        """Return the mesh turned about z by yaw and then shifted."""
        cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], np.float32)
        return replace(self, vertices=self.vertices @ turn + np.array([x_m, y_m, z_m], np.float32))


def concatenate(meshes: list[Mesh]) -> Mesh:
    """Join meshes; object ids of later meshes are shifted so that they stay different."""
    offsets = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]]).astype(np.int32)
    faces, objects, next_object = [], [], 0
    for mesh, offset in zip(meshes, offsets, strict=True):
        faces.append(mesh.faces + offset)
        objects.append(mesh.face_object + next_object)
        next_object += int(mesh.face_object.max(initial=-1)) + 1
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate(faces),
        np.concatenate([m.face_class for m in meshes]),
        np.concatenate([m.face_material for m in meshes]),
        np.concatenate(objects).astype(np.int32),
    )


def _box_template() -> tuple[np.ndarray, np.ndarray]:
    corners = np.array([[x, y, z] for z in (0.0, 1.0) for y in (-0.5, 0.5) for x in (-0.5, 0.5)])
    sides = [(0, 1, 5, 4), (1, 3, 7, 5), (3, 2, 6, 7), (2, 0, 4, 6), (4, 5, 7, 6), (1, 0, 2, 3)]
    return corners, np.array([t for a, b, c, d in sides for t in ((a, b, c), (a, c, d))])


def _cylinder_template(sides: int) -> tuple[np.ndarray, np.ndarray]:
    angle = np.arange(sides) * 2 * np.pi / sides
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    vertices = np.concatenate([np.c_[ring, np.zeros(sides)], np.c_[ring, np.ones(sides)], [[0, 0, 0], [0, 0, 1]]])
    i, j = np.arange(sides), (np.arange(sides) + 1) % sides
    faces = [np.c_[i, j, j + sides], np.c_[i, j + sides, i + sides]]
    faces += [np.c_[j, i, np.full(sides, 2 * sides)], np.c_[i + sides, j + sides, np.full(sides, 2 * sides + 1)]]
    return vertices, np.concatenate(faces)


def _sphere_template(around: int = 8, levels: int = 5) -> tuple[np.ndarray, np.ndarray]:
    polar = np.linspace(0, np.pi, levels + 1)[1:-1]
    angle = np.arange(around) * 2 * np.pi / around
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    rows = [np.c_[ring * np.sin(p), np.full(around, np.cos(p))] for p in polar]
    vertices = np.concatenate([*rows, [[0, 0, 1], [0, 0, -1]]])
    i, j = np.arange(around), (np.arange(around) + 1) % around
    faces = []
    for row in range(levels - 2):
        a, b = row * around, (row + 1) * around
        faces += [np.c_[a + i, b + i, b + j], np.c_[a + i, b + j, a + j]]
    top, bottom, last = len(vertices) - 2, len(vertices) - 1, (levels - 2) * around
    faces += [np.c_[np.full(around, top), i, j], np.c_[np.full(around, bottom), last + j, last + i]]
    return vertices, np.concatenate(faces)


_TEMPLATES = (_box_template(), _cylinder_template(6), _cylinder_template(12), _sphere_template(), _cylinder_template(24))
_BOX, _PRISM, _CYLINDER, _SPHERE, _DRUM = range(5)


class MeshBuilder:
    """Collects simple solids in object frames and builds one mesh of them."""

    def __init__(self) -> None:
        self._rows: list[list[tuple[float, ...]]] = [[] for _ in _TEMPLATES]
        self._quads: list[tuple[float, ...]] = []
        self._frames: list[tuple[float, ...]] = [(0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0)]
        self._stretch = (1.0, 1.0, 1.0)
        self._object = 0

    def frame(self, x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0) -> int:
        """Start a new object whose parts are given in a frame at (x, y, z) turned by yaw; returns its id."""
        self._frames.append((x, y, z, yaw, *self._stretch))
        self._object += 1
        return self._object

    def same_object(self, x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0) -> None:
        """Move the frame without starting a new object."""
        self._frames.append((x, y, z, yaw, *self._stretch))

    def stretch(self, x: float = 1.0, y: float = 1.0, z: float = 1.0) -> None:
        """Stretch what is added in later frames along the axes of those frames."""
        self._stretch = (x, y, z)

    def shift(self, x: float, y: float) -> None:
        """Move the current frame by (x, y) of its own axes, within the same object."""
        x0, y0, z0, yaw = self._frames[-1][:4]
        c, s = math.cos(yaw), math.sin(yaw)
        self._frames.append((x0 + c * x - s * y, y0 + s * x + c * y, z0, yaw, *self._stretch))

    def box(
        self, x: float, y: float, z0: float, sx: float, sy: float, sz: float, cls: int, mat: int, yaw: float = 0.0, pitch: float = 0.0
    ) -> None:
        """Add a box: centre (x, y), bottom z0, sizes; turned by yaw about z, then pitch about its own y axis first."""
        if pitch == 0.0 and yaw == 0.0:
            row = (sx, 0.0, 0.0, x, 0.0, sy, 0.0, y, 0.0, 0.0, sz, z0)
        else:
            c, s, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
            row = (c * cp * sx, -s * sy, c * sp * sz, x, s * cp * sx, c * sy, s * sp * sz, y, -sp * sx, 0.0, cp * sz, z0)
        self._rows[_BOX].append((*row, len(self._frames) - 1, cls, mat, self._object))

    def cylinder(
        self, x: float, y: float, z0: float, radius: float, height: float, cls: int, mat: int, radius_y: float | None = None, sides: int = 6
    ) -> None:
        """Add an upright cylinder (elliptic when radius_y is given)."""
        which = _PRISM if sides <= 6 else _CYLINDER if sides <= 12 else _DRUM
        ry = radius if radius_y is None else radius_y
        row = (radius, 0.0, 0.0, x, 0.0, ry, 0.0, y, 0.0, 0.0, height, z0)
        self._rows[which].append((*row, len(self._frames) - 1, cls, mat, self._object))

    def limb(self, p: tuple[float, float, float], q: tuple[float, float, float], radius: float, cls: int, mat: int, sides: int = 6) -> None:
        """Add a cylinder from point p to point q."""
        dx, dy, dz = q[0] - p[0], q[1] - p[1], q[2] - p[2]
        length = math.sqrt(dx * dx + dy * dy + dz * dz) or 1e-6
        wx, wy, wz = dx / length, dy / length, dz / length
        if abs(wz) < 0.9:
            norm = math.hypot(wx, wy)
            ux, uy, uz = -wy / norm, wx / norm, 0.0
        else:
            norm = math.hypot(wz, wy)
            ux, uy, uz = 0.0, wz / norm, -wy / norm
        vx, vy, vz = wy * uz - wz * uy, wz * ux - wx * uz, wx * uy - wy * ux
        r = radius
        row = (ux * r, vx * r, dx, p[0], uy * r, vy * r, dy, p[1], uz * r, vz * r, dz, p[2])
        which = _PRISM if sides <= 6 else _CYLINDER
        self._rows[which].append((*row, len(self._frames) - 1, cls, mat, self._object))

    def sphere(self, x: float, y: float, z: float, rx: float, ry: float, rz: float, cls: int, mat: int) -> None:
        """Add an ellipsoid with its centre at (x, y, z)."""
        row = (rx, 0.0, 0.0, x, 0.0, ry, 0.0, y, 0.0, 0.0, rz, z)
        self._rows[_SPHERE].append((*row, len(self._frames) - 1, cls, mat, self._object))

    def quad(self, a: tuple[float, ...], b: tuple[float, ...], c: tuple[float, ...], d: tuple[float, ...], cls: int, mat: int) -> None:
        """Add a flat quadrilateral with corners in order, in the current frame."""
        self._quads.append((*a, *b, *c, *d, len(self._frames) - 1, cls, mat, self._object))

    def build(self) -> Mesh:
        """Assemble everything that was added into one mesh."""
        frames = np.array(self._frames, np.float64)
        vertices, faces, labels = [], [], []
        offset = 0
        for (unit, unit_faces), rows in zip(_TEMPLATES, self._rows, strict=True):
            if not rows:
                continue
            table = np.array(rows, np.float64)
            affine = table[:, :12].reshape(-1, 3, 4)
            local = np.einsum("pij,vj->pvi", affine[:, :, :3], unit) + affine[:, None, :, 3]
            points = _to_world(local, frames[table[:, 12].astype(int)])
            vertices.append(points.reshape(-1, 3))
            start = offset + np.arange(len(rows)) * len(unit)
            faces.append((unit_faces[None] + start[:, None, None]).reshape(-1, 3))
            labels.append(np.repeat(table[:, 13:16], len(unit_faces), axis=0))
            offset += len(rows) * len(unit)
        if self._quads:
            table = np.array(self._quads, np.float64)
            points = _to_world(table[:, :12].reshape(-1, 4, 3), frames[table[:, 12].astype(int)])
            vertices.append(points.reshape(-1, 3))
            start = offset + np.arange(len(table)) * 4
            faces.append((np.array([[0, 1, 2], [0, 2, 3]])[None] + start[:, None, None]).reshape(-1, 3))
            labels.append(np.repeat(table[:, 13:16], 2, axis=0))
        if not vertices:
            empty = np.zeros(0)
            return Mesh(
                np.zeros((0, 3), np.float32),
                np.zeros((0, 3), np.int32),
                empty.astype(np.uint8),
                empty.astype(np.int16),
                empty.astype(np.int32),
            )
        table = np.concatenate(labels)
        return Mesh(
            np.concatenate(vertices).astype(np.float32),
            np.concatenate(faces).astype(np.int32),
            table[:, 0].astype(np.uint8),
            table[:, 1].astype(np.int16),
            table[:, 2].astype(np.int32),
        )


def _to_world(local: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Apply one frame (x, y, z, yaw, three stretches) per part: local (P, v, 3), frames (P, 7)."""
    cos, sin = np.cos(frames[:, 3])[:, None], np.sin(frames[:, 3])[:, None]
    x, y, z = (local[..., axis] * frames[:, 4 + axis, None] for axis in range(3))
    return np.stack([cos * x - sin * y + frames[:, :1], sin * x + cos * y + frames[:, 1:2], z + frames[:, 2:3]], -1)
