from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xkd_ros.core.se3 import rotation_between, rotation_from_rpy
from xkd_ros.points.levelling import estimate_levelling
from xkd_ros.points.surfels import find_surfels

UP = np.array([0.0, 0.0, 1.0])


def degrees_between(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.rad2deg(np.arccos(np.clip(first @ second, -1, 1))))


def tilted(tilt_deg: float, azimuth_rad: float, yaw_rad: float = 0.0) -> np.ndarray:
    """world_from_lidar of a lidar that leans over."""
    lean = np.deg2rad(tilt_deg)
    return rotation_between(
        UP, np.array([np.sin(lean) * np.cos(azimuth_rad), np.sin(lean) * np.sin(azimuth_rad), np.cos(lean)])
    ) @ rotation_from_rpy(0, 0, yaw_rad)


@settings(deadline=None, max_examples=12)
@given(tilt=st.floats(0, 30), azimuth=st.floats(0, 6.28), yaw=st.floats(0, 6.28))
def test_any_tilt_up_to_30_degrees_is_found(office, tilt, azimuth, yaw):
    pose = tilted(tilt, azimuth, yaw)
    levelling = estimate_levelling(office().scan(1.2, pose, beams=32))
    assert levelling.trusted and levelling.reason == ""
    assert degrees_between(levelling.up, pose.T @ UP) < 0.4
    assert abs(levelling.tilt_deg - tilt) < 0.4
    np.testing.assert_allclose(levelling.rotation @ levelling.rotation.T, np.eye(3), atol=1e-9)
    if levelling.floor_height_m is not None:
        assert abs(levelling.floor_height_m + 1.2) < 0.05


def test_the_rotation_is_the_smallest_that_levels(office):
    pose = tilted(10, 1.0)
    levelling = estimate_levelling(office().scan(1.2, pose))
    axis_angle = np.rad2deg(np.arccos((np.trace(levelling.rotation) - 1) / 2))
    assert abs(axis_angle - levelling.tilt_deg) < 1e-6


@pytest.mark.parametrize("parts", [{"ceiling": False}, {"floor": False}, {"floor": False, "ceiling": False}])
def test_walls_alone_settle_it(office, parts):
    pose = tilted(8, 2.0)
    levelling = estimate_levelling(office(**parts).scan(1.2, pose, beams=32))
    assert levelling.trusted and degrees_between(levelling.up, pose.T @ UP) < 0.5
    if not parts.get("floor", True):
        assert levelling.floor_height_m is None or levelling.floor_height_m > -1.0  # a table at most


def test_a_corridor_and_a_table_under_the_sensor(room):
    corridor = room().add((0, 0, -0.1), (12, 2, 0.1)).add((0, 0, 2.6), (12, 2, 0.1))
    corridor.add((0, 1.1, 1.25), (12, 0.05, 1.25)).add((0, -1.1, 1.25), (12, 0.05, 1.25)).add((0.2, 0, 0.7), (0.7, 0.4, 0.02))
    pose = tilted(12, 0.5, 0.7)
    levelling = estimate_levelling(corridor.scan(1.0, pose, beams=32, half_angle_deg=30))
    assert levelling.trusted and degrees_between(levelling.up, pose.T @ UP) < 0.4
    assert abs(levelling.floor_height_m + 1.0) < 0.05


def untrusted_scenes() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(5000, 3))
    azimuth = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    return {
        "empty": np.empty((0, 3)),
        "five": rng.normal(size=(5, 3)),
        "all NaN": np.full((500, 3), np.nan),
        "all equal": np.full((5000, 3), 3.0),
        "giant": np.full((5000, 3), 1e30),
        "a ball": 5 * ball / np.linalg.norm(ball, axis=1, keepdims=True),
        "a cloud of noise": rng.uniform(-8, 8, (20000, 3)),
        "one ring": np.c_[4 * np.cos(azimuth), 4 * np.sin(azimuth), np.zeros(3000)],
        "a line": np.outer(np.linspace(1, 20, 4000), [1, 0.3, 0.1]),
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", untrusted_scenes())
def test_scenes_that_say_nothing_are_left_alone(name):
    levelling = estimate_levelling(untrusted_scenes()[name].astype(np.float32))
    assert not levelling.trusted and levelling.reason
    np.testing.assert_array_equal(levelling.rotation, np.eye(3))
    assert levelling.tilt_deg == 0 and levelling.floor_height_m is None


@pytest.mark.parametrize("walls", [1, 2])
def test_parallel_walls_leave_the_tilt_along_them_open(room, walls):
    scene = room().add((0, 2, 0), (30, 0.1, 30))
    if walls == 2:
        scene.add((0, -2, 0), (30, 0.1, 30))
    levelling = estimate_levelling(scene.scan(0.0, tilted(7, 1.0), beams=32))
    assert not levelling.trusted and "one direction" in levelling.reason


def test_one_beam_around_a_corner_is_no_level_surface(room):
    """A beam that runs along two walls fits a plane, its own, which has the lidar's tilt and not the room's."""
    scene = room()
    for number in range(8):
        angle = number * np.pi / 4
        scene.add((2 * np.cos(angle), 2 * np.sin(angle), 0), (0.1, 0.75, 5), angle)
    small = find_surfels(scene.scan(0.0, tilted(10, 0.3), beams=4, half_angle_deg=12, columns=2000, noise_m=0.003), 0.5, ())[0]
    level_in_lidar_frame = small.flat & (np.abs(small.normals[:, 2]) > 0.9)
    assert not level_in_lidar_frame.any()


def test_upside_down_is_believed_only_on_clear_evidence(room):
    hall = room().add((0, 0, -0.1), (14, 14, 0.1)).add((0, 0, 7.1), (14, 14, 0.1))
    for x, y, half_x, half_y in ((10, 0, 0.1, 10), (-10, 0, 0.1, 10), (0, 10, 10, 0.1), (0, -10, 10, 0.1)):
        hall.add((x, y, 3.5), (half_x, half_y, 3.5))
    rng = np.random.default_rng(0)
    for _ in range(150):  # things that stand about
        x, y = rng.uniform(-9, 9, 2)
        if np.hypot(x, y) > 1.5:
            hall.add((x, y, 0.4), rng.uniform(0.1, 0.6, 3), rng.uniform(0, 3), rng.uniform(-0.6, 0.6))
    upright = hall.scan(1.0, tilted(5, 1.0), beams=64, half_angle_deg=40)
    assert estimate_levelling(upright).up[2] > 0.9
    flying = hall.scan(6.0, tilted(5, 1.0), beams=64, half_angle_deg=40)  # near the ceiling, which proves nothing
    assert estimate_levelling(flying).up[2] > 0.9
    over = np.diag([1.0, -1.0, -1.0]).astype(np.float32)
    turned = estimate_levelling(upright @ over)
    assert turned.trusted and turned.up[2] < -0.9 and abs(turned.floor_height_m + 1.0) < 0.05


def test_the_order_of_the_points_does_not_matter(office):
    points = office().scan(1.2, tilted(9, 0.4))
    one, other = estimate_levelling(points), estimate_levelling(points[np.random.default_rng(0).permutation(len(points))])
    np.testing.assert_allclose(one.rotation, other.rotation, atol=1e-6)


def test_the_same_scan_gives_the_same_answer(office):
    points = office().scan(1.2, tilted(9, 0.4), beams=64, columns=700)  # more than are used: thinned at random
    np.testing.assert_array_equal(estimate_levelling(points).rotation, estimate_levelling(points).rotation)


@pytest.mark.data
@pytest.mark.parametrize(("bag", "tilt_deg"), [("ouster_classroom", (1, 14)), ("vlp16_workshop_fisheye", (6, 7.5))])
def test_real_scans_are_levelled_as_recorded_and_leaning(real_data, bag, tilt_deg):
    reader = pytest.importorskip("xkd_ros.bags.reader")
    lean = tilted(10, 2.2)
    with reader.Bag(real_data / bag) as recording:
        scans = list(recording.scans(None))
    assert len(scans) >= 5
    for scan in scans:
        upright, leaning = estimate_levelling(scan.points_m), estimate_levelling(scan.points_m @ lean.T.astype(np.float32))
        assert upright.trusted and tilt_deg[0] < upright.tilt_deg < tilt_deg[1]
        assert leaning.trusted and degrees_between(leaning.up, lean @ upright.up) < 1.0
        # The floor, found in the levelled cloud by itself, is level.
        levelled = scan.points_m @ upright.rotation.T
        floor = np.abs(levelled[:, 2] - upright.floor_height_m) < 0.1
        slope = np.linalg.lstsq(np.c_[levelled[floor, :2], np.ones(floor.sum())], levelled[floor, 2], rcond=None)[0][:2]
        assert np.rad2deg(np.hypot(*slope)) < 0.6
