"""Surfaces of a building: what a lidar beam and a camera see of them.

A building owns one `Material` per `Slot`; builders name the slot, the seed decides colour and reflectivity.
Comes in: a random generator. Goes out: a tuple of materials indexed by slot, for the lidar and camera models.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from enum import IntEnum

import numpy as np


@dataclass(frozen=True)
class Material:
    """One surface.

    Attributes:
        name: Slot name in lower case.
        base_rgb: Mean colour, three floats 0..1 (linear).
        reflectivity: Share of lidar light (about 900 nm) scattered back diffusely, 0..1.
        specular: 0 matt .. 1 mirror.
        glass: Most rays pass through.
        texture: Kind of pattern a camera sees: plain, wood, carpet, tiles, concrete, brick, fabric, metal, screen, poster,
            plant, glass, skin, panel, sign, mirror.
    """

    name: str
    base_rgb: tuple[float, float, float]
    reflectivity: float
    specular: float
    glass: bool
    texture: str


class Slot(IntEnum):
    """Index of each surface in `Building.materials`."""

    WALL = 0
    WALL_B = 1
    WALL_C = 2
    FLOOR = 3
    FLOOR_B = 4
    RUG = 5
    CEILING = 6
    CEILING_B = 7
    LAMP = 8
    DUCT = 9
    BEAM = 10
    DOOR = 11
    DOOR_B = 12
    DOOR_FRAME = 13
    HANDLE = 14
    WINDOW_FRAME = 15
    GLASS = 16
    BLIND = 17
    CURTAIN = 18
    COLUMN = 19
    STAIR = 20
    RAILING = 21
    WOOD = 22
    WOOD_B = 23
    TABLE_TOP = 24
    METAL = 25
    METAL_DARK = 26
    CABINET = 27
    CABINET_B = 28
    FABRIC = 29
    FABRIC_B = 30
    PLASTIC = 31
    PLASTIC_DARK = 32
    SCREEN = 33
    BOARD = 34
    POSTER = 35
    CARDBOARD = 36
    BOOKS = 37
    PLANT = 38
    POT = 39
    CERAMIC = 40
    MIRROR = 41
    SKIN = 42
    CLOTH = 43
    CLOTH_B = 44
    CLOTH_C = 45
    CLOTH_D = 46
    HAIR = 47
    MACHINE = 48
    MACHINE_B = 49
    SIGN = 50
    SKIRTING = 51
    RADIATOR = 52
    OUTSIDE_GROUND = 53
    OUTSIDE_FACADE = 54
    OUTSIDE_TREE = 55
    CAR = 56
    RUBBER = 57


# texture choices, reflectivity low..high, specular low..high, value low..high, saturation low..high of each slot
_SPEC: dict[Slot, tuple[tuple[str, ...], tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    Slot.WALL: (("plain", "plain", "concrete", "brick"), (0.35, 0.9), (0, 0.05), (0.5, 0.95), (0, 0.25)),
    Slot.WALL_B: (("plain", "panel", "wood", "brick"), (0.2, 0.9), (0, 0.1), (0.3, 0.95), (0, 0.5)),
    Slot.WALL_C: (("tiles", "plain", "concrete"), (0.3, 0.9), (0, 0.3), (0.4, 0.95), (0, 0.3)),
    Slot.FLOOR: (("carpet", "tiles", "wood", "concrete", "plain"), (0.06, 0.6), (0, 0.35), (0.12, 0.7), (0, 0.4)),
    Slot.FLOOR_B: (("tiles", "concrete", "plain", "wood"), (0.08, 0.6), (0, 0.45), (0.15, 0.75), (0, 0.3)),
    Slot.RUG: (("fabric",), (0.1, 0.7), (0, 0), (0.15, 0.8), (0.1, 0.8)),
    Slot.CEILING: (("plain", "panel", "concrete"), (0.4, 0.95), (0, 0.02), (0.6, 0.98), (0, 0.08)),
    Slot.CEILING_B: (("concrete", "metal", "panel"), (0.2, 0.8), (0, 0.1), (0.25, 0.85), (0, 0.15)),
    Slot.LAMP: (("plain",), (0.3, 0.95), (0, 0.4), (0.9, 1.0), (0, 0.1)),
    Slot.DUCT: (("metal",), (0.3, 0.9), (0.1, 0.6), (0.4, 0.8), (0, 0.1)),
    Slot.BEAM: (("metal", "concrete", "wood"), (0.2, 0.8), (0, 0.3), (0.2, 0.8), (0, 0.3)),
    Slot.DOOR: (("wood", "plain", "panel"), (0.15, 0.9), (0, 0.2), (0.25, 0.9), (0.05, 0.7)),
    Slot.DOOR_B: (("metal", "plain", "wood"), (0.15, 0.9), (0, 0.3), (0.2, 0.9), (0, 0.8)),
    Slot.DOOR_FRAME: (("metal", "wood", "plain"), (0.15, 0.9), (0, 0.3), (0.15, 0.9), (0, 0.5)),
    Slot.HANDLE: (("metal",), (0.3, 0.9), (0.3, 0.8), (0.5, 0.8), (0, 0.05)),
    Slot.WINDOW_FRAME: (("plain", "metal", "wood"), (0.15, 0.9), (0, 0.3), (0.1, 0.95), (0, 0.3)),
    Slot.GLASS: (("glass",), (0.04, 0.2), (0.8, 1.0), (0.6, 0.9), (0, 0.15)),
    Slot.BLIND: (("panel",), (0.3, 0.9), (0, 0.2), (0.4, 0.95), (0, 0.3)),
    Slot.CURTAIN: (("fabric",), (0.15, 0.9), (0, 0), (0.2, 0.9), (0, 0.7)),
    Slot.COLUMN: (("concrete", "plain", "metal", "tiles"), (0.25, 0.9), (0, 0.2), (0.3, 0.95), (0, 0.3)),
    Slot.STAIR: (("concrete", "wood", "tiles", "metal"), (0.15, 0.7), (0, 0.2), (0.2, 0.8), (0, 0.3)),
    Slot.RAILING: (("metal", "wood"), (0.2, 0.9), (0, 0.5), (0.1, 0.9), (0, 0.5)),
    Slot.WOOD: (("wood",), (0.25, 0.75), (0, 0.1), (0.3, 0.8), (0.2, 0.6)),
    Slot.WOOD_B: (("wood", "plain"), (0.15, 0.85), (0, 0.2), (0.15, 0.95), (0, 0.6)),
    Slot.TABLE_TOP: (("wood", "plain"), (0.1, 0.9), (0, 0.3), (0.1, 0.95), (0, 0.5)),
    Slot.METAL: (("metal",), (0.25, 0.9), (0.1, 0.7), (0.4, 0.85), (0, 0.1)),
    Slot.METAL_DARK: (("metal",), (0.04, 0.3), (0, 0.4), (0.05, 0.25), (0, 0.2)),
    Slot.CABINET: (("plain", "wood", "metal"), (0.2, 0.9), (0, 0.2), (0.2, 0.95), (0, 0.5)),
    Slot.CABINET_B: (("metal", "plain", "wood"), (0.1, 0.9), (0, 0.3), (0.1, 0.9), (0, 0.6)),
    Slot.FABRIC: (("fabric",), (0.05, 0.7), (0, 0), (0.05, 0.7), (0, 0.8)),
    Slot.FABRIC_B: (("fabric",), (0.05, 0.8), (0, 0), (0.1, 0.8), (0, 0.8)),
    Slot.PLASTIC: (("plain",), (0.2, 0.9), (0, 0.3), (0.2, 0.95), (0, 0.9)),
    Slot.PLASTIC_DARK: (("plain",), (0.02, 0.15), (0, 0.4), (0.03, 0.15), (0, 0.2)),
    Slot.SCREEN: (("screen",), (0.02, 0.15), (0.2, 0.6), (0.03, 0.3), (0, 0.4)),
    Slot.BOARD: (("plain",), (0.4, 0.95), (0.05, 0.4), (0.85, 1.0), (0, 0.03)),
    Slot.POSTER: (("poster",), (0.2, 0.9), (0, 0.2), (0.3, 0.95), (0, 0.9)),
    Slot.CARDBOARD: (("plain", "panel"), (0.3, 0.7), (0, 0), (0.35, 0.65), (0.3, 0.5)),
    Slot.BOOKS: (("poster", "panel"), (0.15, 0.7), (0, 0.1), (0.2, 0.8), (0.2, 0.8)),
    Slot.PLANT: (("plant",), (0.35, 0.7), (0, 0.05), (0.15, 0.5), (0.4, 0.9)),
    Slot.POT: (("plain",), (0.1, 0.7), (0, 0.2), (0.1, 0.8), (0, 0.6)),
    Slot.CERAMIC: (("plain",), (0.5, 0.95), (0.1, 0.4), (0.85, 1.0), (0, 0.05)),
    Slot.MIRROR: (("mirror",), (0.02, 0.1), (0.95, 1.0), (0.7, 0.9), (0, 0.05)),
    Slot.SKIN: (("skin",), (0.3, 0.6), (0, 0), (0.3, 0.85), (0.25, 0.5)),
    Slot.CLOTH: (("fabric",), (0.05, 0.8), (0, 0), (0.05, 0.9), (0, 0.8)),
    Slot.CLOTH_B: (("fabric",), (0.05, 0.5), (0, 0), (0.05, 0.4), (0, 0.6)),
    Slot.CLOTH_C: (("fabric",), (0.2, 0.9), (0, 0), (0.3, 0.95), (0, 0.9)),
    Slot.CLOTH_D: (("fabric",), (0.1, 0.7), (0, 0), (0.1, 0.7), (0.1, 0.9)),
    Slot.HAIR: (("plain",), (0.05, 0.4), (0, 0), (0.03, 0.4), (0.2, 0.6)),
    Slot.MACHINE: (("metal", "plain"), (0.1, 0.8), (0, 0.4), (0.2, 0.8), (0, 0.7)),
    Slot.MACHINE_B: (("metal", "plain"), (0.05, 0.7), (0, 0.4), (0.05, 0.7), (0, 0.9)),
    Slot.SIGN: (("sign",), (0.4, 1.0), (0, 0.2), (0.4, 0.9), (0.6, 1.0)),
    Slot.SKIRTING: (("wood", "plain"), (0.2, 0.9), (0, 0.2), (0.2, 0.95), (0, 0.3)),
    Slot.RADIATOR: (("metal", "plain"), (0.4, 0.95), (0, 0.3), (0.7, 0.98), (0, 0.1)),
    Slot.OUTSIDE_GROUND: (("concrete", "plant"), (0.1, 0.5), (0, 0), (0.2, 0.6), (0, 0.5)),
    Slot.OUTSIDE_FACADE: (("brick", "concrete", "plain"), (0.2, 0.8), (0, 0.1), (0.3, 0.8), (0, 0.4)),
    Slot.OUTSIDE_TREE: (("plant",), (0.3, 0.7), (0, 0), (0.15, 0.4), (0.4, 0.8)),
    Slot.CAR: (("metal",), (0.1, 0.9), (0.3, 0.8), (0.1, 0.9), (0, 0.9)),
    Slot.RUBBER: (("plain",), (0.02, 0.12), (0, 0), (0.03, 0.12), (0, 0.1)),
}
_HUES = {Slot.WOOD: 0.08, Slot.WOOD_B: 0.08, Slot.PLANT: 0.32, Slot.OUTSIDE_TREE: 0.32, Slot.SKIN: 0.06, Slot.CARDBOARD: 0.09}


def make_materials(rng: np.random.Generator, reflectivity_gamma: float = 1.0) -> tuple[Material, ...]:
    """Draw one material per slot.

    Args:
        rng: Source of every choice.
        reflectivity_gamma: Exponent on all reflectivities; 1 for the ordinary styles, another for the shifted one.
    Returns:
        Materials in the order of `Slot`.
    """
    made = []
    for slot in Slot:
        textures, reflect, specular, value, saturation = _SPEC[slot]
        hue = (_HUES[slot] + rng.normal(0, 0.02)) % 1.0 if slot in _HUES else rng.uniform()
        rgb = colorsys.hsv_to_rgb(float(hue), float(rng.uniform(*saturation)), float(rng.uniform(*value)))
        made.append(
            Material(
                name=slot.name.lower(),
                base_rgb=(float(rgb[0]), float(rgb[1]), float(rgb[2])),
                reflectivity=float(rng.uniform(*reflect) ** reflectivity_gamma),
                specular=float(rng.uniform(*specular)),
                glass=slot is Slot.GLASS,
                texture=str(textures[int(rng.integers(len(textures)))]),
            )
        )
    return tuple(made)
