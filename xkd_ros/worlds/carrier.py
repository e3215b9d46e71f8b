"""What carries a lidar: robot decks, masts, posts, cables and the person behind a handheld rig, in the sensor's frame.

Labels: parts of the rig have none (255), the carrier is a person.
"""

from __future__ import annotations

import math

import numpy as np

from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import UNLABELLED, Mesh, MeshBuilder, concatenate
from xkd_ros.worlds.people import make_person


def make_carrier(rng: np.random.Generator, kind: str, height_m: float) -> Mesh:
    """Make the rig around a sensor.

    Args:
        rng: Source of every choice.
        kind: robot, handheld, tripod or bare.
        height_m: Sensor above the floor.
    Returns:
        Mesh in the sensor's frame, empty for bare.
    """
    b = MeshBuilder()
    b.frame()
    if kind == "robot":
        _robot(b, rng)
    elif kind == "tripod":
        for k in range(3):
            a = float(rng.uniform(0, 6.28)) + 2.1 * k
            b.limb((0, 0, -0.08), (0.5 * math.cos(a), 0.5 * math.sin(a), -height_m), 0.02, UNLABELLED, Slot.METAL_DARK)
    elif kind == "handheld":
        b.box(0.05, 0, -0.22, 0.12, 0.16, 0.12, UNLABELLED, Slot.PLASTIC_DARK)
        if rng.uniform() < 0.4:
            b.box(-0.12, float(rng.uniform(-0.1, 0.1)), -0.1, 0.02, 0.25, 0.16, UNLABELLED, Slot.SCREEN)
    mesh = b.build()
    if kind == "handheld" and rng.uniform() < 0.85:
        behind = float(rng.uniform(0.3, 0.75))
        angle = math.pi + float(rng.normal(0, 0.35))
        person = make_person(rng, 0.0, 0.0, 0.0, "walking" if rng.uniform() < 0.7 else "standing")
        body = person.mesh.moved(behind * math.cos(angle), behind * math.sin(angle), -height_m, angle + math.pi)
        mesh = concatenate([mesh, body]) if len(mesh.faces) else body
    return mesh


def _robot(b: MeshBuilder, rng: np.random.Generator) -> None:
    """Add a deck below the sensor, posts beside it, boxes and antennas around it."""
    low = float(rng.uniform(0.05, 0.3))
    w, d = float(rng.uniform(0.3, 0.8)), float(rng.uniform(0.4, 1.1))
    shift = float(rng.uniform(-0.3, 0.3))
    b.box(shift, 0, -low - 0.2, d, w, 0.2, UNLABELLED, int(rng.choice([Slot.METAL, Slot.PLASTIC_DARK, Slot.MACHINE])))
    if rng.uniform() < 0.45:
        radius, count = float(rng.uniform(0.09, 0.4)), int(rng.integers(1, 5))
        first, top = float(rng.uniform(0, 6.28)), float(rng.uniform(0.02, 0.5))
        for k in range(count):
            a = first + k * 2 * math.pi / count
            b.cylinder(
                radius * math.cos(a), radius * math.sin(a), -low, float(rng.uniform(0.006, 0.025)), low + top, UNLABELLED, Slot.METAL
            )
        if rng.uniform() < 0.4:
            b.box(0, 0, top, radius * 2, radius * 2, 0.03, UNLABELLED, Slot.METAL)
    for _ in range(int(rng.integers(0, 4))):
        a, r = float(rng.uniform(0, 6.28)), float(rng.uniform(0.3, 0.75))
        tall = float(rng.uniform(0.05, 0.6))
        b.box(
            r * math.cos(a),
            r * math.sin(a),
            -low,
            float(rng.uniform(0.02, 0.35)),
            float(rng.uniform(0.02, 0.35)),
            tall,
            UNLABELLED,
            int(rng.choice([Slot.METAL, Slot.PLASTIC_DARK, Slot.PLASTIC, Slot.SCREEN])),
            yaw=float(rng.uniform(0, 3)),
        )
