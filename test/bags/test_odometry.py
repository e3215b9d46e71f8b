"""Poses of the lidar: found where the robot's way is, never taken from its joints, and what cannot be used is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xkd_ros.bags import odometry
from xkd_ros.bags.calibration import static_transforms
from xkd_ros.bags.odometry import read_track
from xkd_ros.bags.reader import Bag
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.rig import LidarConfig
from xkd_ros.core.se3 import make_transform
from xkd_ros.msgs.build import make_transforms
from xkd_ros.msgs.pose import read_pose
from xkd_ros.msgs.transform_tree import TransformTree


def test_poses_that_cannot_be_used_say_why(tmp_path: Path, room_walk: Any) -> None:
    bag = room_walk.write(tmp_path / "walk", scans=2)
    with Bag(bag) as recording:
        notes: list[str] = []
        assert read_track(recording, "lidar", LidarConfig(topic="/points"), TransformTree(), notes) is None
        assert "/odom (base_link): no transform from 'lidar' to 'base_link', not used" in notes[0]
        mounted = LidarConfig(topic="/points", rpy_deg=(0.0, 0.0, float(np.degrees(0.3))))
        notes.clear()
        track = read_track(recording, "lidar", mounted, TransformTree(), notes)
        assert track is not None and "taken to sit in its origin" in notes[0]
        expected = room_walk.pose(0.1)
        np.testing.assert_allclose(track.pose(room_walk.start_ns + 100_000_000)[:3, :3], expected[:3, :3], atol=1e-3)


def poses_on_tf(path: Path, types: Any, edges: Any, steps: int = 40) -> tuple[Any, list[str]]:
    """Write the transforms `edges(step)` every 10 ms beside a lidar 0.5 m above base_link, and look for the poses of the lidar."""
    with BagWriter(path) as writer:
        writer.write("/tf_static", make_transforms({("base_link", "lidar"): make_transform(np.eye(3), [0, 0, 0.5])}, 1, types), 1)
        for step in range(steps):
            stamp = step * 10_000_000 + 1
            writer.write("/tf", make_transforms(edges(step), stamp, types), stamp)
    notes: list[str] = []
    with Bag(path) as recording:
        tree = static_transforms(recording, notes)
        return read_track(recording, "lidar", LidarConfig(topic="/points", rpy_deg=(0.0, 3.0, 0.0)), tree, notes), notes


def ahead(metres: float) -> np.ndarray:
    return make_transform(np.eye(3), [metres, 0, 0])


def test_a_robot_that_stands_has_poses_before_and_after_it_drives(tmp_path: Path, typestore: Any) -> None:
    drives, notes = poses_on_tf(
        tmp_path / "late", typestore.types, lambda step: {("odom", "base_link"): ahead(max(0, step - 2400) * 0.01)}, 2500
    )
    assert len(drives) == 2500 and not notes
    np.testing.assert_allclose(drives.pose(24_500_000_001)[:3, 3], [0.5, 0, 0.5], atol=1e-6)
    stands, _ = poses_on_tf(tmp_path / "stands", typestore.types, lambda step: {("odom", "base_link"): ahead(1.0)})
    assert len(stands) == 40 and stands.covers(1, 390_000_001)


@pytest.mark.parametrize(
    "edge",
    [("base_link", "wheel"), ("lidar", "pan"), ("base_link", "odom"), ("base_footprint", "body"), ("arm_1", "arm_2"), ("map", "odom")],
    ids="-".join,
)
def test_joints_of_the_robot_are_no_odometry(tmp_path: Path, typestore: Any, edge: tuple[str, str]) -> None:
    track, notes = poses_on_tf(tmp_path / "tf", typestore.types, lambda step: {edge: ahead(0.01 * step)})
    assert track is None and (edge != ("arm_1", "arm_2") or "no transform from 'lidar' to 'arm_2'" in notes[0])


def test_of_several_worlds_odom_is_taken_and_other_things_in_it_are_not(tmp_path: Path, typestore: Any) -> None:
    def edges(step: int) -> dict[tuple[str, str], np.ndarray]:
        # Offsets tell which world was taken.
        worlds = {(name, "base_link"): ahead(offset + 0.01 * step) for name, offset in (("world", 3), ("map", 2), ("odom", 1))}
        return {("odom", "ball"): ahead(0.01 * step), ("arm_1", "arm_2"): ahead(0.01 * step), **worlds}

    track, notes = poses_on_tf(tmp_path / "tf", typestore.types, edges)
    assert track.name == "transform odom -> base_link" and not notes
    assert track.pose(1)[0, 3] == pytest.approx(1.0)
    named, _ = poses_on_tf(tmp_path / "own", typestore.types, lambda step: {("camera_init", "base_link"): ahead(0.01 * step)})
    assert named.name == "transform camera_init -> base_link"


def test_joints_are_not_kept_while_poses_are_read(tmp_path: Path, typestore: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    monkeypatch.setattr(odometry, "read_pose", lambda *pose: kept.append("pose") or read_pose(*pose))
    joints = {("base_link", f"wheel_{number}"): number for number in range(4)}
    poses_on_tf(
        tmp_path / "tf",
        typestore.types,
        lambda step: {("odom", "base_link"): ahead(0.01 * step)} | {e: ahead(n + 0.1 * step) for e, n in joints.items()},
    )
    assert len(kept) == 40
