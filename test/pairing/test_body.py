"""The robot's own body is found while it moves, and a wall never is."""

from __future__ import annotations

import numpy as np
import pytest

from xkd_ros.pairing.body import BodyMask, learn_body

MAST_LOW, MAST_HIGH = np.array([-0.4, 0.1, -0.3]), np.array([-0.3, 0.2, 0.3])


def make_scan(seed: int, still: bool = False, corridor: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A mast of the robot, a floor 0.8 m below that comes within reach, and a room that changes from scan to scan."""
    rng = np.random.default_rng(seed)
    mast = rng.uniform(MAST_LOW, MAST_HIGH, (60, 3))
    floor = np.column_stack([rng.uniform(-1.2, 1.2, (400, 2)), rng.normal(-0.8, 0.01, 400)])
    around = np.random.default_rng(0 if still else seed)
    angle, distance = around.uniform(-np.pi, np.pi, 40), around.uniform(2, 9, 40)
    posts = np.repeat(np.column_stack([distance * np.cos(angle), distance * np.sin(angle)]), 20, axis=0)
    room = np.column_stack([posts, rng.uniform(-0.4, 0.9, len(posts))])
    if corridor:
        along, side = rng.uniform(-10, 10, 4000), np.where(rng.random(4000) < 0.5, -0.9, 0.9)
        room = np.column_stack([along, side + rng.normal(0, 0.005, 4000), rng.uniform(-0.7, 1.0, 4000)])
    points = np.concatenate([mast, floor, room]).astype(np.float32)
    return points, points[:, 2] + np.float32(0.8)


def learn(count: int, **kind: bool) -> BodyMask:
    scans, heights = zip(*(make_scan(seed, **kind) for seed in range(count)))
    return learn_body(scans, heights, 1.5)


def test_the_mast_is_found_and_the_floor_stays() -> None:
    mask = learn(16)
    assert not mask.reason
    points, _ = make_scan(99)
    own = mask.covers(points)
    assert own[:60].mean() > 0.95
    assert not own[60:460].any(), "the floor follows the robot as its body does"
    assert own[460:].mean() < 0.01


@pytest.mark.parametrize("kind", ["still", "corridor"])
def test_without_going_anywhere_nothing_is_learnt(kind: str) -> None:
    mask = learn(16, **{kind: True})
    assert "stay in place" in mask.reason and not len(mask.voxels)
    assert not mask.covers(make_scan(1)[0]).any()


def test_few_scans_are_not_enough() -> None:
    assert "3 scans" in learn(3).reason


def test_a_body_larger_than_a_robot_is_not_believed() -> None:
    scans = [np.concatenate([points, np.tile(points[:60], (40, 1))]) for points, _ in (make_scan(seed) for seed in range(10))]
    heights = [scan[:, 2] + np.float32(0.8) for scan in scans]
    assert "not believed" in learn_body(scans, heights, 1.5).reason
