"""People of several builds, standing, walking and sitting, as meshes of their own so that a simulation can move them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xkd_ros.worlds.materials import Slot
from xkd_ros.worlds.mesh import Mesh, MeshBuilder

PERSON = 10


@dataclass(frozen=True, eq=False)
class Person:
    """One person.

    Attributes:
        mesh: Body in its own frame: origin between the feet (below the seat for sitting), x forward, z up.
        x_m: World position.
        y_m: World position.
        yaw_rad: Heading.
        pose: standing, walking, sitting or crouching.
        height_m: Height when standing.
    """

    mesh: Mesh
    x_m: float
    y_m: float
    yaw_rad: float
    pose: str
    height_m: float

    def mesh_in_world(self) -> Mesh:
        """Return the body at its place."""
        return self.mesh.moved(self.x_m, self.y_m, 0.0, self.yaw_rad)

    def at(self, x_m: float, y_m: float, yaw_rad: float) -> Person:
        """Return the same person somewhere else."""
        return Person(self.mesh, x_m, y_m, yaw_rad, self.pose, self.height_m)


def make_person(rng: np.random.Generator, x_m: float, y_m: float, yaw_rad: float, pose: str | None = None) -> Person:
    """Make one person; the pose is drawn when it is not given."""
    if pose is None:
        pose = str(rng.choice(["standing", "walking", "standing", "walking", "crouching"], p=[0.3, 0.35, 0.2, 0.1, 0.05]))
    height = float(np.clip(rng.normal(1.71, 0.1), 1.1, 2.0))
    girth = float(np.clip(rng.normal(1.0, 0.15), 0.75, 1.45))
    builder = MeshBuilder()
    builder.frame()
    _body(builder, rng, height, girth, pose)
    return Person(builder.build(), float(x_m), float(y_m), float(yaw_rad), pose, height)


def _body(b: MeshBuilder, rng: np.random.Generator, height: float, girth: float, pose: str) -> None:
    """Add torso, head, arms and legs; proportions after usual anthropometric ratios."""
    shirt, trousers = (int(s) for s in rng.choice([Slot.CLOTH, Slot.CLOTH_B, Slot.CLOTH_C, Slot.CLOTH_D], 2))
    hip = {"sitting": 0.44, "crouching": 0.22}.get(pose, 0.50) * (1.0 if pose == "sitting" else height)
    trunk, lean = 0.31 * height, float(rng.normal(0.06, 0.08))
    shoulder = (math.sin(lean) * trunk, 0.0, hip + math.cos(lean) * trunk)
    half_hip, half_shoulder = 0.055 * height * girth, 0.115 * height
    step = float(rng.uniform(0.15, 0.36)) if pose == "walking" else float(rng.uniform(-0.06, 0.06))
    for side in (-1, 1):
        hip_joint = (0.0, side * half_hip, hip)
        spread = side * (half_hip + float(rng.uniform(0.0, 0.06)))
        if pose == "sitting":
            reach = 0.25 * height
            knee = (reach, spread, hip + 0.03)
            foot = (reach + float(rng.uniform(-0.15, 0.15)), spread, 0.06)
        elif pose == "crouching":
            knee, foot = (0.22 * height, spread, 0.3 * height), (0.05, spread, 0.05)
        else:
            foot = (side * step, spread, 0.05)
            knee = (0.5 * side * step + 0.05, spread, 0.5 * hip)
        b.limb(hip_joint, knee, 0.048 * height * girth, PERSON, trousers)
        b.limb(knee, foot, 0.034 * height * girth, PERSON, trousers)
        b.box(foot[0] + 0.06, foot[1], max(foot[2] - 0.05, 0.0), 0.26, 0.09, 0.08, PERSON, Slot.RUBBER)
        joint = (shoulder[0], side * (half_shoulder + 0.02), shoulder[2] - 0.02)
        _arm(b, rng, joint, side, height, girth, pose, step, shirt)
    lower = (0.0, 0.0, hip - 0.04)
    middle = (0.55 * shoulder[0], 0.0, hip + 0.55 * trunk)
    b.sphere(
        0.35 * middle[0], 0.0, (lower[2] + middle[2]) / 2, 0.075 * height * girth, 0.095 * height * girth, 0.62 * trunk * 0.7, PERSON, shirt
    )
    b.sphere(0.8 * shoulder[0], 0.0, hip + 0.68 * trunk, 0.068 * height * girth, 0.12 * height, 0.24 * height * 0.85, PERSON, shirt)
    neck = shoulder[2] + 0.045 * height
    b.limb((shoulder[0], 0, shoulder[2] - 0.04), (shoulder[0] * 1.1, 0, neck), 0.033 * height, PERSON, Slot.SKIN)
    head = 0.5 * 0.13 * height
    b.sphere(shoulder[0] * 1.15 + 0.015, 0.0, neck + 0.85 * head, 0.058 * height, 0.046 * height, head, PERSON, Slot.SKIN)
    b.sphere(shoulder[0] * 1.15 - 0.005, 0.0, neck + 1.1 * head, 0.06 * height, 0.052 * height, head * 0.85, PERSON, Slot.HAIR)
    if rng.uniform() < 0.15:
        b.box(shoulder[0] - 0.16, 0.0, hip + 0.15 * trunk, 0.18, 0.3, 0.45, PERSON, Slot.CLOTH_D)
    if rng.uniform() < 0.12 and pose in ("standing", "walking"):
        b.cylinder(0.0, 0.0, 0.25 * height, 0.11 * height * girth, 0.3 * height, PERSON, shirt, sides=12)


def _arm(
    b: MeshBuilder,
    rng: np.random.Generator,
    joint: tuple[float, float, float],
    side: int,
    height: float,
    girth: float,
    pose: str,
    step: float,
    shirt: int,
) -> None:
    """Add one arm hanging, swinging, raised or in front."""
    upper, lower = 0.17 * height, 0.22 * height
    swing = -side * step * 1.2 if pose == "walking" else float(rng.normal(0, 0.15))
    bend = swing + float(rng.choice([0.2, 0.6, 1.5, 2.2], p=[0.45, 0.25, 0.25, 0.05]))
    if pose == "sitting":
        swing, bend = float(rng.uniform(0.2, 0.7)), float(rng.uniform(1.2, 1.7))
    out = side * float(rng.uniform(0.02, 0.12))
    elbow = (joint[0] + upper * math.sin(swing), joint[1] + out, joint[2] - upper * math.cos(swing))
    hand = (elbow[0] + lower * math.sin(bend), elbow[1] - 0.3 * out, elbow[2] - lower * math.cos(bend))
    b.limb(joint, elbow, 0.028 * height * girth, PERSON, shirt)
    b.limb(elbow, hand, 0.022 * height * girth, PERSON, shirt if rng.uniform() < 0.7 else Slot.SKIN)
    b.sphere(hand[0], hand[1], hand[2], 0.05, 0.045, 0.06, PERSON, Slot.SKIN)
