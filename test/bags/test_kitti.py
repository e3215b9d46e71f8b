"""SemanticKITTI folders, read back as semantic-kitti-api does: flat numbers, the class in the lower 16 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from xkd_ros.bags.calibration import static_transforms
from xkd_ros.bags.folder import open_recording
from xkd_ros.bags.kitti import KittiWriter
from xkd_ros.bags.odometry import read_track
from xkd_ros.core.errors import BagError
from xkd_ros.core.labels import INDOOR12
from xkd_ros.core.rig import LidarConfig
from xkd_ros.core.types import Scan
from xkd_ros.pairing.pose_track import PoseTrack


def scan_of(number: int, intensity: np.ndarray | None) -> Scan:
    points = np.random.default_rng(number).uniform(-5, 5, (40, 3)).astype(np.float32)
    points[3], points[7] = np.nan, 0
    return Scan(points, intensity, 10**18 + number * 100_000_001)


def labels_of(number: int) -> np.ndarray:
    labels = np.random.default_rng(50 + number).integers(0, 12, 40).astype(np.uint8)
    labels[[3, 7, 20]] = 255
    return labels


@pytest.mark.parametrize(("highest", "unit"), [(1.0, 1.0), (200.0, 255.0), (3000.0, 65535.0), (70000.0, 70000.0)])
def test_a_sequence_comes_back(tmp_path: Path, highest: float, unit: float) -> None:
    """One factor for all scans, though the first is dark; non-returns are left out and unknown is 0."""
    scans = [scan_of(n, np.linspace(0, highest if n else highest / 300, 40).astype(np.float32)) for n in range(3)]
    with KittiWriter(tmp_path / "set", INDOOR12) as writer:
        for number, scan in enumerate(scans):
            writer.add(scan, labels_of(number), scan.stamp_ns)
    sequence = tmp_path / "set" / "sequences" / "00"
    seen = np.zeros(13)
    kept = np.setdiff1d(np.arange(40), [3, 7])
    for number, scan in enumerate(scans):
        cloud = np.fromfile(sequence / "velodyne" / f"{number:06d}.bin", np.float32).reshape(-1, 4)
        ids = np.fromfile(sequence / "labels" / f"{number:06d}.label", np.uint32)
        assert np.array_equal(cloud[:, :3], scan.points_m[kept]) and (ids >> 16 == 0).all()
        assert scan.intensity is not None
        np.testing.assert_allclose(cloud[:, 3], scan.intensity[kept] / unit, rtol=1e-6)
        truth = labels_of(number)[kept].astype(int)
        assert (ids & 0xFFFF).tolist() == [0 if label == 255 else label + 1 for label in truth]
        seen += np.bincount(ids & 0xFFFF, minlength=13)
    assert np.allclose(np.loadtxt(sequence / "times.txt"), [0, 0.100000001, 0.200000002], rtol=0, atol=1e-9)
    config = yaml.safe_load((tmp_path / "set" / "xkd.yaml").read_text())
    assert list(config["labels"].values()) == ["unlabeled", *INDOOR12.names]
    assert config["color_map"][4] == list(INDOOR12.colours[3])[::-1]
    assert np.allclose(list(config["content"].values()), seen / seen.sum())
    assert all(config["learning_map_inv"][config["learning_map"][key]] == key for key in config["labels"])
    assert [key for key, ignored in config["learning_ignore"].items() if ignored] == [0]
    assert sorted(config["split"]) == ["test", "train", "valid"] and 0 in config["split"]["valid"]
    assert not (sequence / "poses.txt").exists() and "no odometry" in writer.notes[0]


def test_poses_are_those_of_the_lidar_from_the_first_scan(tmp_path: Path, room_walk: Any) -> None:
    path = room_walk.write(tmp_path / "walk", scans=5, camera=False)
    with open_recording(path) as recording:
        track = read_track(recording, "lidar", LidarConfig(topic="/points"), static_transforms(recording, []), [])
        with KittiWriter(tmp_path / "set", INDOOR12, track) as writer:
            for scan in recording.scans():
                writer.add(scan, np.zeros(len(scan), np.uint8), scan.stamp_ns)
    sequence = tmp_path / "set" / "sequences" / "00"
    key, values = (sequence / "calib.txt").read_text().strip().split(":")
    assert key == "Tr" and [float(v) for v in values.split()] == np.eye(4)[:3].ravel().tolist()
    poses = np.loadtxt(sequence / "poses.txt").reshape(-1, 3, 4)
    expected = [np.linalg.inv(room_walk.pose(0.0)) @ room_walk.pose(0.1 * number) for number in range(5)]
    np.testing.assert_allclose(poses, np.array(expected)[:, :3], atol=1e-6)


def test_scans_without_a_pose_leave_no_poses_file(tmp_path: Path) -> None:
    scan = scan_of(0, None)
    stamps = np.array([scan.stamp_ns, scan.stamp_ns + 10**8])
    track = PoseTrack(stamps, np.zeros((2, 3)), np.tile([0.0, 0, 0, 1], (2, 1)), name="/odom")
    with KittiWriter(tmp_path / "set", INDOOR12, track) as writer:
        for stamp in (scan.stamp_ns, scan.stamp_ns + 10**9):
            writer.add(scan, labels_of(0), stamp)
    assert writer.notes == ["no poses.txt: 1 of 2 scans have no pose in /odom"]
    sequence = tmp_path / "set" / "sequences" / "00"
    assert not (sequence / "poses.txt").exists()
    assert (np.fromfile(sequence / "velodyne" / "000000.bin", np.float32).reshape(-1, 4)[:, 3] == 0).all()


def test_nothing_is_overwritten_and_nothing_half_written_stays(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(BagError, match="exists already"):
        KittiWriter(tmp_path / "set", INDOOR12)
    with pytest.raises(RuntimeError), KittiWriter(tmp_path / "other", INDOOR12) as writer:
        writer.add(scan_of(0, None), labels_of(0), 1)
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
