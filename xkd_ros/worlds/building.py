"""A simulated building: triangles with true classes, materials, rooms, doors, people and free floor.

Comes in: a seed and a style. Goes out: one `Building`, read by the ray caster, the lidar and camera models and the trajectory.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from xkd_ros.worlds.materials import Material
from xkd_ros.worlds.mesh import Mesh, concatenate
from xkd_ros.worlds.people import Person

__all__ = ["Building", "Door", "Material", "Mesh", "Person", "Room", "make_building"]


@dataclass(frozen=True)
class Room:
    """One room.

    Attributes:
        kind: office, classroom, corridor, hall, workshop, garage ...
        polygon: (P, 2) corner points in metres, counter-clockwise.
        height_m: Floor to ceiling; where `ceiling` is "none" the height of the walls.
        ceiling: flat, sloped, gabled, beams or none.
    """

    kind: str
    polygon: np.ndarray
    height_m: float
    ceiling: str


@dataclass(frozen=True)
class Door:
    """One door opening.

    Attributes:
        centre: (3,) metres, middle of the opening on the floor plane of the first room's wall.
        normal: (2,) unit vector, out of the first room.
        width_m: Clear width.
        height_m: Clear height.
        open_angle_rad: 0 closed; passages without a leaf have pi/2.
        has_lidar_cue: Recess, frame, glass, reflectivity or an open leaf shows it to a lidar.
        rooms: Indices of the rooms on both sides, -1 for outside.
    """

    centre: np.ndarray
    normal: np.ndarray
    width_m: float
    height_m: float
    open_angle_rad: float
    has_lidar_cue: bool
    rooms: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Building:
    """Everything that is fixed about a building.

    Attributes:
        vertices: (V, 3) float32, metres, z up, floor at 0.
        faces: (F, 3) int32.
        face_class: (F,) uint8, indoor-12 ids; 255 for the outside world and vehicles.
        face_material: (F,) int16 into materials.
        face_object: (F,) int32, one id per piece of furniture, door, window or wall panel.
        materials: Surfaces, indexed by `materials.Slot`.
        rooms: Rooms with their polygons.
        doors: Door openings.
        window_cues: (W,) bool, one per window: shows it to a lidar.
        people: People standing, walking and sitting; not part of the faces until `with_people`.
        free: (H, W) bool grid of floor that a person or robot can stand on (furniture and walls excluded).
        free_origin_m: (2,) world xy of the corner of cell (0, 0); rows run along y, columns along x.
        free_cell_m: Edge of a cell.
        seed: Seed it was made from.
        style: Style name; styles beginning with "shifted" are never used for training.
    """

    vertices: np.ndarray
    faces: np.ndarray
    face_class: np.ndarray
    face_material: np.ndarray
    face_object: np.ndarray
    materials: tuple[Material, ...]
    rooms: tuple[Room, ...]
    doors: tuple[Door, ...]
    window_cues: np.ndarray
    people: tuple[Person, ...]
    free: np.ndarray
    free_origin_m: np.ndarray
    free_cell_m: float
    seed: int
    style: str

    @property
    def mesh(self) -> Mesh:
        """The faces as one mesh."""
        return Mesh(self.vertices, self.faces, self.face_class, self.face_material, self.face_object)

    @cached_property
    def clearance_m(self) -> np.ndarray:
        """(H, W) float32, distance of each cell of `free` to the nearest wall or furniture; 0 elsewhere."""
        from scipy.ndimage import distance_transform_edt

        return np.asarray(distance_transform_edt(self.free) * self.free_cell_m, np.float32)

    @property
    def free_roomy(self) -> np.ndarray:
        """(H, W) bool, cells of `free` that keep about 0.35 m of distance to everything."""
        return np.asarray(self.clearance_m > 0.35)

    def with_people(self, people: tuple[Person, ...] | None = None) -> Building:
        """Return the building with people merged into its faces (its own people when none are given)."""
        chosen = self.people if people is None else people
        if not chosen:
            return self
        whole = concatenate([self.mesh, *(p.mesh_in_world() for p in chosen)])
        return replace(
            self,
            vertices=whole.vertices,
            faces=whole.faces,
            face_class=whole.face_class,
            face_material=whole.face_material,
            face_object=whole.face_object,
            people=chosen,
        )

    def sample_free(self, rng: np.random.Generator, count: int, roomy: bool = True, power: float = 0.0) -> np.ndarray:
        """Draw standing points.

        Args:
            rng: Source of the draw.
            count: Number of points.
            roomy: Keep distance to everything where possible.
            power: Preference for open floor: weight is the clearance (up to 3 m) to this power.
        Returns:
            (count, 2) float64 world xy in metres; spread over rooms by free area.
        """
        grid = self.free_roomy if roomy and self.free_roomy.any() else self.free
        cells = np.argwhere(grid)
        if power:
            weight = np.cumsum(np.minimum(self.clearance_m[cells[:, 0], cells[:, 1]], 3.0) ** power)
            picked = cells[np.searchsorted(weight, rng.uniform(0, weight[-1], count)).clip(0, len(cells) - 1)]
        else:
            picked = cells[rng.integers(len(cells), size=count)]
        return np.asarray(self.free_origin_m + (picked[:, ::-1] + rng.uniform(0, 1, (count, 2))) * self.free_cell_m)

    def is_free(self, xy_m: np.ndarray) -> np.ndarray:
        """Return (N,) bool: the free-floor grid at world points (N, 2); outside the grid is False."""
        cells = np.floor((np.atleast_2d(xy_m) - self.free_origin_m) / self.free_cell_m).astype(int)
        inside = (cells >= 0).all(1) & (cells[:, 0] < self.free.shape[1]) & (cells[:, 1] < self.free.shape[0])
        result = np.zeros(len(cells), bool)
        result[inside] = self.free[cells[inside, 1], cells[inside, 0]]
        return result


def make_building(seed: int, style: str = "auto") -> Building:
    """Make the building of a seed; the same seed gives the same building.

    Args:
        seed: Any non-negative integer. The benchmark uses 0-59 for training, 60-74 validation, 75-99 test.
        style: "auto", "shifted" (a family of buildings never used for training), or a plan name of `layout.PLANS`.
    """
    from xkd_ros.worlds.construct import construct

    return construct(seed, style)
