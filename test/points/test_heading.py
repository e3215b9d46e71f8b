"""Heading: the same building seen at any yaw is turned to the same walls, up to quarter turns."""

from __future__ import annotations

import numpy as np
import pytest

from xkd_ros.core.se3 import rotation_from_rpy
from xkd_ros.points.heading import estimate_heading


def _room(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    along, up = rng.uniform(-1, 1, 6000), rng.uniform(-1, 1.5, 6000)
    walls = [
        np.stack([along[:1500] * 6, np.full(1500, 4.0), up[:1500]], 1),
        np.stack([along[1500:3000] * 6, np.full(1500, -3.0), up[1500:3000]], 1),
        np.stack([np.full(1500, 6.0), along[3000:4500] * 3.5, up[3000:4500]], 1),
        rng.uniform([-6, -3, -1], [6, 4, 0], (1500, 3)),
    ]
    return (np.concatenate(walls) + rng.normal(0, 0.02, (6000, 3))).astype(np.float32)


@pytest.mark.parametrize("yaw_deg", [0, 7, 31, 44, 46, 90, 133, -60])
def test_walls_end_up_along_the_axes(yaw_deg: float) -> None:
    turned = _room() @ rotation_from_rpy(0, 0, np.radians(yaw_deg)).T.astype(np.float32)
    left = (yaw_deg + np.degrees(estimate_heading(turned)) + 45) % 90 - 45
    assert abs(left) < 1.0


def test_result_is_the_smallest_turn() -> None:
    for seed in range(5):
        angle = estimate_heading(_room(seed) @ rotation_from_rpy(0, 0, seed).T.astype(np.float32))
        assert -np.pi / 4 <= angle < np.pi / 4


def test_order_of_points_does_not_matter() -> None:
    points = _room()
    shuffled = points[np.random.default_rng(1).permutation(len(points))]
    assert estimate_heading(shuffled) == pytest.approx(estimate_heading(points), abs=np.radians(1.0))


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.ones((3, 3)), np.full((500, 3), 1e6)])
def test_nothing_to_go_by(points: np.ndarray) -> None:
    assert estimate_heading(points.astype(np.float32)) == 0.0
