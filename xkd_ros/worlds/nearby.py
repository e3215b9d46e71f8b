"""Things that stand close to a sensor for one scan: panels, boards, boxes, machines, furniture, blankets.

What is near fills many beams, so it decides much of a scan; buildings alone put too little of it there.
"""

from __future__ import annotations

import math

import numpy as np

from xkd_ros.worlds import boards, clutter, seats, storage, tables
from xkd_ros.worlds.building import Building
from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import Mesh, MeshBuilder
from xkd_ros.worlds.people import make_person


def draw_things(rng: np.random.Generator, building: Building, position_m: np.ndarray) -> list[Mesh]:
    """Draw what stands near a sensor, often nothing.

    Args:
        rng: Source of every choice.
        building: To keep things on free floor.
        position_m: (3,) the sensor's world position.
    Returns:
        Meshes in the world.
    """
    meshes: list[Mesh] = []
    b = MeshBuilder()
    if rng.uniform() < 0.45:
        for _ in range(int(rng.integers(1, 5))):
            spot = _free_spot(rng, building, position_m, 0.75, 4.0)
            if spot is not None:
                b.frame(spot[0], spot[1], 0.0, float(rng.uniform(0, 2 * math.pi)))
                _bulky(b, rng, spot[2])
    if rng.uniform() < 0.14:
        spot = _free_spot(rng, building, position_m, 1.1, 5.5)
        if spot is not None:
            facing = math.atan2(position_m[1] - spot[1], position_m[0] - spot[0])
            yaw = facing - math.pi / 2 + float(rng.normal(0, 0.4))  # the board's +y looks at the sensor
            held = bool(rng.uniform() < 0.4)
            b.frame(spot[0], spot[1], 0.0, yaw)
            boards.target_board(b, rng, held)
            if held:
                x, y = spot[0] - 0.32 * math.cos(facing), spot[1] - 0.32 * math.sin(facing)
                meshes.append(make_person(rng, x, y, facing, "standing").mesh_in_world())
    if rng.uniform() < 0.1:
        _very_near(b, rng, position_m)
    mesh = b.build()
    return [*meshes, mesh] if len(mesh.faces) else meshes


def _free_spot(
    rng: np.random.Generator, building: Building, position_m: np.ndarray, low: float, high: float
) -> tuple[float, float, float] | None:
    """Return x, y and distance of a free place within low..high metres of the sensor, or None."""
    for _ in range(3):
        angle, reach = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(low, high))
        x, y = float(position_m[0]) + reach * math.cos(angle), float(position_m[1]) + reach * math.sin(angle)
        if building.is_free(np.array([x, y]))[0]:
            return x, y, reach
    return None


def _bulky(b: MeshBuilder, rng: np.random.Generator, reach_m: float) -> None:
    """Add one thing, not wider than its distance allows."""
    w, h = float(rng.uniform(0.5, max(min(2.4, reach_m * 1.2), 0.6))), float(rng.uniform(0.7, 2.1))
    pick = rng.uniform()
    if pick < 0.32:
        boards.panel(b, rng, w, h)
    elif pick < 0.45:
        clutter.boxes(b, rng, w * 0.6, 0.5)
    elif pick < 0.57:
        clutter.machine(b, rng, w, 0.7, h)
    elif pick < 0.66:
        storage.cabinet(b, rng, w, 0.45, h)
    elif pick < 0.73:
        storage.shelf(b, rng, w, 0.35, h, 0.7)
    elif pick < 0.83:
        tables.table(b, rng, w, 0.7, 0.74)
        clutter.tabletop(b, rng, w, 0.7, 0.74, 0.5, bool(rng.uniform() < 0.5))
    elif pick < 0.93:
        seats.any_chair(b, rng, int(rng.integers(3)))
    else:
        boards.trestle(b, rng)


def _very_near(b: MeshBuilder, rng: np.random.Generator, position_m: np.ndarray) -> None:
    """Add boxes or a blanket at arm's length and at the sensor's height."""
    for _ in range(int(rng.integers(1, 4))):
        angle, reach = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(0.35, 0.9))
        x, y = float(position_m[0]) + reach * math.cos(angle), float(position_m[1]) + reach * math.sin(angle)
        z = float(position_m[2]) + float(rng.uniform(-0.35, 0.15))
        size = reach * 0.45
        b.frame(x, y, 0.0, float(rng.uniform(0, 6.28)))
        if rng.uniform() < 0.5:
            b.sphere(0, 0, z, size, size * 0.7, size * float(rng.uniform(0.4, 0.9)), clutter.CLUTTER, Slot.CLOTH_B)
        else:
            b.box(
                0,
                0,
                z - size / 2,
                size,
                size * 0.7,
                size,
                clutter.CLUTTER,
                int(rng.choice([Slot.CARDBOARD, Slot.PLASTIC, Slot.PLASTIC_DARK])),
            )
