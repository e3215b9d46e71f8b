"""What the camera needs to know about every triangle: normal, picture and where it lies, colour, light of its own.

Comes in: a mesh, its building and a texture atlas. Goes out: a `SurfaceTable` with one column per property, for `shading`.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from xkd_ros.worlds.building import Building
from xkd_ros.worlds.materials import Material, Slot
from xkd_ros.worlds.mesh import Mesh
from xkd_ros.worlds.textures import TextureAtlas

OPAQUE, GLASS, MIRROR, OUTDOORS = range(4)
_WALL, _FLOOR, _CEILING, _DOOR, _PERSON = 0, 1, 2, 3, 10
_FITTED = {
    Slot.POSTER: "poster",
    Slot.SIGN: "sign",
    Slot.SCREEN: "screen",
    Slot.BOOKS: "books",
    Slot.BLIND: "blind",
    Slot.CARDBOARD: "carton",
    Slot.CABINET: "cabinet",
    Slot.CABINET_B: "cabinet",
    Slot.DOOR: "door",
    Slot.DOOR_B: "door",
}
_OWN_COLOURS = (Slot.POSTER, Slot.SCREEN, Slot.BOOKS)
_GLOW = {Slot.LAMP: 7.0, Slot.SCREEN: 0.5, Slot.SIGN: 0.25}
_OUTSIDE = (Slot.OUTSIDE_GROUND, Slot.OUTSIDE_FACADE, Slot.OUTSIDE_TREE)
_NARROWEST_M = {"door": 0.4, "cabinet": 0.22}
_ENDLESS = ("wood", "carpet", "tiles", "concrete", "brick", "fabric", "metal", "plant")
_SATURATION = 1.3  # light from white lamps and walls leaves less colour than real rooms show
_HAIR = np.array([(0.05, 0.04, 0.03), (0.12, 0.07, 0.04), (0.25, 0.15, 0.07), (0.5, 0.38, 0.2), (0.4, 0.4, 0.4)])
_CLOTHES = (Slot.CLOTH, Slot.CLOTH_B, Slot.CLOTH_C, Slot.CLOTH_D)


@dataclass(frozen=True, eq=False)
class SurfaceTable:
    """Properties of F triangles and, as the last entry (reached by index -1), of the sky.

    Attributes:
        normal: (3, F + 1) float32 unit normals, world; the side is arbitrary.
        axis: (F + 1,) int8, 0-2 where the normal lies along x, y or z, else -1.
        along_u: (4, F + 1) float32: u = x a + y b + z c + d, in pictures.
        along_v: (4, F + 1) float32, the same for v.
        per_metre: (F + 1,) float32 pictures per metre.
        layer: (F + 1,) int32 picture in the atlas.
        rgb: (3, F + 1) float32 linear colour that multiplies the picture.
        glow: (F + 1,) float32 light of its own, in units of a well-lit room.
        optics: (F + 1,) uint8, OPAQUE, GLASS, MIRROR or OUTDOORS.
    """

    normal: np.ndarray
    axis: np.ndarray
    along_u: np.ndarray
    along_v: np.ndarray
    per_metre: np.ndarray
    layer: np.ndarray
    rgb: np.ndarray
    glow: np.ndarray
    optics: np.ndarray

    def joined(self, other: SurfaceTable) -> SurfaceTable:
        """Append the triangles of another table; this one's sky entry is dropped."""
        return SurfaceTable(*(np.concatenate([getattr(self, name)[..., :-1], getattr(other, name)], axis=-1) for name in _FIELDS))


_FIELDS = tuple(SurfaceTable.__dataclass_fields__)


def rooms_of(building: Building, xy_m: np.ndarray) -> np.ndarray:
    """Find the room of world points (N, 2); (N,) int32, -1 outside every room."""
    x, y = xy_m[:, 0], xy_m[:, 1]
    result = np.full(len(xy_m), -1, np.int32)
    for index, room in enumerate(building.rooms):
        crossings = np.zeros(len(xy_m), bool)
        for (xa, ya), (xb, yb) in zip(room.polygon, np.roll(room.polygon, -1, axis=0)):
            if ya != yb:
                crossings ^= ((ya > y) != (yb > y)) & (x < (xb - xa) * (y - ya) / (yb - ya) + xa)
        result[crossings] = index
    return result


class Decorator:
    """Chooses pictures and colours for a building's surfaces, room by room.

    Args:
        building: Supplies materials and rooms.
        atlas: Supplies pictures; its family also decides the hues.
        family: Index of the texture family.
    """

    def __init__(self, building: Building, atlas: TextureAtlas, family: int) -> None:
        self._building, self.atlas, self._family = building, atlas, family
        rng = np.random.default_rng([building.seed, family, 0xDEC0])
        count = len(building.rooms) + 1
        self._wall_tint = np.array([self._paint(rng, 0.3) for _ in range(count)])
        self._accent = np.array([self._paint(rng, 0.55) for _ in range(count)])
        self._floor_tint = np.array([self._paint(rng, 0.25) for _ in range(count)]) * rng.uniform(0.6, 1.2, (count, 1))
        self._door_tint = np.array([self._paint(rng, 0.6) for _ in range(8)])
        self._jitter = np.clip(rng.normal(1, 0.06, (64, 3)), 0.8, 1.2)
        self._clothes = rng.uniform(0.25, 1.9, (64, 3))

    def _paint(self, rng: np.random.Generator, saturation: float) -> tuple[float, float, float]:
        """Draw a tint; hues come from six bands of which every texture family owns two."""
        hue = (int(rng.integers(2)) * 3 + self._family + float(rng.uniform())) / 6
        return colorsys.hsv_to_rgb(hue, saturation * float(rng.uniform()) ** 2, 1.0)

    def table(self, mesh: Mesh) -> SurfaceTable:
        """Make the surface table of a mesh: the building's own, or people in their places."""
        corners = mesh.vertices[mesh.faces].astype(np.float32)
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        level = np.abs(normal[:, 2]) > 0.7
        # Around the vertical, u runs horizontally along the surface; on floors and tops it runs along x.
        horizontal = np.hypot(normal[:, 0], normal[:, 1])
        safe = np.maximum(horizontal, 1e-6)
        along_u = np.stack([-normal[:, 1] / safe, normal[:, 0] / safe, np.zeros(len(normal))], 1)
        along_v = np.tile([0.0, 0.0, 1.0], (len(normal), 1))
        along_u[level], along_v[level] = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
        u = np.einsum("fck,fk->fc", corners, along_u)
        v = np.einsum("fck,fk->fc", corners, along_v)
        room = self._rooms(corners.mean(1), normal)
        layer, fitted = self._layers(mesh, level, room)
        scale = np.repeat(1 / self.atlas.edge_m[layer][:, None], 2, axis=1)
        shift = np.zeros((len(layer), 2))
        rows = np.flatnonzero(fitted)
        if len(rows):
            plane = np.einsum("fk,fk->f", normal, corners[:, 0])
            low, size = _bounds(mesh, rows, normal, plane, u, v)
            self._undo_narrow(mesh, rows, size, layer, fitted)
            good = fitted[rows]
            kept = rows[good]
            scale[kept], shift[kept] = 1 / size[good], -low[good] / size[good]
            undone = rows[~good]
            scale[undone] = 1 / self.atlas.edge_m[layer[undone]][:, None]
        aligned = np.abs(normal) > 0.985
        columns = {
            "normal": normal.T,
            "axis": np.where(aligned.any(1), aligned.argmax(1), -1),
            "along_u": np.concatenate([along_u * scale[:, :1], shift[:, :1]], 1).T,
            "along_v": np.concatenate([along_v * scale[:, 1:], shift[:, 1:]], 1).T,
            "per_metre": scale.max(1),
            "layer": layer,
            "rgb": self._colours(mesh, room).T,
            "glow": _per_slot({**dict.fromkeys(Slot, 0.0), **_GLOW})[mesh.face_material],
            "optics": _per_slot(
                {**dict.fromkeys(Slot, OPAQUE), Slot.GLASS: GLASS, Slot.MIRROR: MIRROR, **dict.fromkeys(_OUTSIDE, OUTDOORS)}
            )[mesh.face_material],
        }
        kinds = {"axis": np.int8, "layer": np.int32, "optics": np.uint8}
        sky = {"optics": OUTDOORS, "axis": -1}
        made = {}
        for name, values in columns.items():
            padded = np.concatenate([values, np.full((*values.shape[:-1], 1), sky.get(name, 0))], -1)
            made[name] = np.ascontiguousarray(padded, kinds.get(name, np.float32))
        return SurfaceTable(**made)

    def _rooms(self, centre: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Find the room that each triangle faces, on whichever side of it a room lies."""
        ahead = rooms_of(self._building, (centre + 0.06 * normal)[:, :2])
        behind = rooms_of(self._building, (centre - 0.06 * normal)[:, :2])
        return np.where(ahead >= 0, ahead, behind)

    def _layers(self, mesh: Mesh, level: np.ndarray, room: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Choose the picture of every triangle, and tell which pictures are stretched over their object."""
        layer = np.zeros(len(mesh.faces), np.int32)
        fitted = np.zeros(len(mesh.faces), bool)
        structure = np.isin(mesh.face_class, (_WALL, _FLOOR, _CEILING))
        choice = np.where(structure, room + 1, mesh.face_object)
        for slot in np.unique(mesh.face_material):
            for cls in np.unique(mesh.face_class[mesh.face_material == slot]):
                here = (mesh.face_material == slot) & (mesh.face_class == cls)
                kind = _kind(self._building.materials[slot], int(cls))
                layer[here] = self._pick(kind, choice[here])
                if slot in _FITTED:
                    front = here & ~level
                    layer[front] = self._pick(_FITTED[Slot(slot)], choice[front])
                    fitted |= front
        return layer, fitted

    def _pick(self, kind: str, choice: np.ndarray) -> np.ndarray:
        layers = np.array(self.atlas.layers[kind], np.int32)
        return layers[choice % len(layers)]

    def _undo_narrow(self, mesh: Mesh, rows: np.ndarray, size: np.ndarray, layer: np.ndarray, fitted: np.ndarray) -> None:
        """Give edges of leaves and cabinets, and ribs of gates, a plain picture instead of a squeezed front."""
        for kind, narrowest in _NARROWEST_M.items():
            mine = np.isin(layer[rows], self.atlas.layers[kind])
            odd = mine & ((size.min(1) < narrowest) | ((kind == "door") & (size[:, 0] > 1.2 * size[:, 1])))
            layer[rows[odd]] = self.atlas.layers["boards" if kind == "door" else "smooth"][0]
            fitted[rows[odd]] = False

    def _colours(self, mesh: Mesh, room: np.ndarray) -> np.ndarray:
        """Mix the material's colour with the paint of its room or object; (F, 3)."""
        base = np.array([m.base_rgb for m in self._building.materials])
        base[list(_OWN_COLOURS)] = 1.0
        rgb = base[mesh.face_material] * self._jitter[mesh.face_object % 64]
        wall = mesh.face_class == _WALL
        accented = wall & (mesh.face_object % 4 == 0)
        rgb[wall] *= self._wall_tint[room[wall]]
        rgb[accented] *= self._accent[room[accented]]
        floor = mesh.face_class == _FLOOR
        rgb[floor] *= self._floor_tint[room[floor]]
        door = mesh.face_class == _DOOR
        rgb[door] *= self._door_tint[mesh.face_object[door] % 8]
        hair = mesh.face_material == Slot.HAIR
        rgb[hair] = _HAIR[mesh.face_object[hair] % len(_HAIR)]
        clothed = (mesh.face_class == _PERSON) & np.isin(mesh.face_material, _CLOTHES)
        rgb[clothed] *= self._clothes[(mesh.face_object[clothed] * 7 + mesh.face_material[clothed]) % 64]
        grey = rgb.mean(1, keepdims=True)
        return np.clip(grey + _SATURATION * (rgb - grey), 0.015, 1.0)


def _per_slot(values: dict[Slot, float]) -> np.ndarray:
    return np.array([values[slot] for slot in Slot], np.float32)


def _kind(material: Material, cls: int) -> str:
    """Translate a material's texture to a kind of pattern, which depends on what it covers."""
    if material.texture == "panel":
        return "ceiling" if cls == _CEILING else "boards"
    if material.texture == "plain":
        return {_FLOOR: "sheet", _WALL: "plain", _CEILING: "plain"}.get(cls, "smooth")
    if material.texture == "concrete" and cls == _FLOOR:
        return "slab"
    return material.texture if material.texture in _ENDLESS else "smooth"


def _bounds(
    mesh: Mesh, rows: np.ndarray, normal: np.ndarray, plane: np.ndarray, u: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the rectangle that triangles of one object, material and plane cover together; low and size, (rows, 2) metres."""
    side, level = np.rint(normal[rows] * 20), np.rint(plane[rows] * 100)
    key = np.column_stack([mesh.face_object[rows], mesh.face_material[rows], side, level]).astype(np.int64)
    _, group = np.unique(key, axis=0, return_inverse=True)
    group = group.reshape(-1)
    low, high = np.full((group.max() + 1, 2), np.inf), np.full((group.max() + 1, 2), -np.inf)
    for axis, values in enumerate((u[rows], v[rows])):
        np.minimum.at(low[:, axis], group, values.min(1))
        np.maximum.at(high[:, axis], group, values.max(1))
    return low[group], np.maximum(high - low, 1e-3)[group]
