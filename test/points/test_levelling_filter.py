from __future__ import annotations

import numpy as np
import pytest

from xkd_ros.core.se3 import rotation_from_rpy
from xkd_ros.points.levelling import level_to, untrusted
from xkd_ros.points.levelling_filter import LevellingFilter


def leaning(roll_deg: float, pitch_deg: float = 0.0):
    return level_to(rotation_from_rpy(np.deg2rad(roll_deg), np.deg2rad(pitch_deg), 0)[2], -1.0, 0.8)


def test_noise_is_averaged_out():
    rng = np.random.default_rng(0)
    levelling_filter = LevellingFilter()
    tilts = [levelling_filter.push(leaning(5 + rng.normal(0, 0.3), rng.normal(0, 0.3))).tilt_deg for _ in range(60)]
    assert np.std(tilts[20:]) < 0.15 and abs(np.mean(tilts[20:]) - 5) < 0.15


def test_a_jump_takes_effect_at_once_and_is_forgotten_as_fast():
    levelling_filter = LevellingFilter()
    for _ in range(10):
        levelling_filter.push(leaning(2))
    assert abs(levelling_filter.push(leaning(9)).tilt_deg - 9) < 1e-6
    assert abs(levelling_filter.push(leaning(2)).tilt_deg - 2) < 1e-6


def test_a_swinging_hand_is_followed_without_lag():
    levelling_filter = LevellingFilter()
    angles = 10 * np.sin(np.arange(60) * 0.16)
    errors = [abs(levelling_filter.push(leaning(angle)).tilt_deg - abs(angle)) for angle in angles]
    assert max(errors) < 1.0


def test_an_untrusted_scan_keeps_what_was_known():
    levelling_filter = LevellingFilter()
    first = levelling_filter.push(untrusted("nothing seen"))
    assert not first.trusted and np.array_equal(first.rotation, np.eye(3)) and first.reason == "nothing seen"
    assert levelling_filter.push(untrusted("too few points")).reason == "too few points"
    known = levelling_filter.push(leaning(4))
    assert levelling_filter.push(untrusted("nothing seen")) is known
    levelling_filter.reset()
    assert not levelling_filter.push(untrusted("nothing seen")).trusted


def test_a_known_rotation_is_applied_and_nothing_is_estimated(office_scan):
    rotation = rotation_from_rpy(0.1, 0.2, 0.3)
    levelling = LevellingFilter(rotation=rotation).update(office_scan)
    np.testing.assert_array_equal(levelling.rotation, rotation)
    assert levelling.trusted and abs(levelling.tilt_deg - np.rad2deg(np.arccos(rotation[2, 2]))) < 1e-9


@pytest.mark.parametrize("mounting_deg", [90, 180])
def test_a_lidar_on_its_side_is_levelled_on_top_of_its_mounting(office, mounting_deg):
    mounting = rotation_from_rpy(np.deg2rad(mounting_deg), 0, 0)
    world_from_base = rotation_from_rpy(np.deg2rad(6), np.deg2rad(-3), 0)
    points = office().scan(1.2, world_from_base @ mounting, beams=32)
    levelling = LevellingFilter(mounting=mounting).update(points)
    up_in_lidar = (world_from_base @ mounting).T @ [0, 0, 1]
    assert levelling.trusted and np.rad2deg(np.arccos(levelling.up @ up_in_lidar)) < 0.5
    unsettled = LevellingFilter(mounting=mounting).update(np.empty((0, 3)))
    np.testing.assert_array_equal(unsettled.rotation, mounting)
    assert not unsettled.trusted
