"""Poses between poses: exact on a screw motion, and never invented where nobody measured."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xkd_ros.core.errors import ShapeError
from xkd_ros.core.se3 import make_transform, quaternion_from_rotation, rotation_from_rpy
from xkd_ros.pairing.deskew import deskew, sweep_ns
from xkd_ros.pairing.pose_track import PoseTrack

MS = 1_000_000
LIDAR = make_transform(rotation_from_rpy(0.1, -0.2, 0.4), [0.3, -0.1, 0.6])


def pose(time_s: float) -> np.ndarray:
    return make_transform(rotation_from_rpy(0.0, 0.0, 1.3 * time_s), [0.9 * time_s, -0.4 * time_s, 0.0])


def make_track(seconds: float = 2.0, step_ms: int = 20, sensor: np.ndarray | None = LIDAR, flip: bool = False) -> PoseTrack:
    stamps = np.arange(0, round(seconds * 1000) + 1, step_ms) * MS
    poses = [pose(stamp * 1e-9) for stamp in stamps]
    quaternions = np.array([quaternion_from_rotation(p[:3, :3]) for p in poses])
    if flip:
        quaternions[::3] *= -1
    return PoseTrack(stamps, np.array([p[:3, 3] for p in poses]), quaternions, sensor)


@pytest.mark.parametrize("flip", [False, True])
@settings(max_examples=50, deadline=None)
@given(time_ms=st.floats(0, 2000))
def test_poses_in_between_are_those_of_the_motion(flip: bool, time_ms: float) -> None:
    track = make_track(flip=flip)
    stamp = round(time_ms * MS)
    np.testing.assert_allclose(track.pose(stamp), pose(stamp * 1e-9) @ LIDAR, atol=1e-7)


def test_rotations_are_the_slerp_of_scipy() -> None:
    from scipy.spatial.transform import Rotation, Slerp

    rng = np.random.default_rng(0)
    rotations = Rotation.random(12, rng=rng)
    stamps = np.cumsum(rng.integers(80, 120, 12)) * MS
    track = PoseTrack(stamps, np.zeros((12, 3)), rotations.as_quat())
    asked = rng.integers(stamps[0], stamps[-1], 40)
    expected = Slerp(stamps.astype(float), rotations)(asked.astype(float)).as_matrix()
    np.testing.assert_allclose(track.at(asked)[:, :3, :3], expected, atol=1e-6)


def test_order_does_not_matter_and_the_last_of_equal_stamps_counts() -> None:
    stamps = np.array([200, 0, 100, 100]) * MS
    positions = np.array([[2.0, 0, 0], [0, 0, 0], [9.0, 0, 0], [1.0, 0, 0]])
    track = PoseTrack(stamps, positions, np.tile([0, 0, 0, 2.0], (4, 1)))
    assert len(track) == 3 and track.first_ns == 0 and track.last_ns == 200 * MS
    assert track.pose(50 * MS)[0, 3] == pytest.approx(0.5) and track.pose(150 * MS)[0, 3] == pytest.approx(1.5)


def test_holes_and_jumps_are_not_covered() -> None:
    stamps = np.array([0, 100, 200, 900, 1000, 1100]) * MS
    positions = np.array([[0, 0, 0], [0.1, 0, 0], [0.2, 0, 0], [0.3, 0, 0], [0.4, 0, 0], [40.0, 0, 0]])
    track = PoseTrack(stamps, positions, np.tile([0, 0, 0, 1.0], (6, 1)))
    assert track.covers(0, 200 * MS) and track.covers(150 * MS, 150 * MS) and track.covers(900 * MS, 1000 * MS)
    assert not track.covers(150 * MS, 950 * MS), "0.7 s without a pose"
    assert not track.covers(1000 * MS, 1050 * MS), "40 m in 0.1 s: reset"
    assert not track.covers(-1, 100 * MS) and not track.covers(1000 * MS, 1101 * MS)
    assert PoseTrack(stamps[:1], positions[:1], np.array([[0, 0, 0, 1.0]])).pose(5)[3, 3] == 1


def test_turn_rate_and_motion() -> None:
    track = make_track()
    assert track.turn_rate_radps(1000 * MS) == pytest.approx(1.3, abs=1e-6)
    assert track.turn_rate_radps(0) == pytest.approx(1.3, abs=1e-6) and track.turn_rate_radps(3000 * MS) is None
    stamps = np.arange(0, 2001, 10) * MS
    yaws = np.maximum(stamps * 1e-9 - 1.0, 0)
    begins = PoseTrack(stamps, np.zeros((len(stamps), 3)), np.column_stack([0 * yaws, 0 * yaws, np.sin(yaws / 2), np.cos(yaws / 2)]))
    assert begins.turn_rate_radps(1000 * MS) == pytest.approx(0.5, abs=1e-6), "as much before as after the moment"
    still = np.array([[2.0, 1.0, 0.5, 1.0]]).T
    moved = track.moved(100 * MS, 600 * MS)
    expected = np.linalg.inv(pose(0.6) @ LIDAR) @ pose(0.1) @ LIDAR @ still
    np.testing.assert_allclose(moved @ still, expected, atol=1e-7)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ShapeError, match="one row per pose"):
        PoseTrack(np.zeros(2, np.int64), np.zeros((3, 3)), np.zeros((2, 4)))
    with pytest.raises(ShapeError):
        PoseTrack(np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros((0, 4)))


def test_deskew_is_the_plain_way_point_by_point() -> None:
    track, stamp = make_track(), 700 * MS
    rng = np.random.default_rng(1)
    points = rng.uniform(-15, 15, (400, 3)).astype(np.float32)
    time_s = rng.uniform(-0.02, 0.1, 400).astype(np.float32)
    time_s[3] = np.nan
    straight = deskew(points, time_s, stamp, track)
    to_stamp = np.linalg.inv(pose(0.7) @ LIDAR)
    for point, when, found in zip(points, np.nan_to_num(time_s), straight):
        expected = to_stamp @ pose(0.7 + float(when)) @ LIDAR @ np.append(point, 1.0).astype(float)
        np.testing.assert_allclose(found, expected[:3], atol=1e-4)
    assert np.abs(straight - points).max() > 0.5, "the motion matters"
    assert straight.dtype == np.float32
    first, last = sweep_ns(time_s, stamp)
    assert first == pytest.approx(680 * MS, abs=MS) and last == pytest.approx(800 * MS, abs=MS)
    assert deskew(points[:0], time_s[:0], stamp, track).shape == (0, 3)
