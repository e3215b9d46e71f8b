"""First hits of rays with one or more meshes, by Embree.

Comes in: meshes. Goes out: distance, triangle, class, material, object and surface normal per ray, for the lidar and the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xkd_ros.worlds.mesh import UNLABELLED, Mesh


@dataclass(frozen=True, eq=False)
class Hits:
    """What N rays hit first.

    Attributes:
        distance_m: (N,) float32, inf where nothing was hit.
        face: (N,) int32 index over the faces of all meshes in order, -1 where nothing was hit.
        face_class: (N,) uint8, 255 where nothing was hit.
        material: (N,) int16, -1 where nothing was hit.
        cos_incidence: (N,) float32, |cos| between the ray and the surface normal; 0 where nothing was hit.
        normal: (N, 3) float32 unit normals turned towards the ray's origin.
    """

    distance_m: np.ndarray
    face: np.ndarray
    face_class: np.ndarray
    material: np.ndarray
    cos_incidence: np.ndarray
    normal: np.ndarray


def _scene(mesh: Mesh) -> Any:
    from embreex import rtcore_scene
    from embreex.mesh_construction import TriangleMesh

    scene = rtcore_scene.EmbreeScene()
    TriangleMesh(scene, np.ascontiguousarray(mesh.vertices, np.float32), np.ascontiguousarray(mesh.faces, np.int32))
    return scene


class Raycaster:
    """Holds one Embree scene per mesh, so that moving things can be added without rebuilding the building.

    Args:
        mesh: The fixed mesh, usually `building.mesh`.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._meshes: list[Mesh] = [mesh]
        self._scenes: list[Any] = [_scene(mesh)]
        self._collect()

    def with_meshes(self, meshes: list[Mesh]) -> Raycaster:
        """Return a ray caster that also sees these meshes; the fixed scene is shared, not rebuilt."""
        extra = [m for m in meshes if len(m.faces)]
        result = object.__new__(Raycaster)
        result._meshes = [self._meshes[0], *extra]
        result._scenes = [self._scenes[0], *(_scene(m) for m in extra)]
        result._collect()
        return result

    def _collect(self) -> None:
        self._face_class = np.concatenate([m.face_class for m in self._meshes] + [np.array([UNLABELLED], np.uint8)])
        self._face_material = np.concatenate([m.face_material for m in self._meshes] + [np.array([-1], np.int16)])
        self._face_object = np.concatenate([m.face_object for m in self._meshes] + [np.array([-1], np.int32)])

    @property
    def face_object(self) -> np.ndarray:
        """(F + 1,) int32 object id per face; the last entry, reached by index -1, is for rays that hit nothing."""
        return self._face_object

    def cast(self, origins_m: np.ndarray, directions: np.ndarray) -> Hits:
        """Find the first hit of every ray.

        Args:
            origins_m: (N, 3) float32, world.
            directions: (N, 3) float32 unit vectors, world.
        Returns:
            One entry per ray.
        """
        origins = np.ascontiguousarray(origins_m, np.float32)
        rays = np.ascontiguousarray(directions, np.float32)
        distance = np.full(len(rays), np.inf, np.float32)
        face = np.full(len(rays), -1, np.int32)
        normal = np.zeros((len(rays), 3), np.float32)
        offset = 0
        for mesh, scene in zip(self._meshes, self._scenes, strict=True):
            if len(mesh.faces) and len(rays):
                found = scene.run(origins, rays, output=1)
                nearer = (found["primID"] >= 0) & (found["tfar"] < distance)
                if offset == 0:
                    distance = np.where(nearer, found["tfar"], distance)
                    face = np.where(nearer, found["primID"], face).astype(np.int32)
                    normal = found["Ng"]
                else:
                    where = np.flatnonzero(nearer)
                    distance[where] = found["tfar"][where]
                    face[where] = found["primID"][where] + offset
                    normal[where] = found["Ng"][where]
            offset += len(mesh.faces)
        cos = np.einsum("ij,ij->i", normal, rays)
        length = np.sqrt(np.einsum("ij,ij->i", normal, normal))
        scale = np.where(length > 0, -np.sign(cos) / np.maximum(length, 1e-12), 0).astype(np.float32)
        cos = np.abs(cos) / np.maximum(length, 1e-12)
        return Hits(
            distance,
            face,
            self._face_class[face],
            self._face_material[face],
            np.where(face >= 0, cos, 0).astype(np.float32),
            normal * scale[:, None],
        )
