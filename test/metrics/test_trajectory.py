"""Trajectory errors: zero for the same way in another frame, the known size of a known mistake, plain loops as yardstick."""

from __future__ import annotations

import numpy as np
import pytest

from xkd_ros.core.errors import ShapeError
from xkd_ros.core.se3 import invert, make_transform, rotation_from_rpy
from xkd_ros.metrics.trajectory import absolute_error_m, align_rigidly, relative_error, travelled_m


def walk(count: int = 60, seed: int = 0) -> np.ndarray:
    """A random way of poses (T, 4, 4), each a step of the last."""
    rng = np.random.default_rng(seed)
    poses = [np.eye(4)]
    for _ in range(count - 1):
        poses.append(poses[-1] @ make_transform(rotation_from_rpy(*rng.normal(0, 0.1, 3)), rng.normal((0.1, 0, 0), 0.03)))
    return np.stack(poses)


def angle_deg(rotation: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))))


def test_another_world_frame_is_no_error():
    true = walk()
    moved = make_transform(rotation_from_rpy(0.3, -2.0, 1.2), (5.0, -3.0, 1.0)) @ true
    assert absolute_error_m(moved, true) < 1e-12
    assert np.allclose(align_rigidly(moved[:, :3, 3], true[:, :3, 3]) @ moved, true)
    error = relative_error(moved, true, travelled_m(true), 1.0)
    assert error.translation_m < 1e-12 and error.rotation_deg < 1e-5 and error.stretches > 30


def test_alignment_is_the_best_one_and_never_a_mirror():
    rng = np.random.default_rng(1)
    true = walk()
    estimated = true.copy()
    estimated[:, :3, 3] += rng.normal(0, 0.2, (len(true), 3))
    least = absolute_error_m(estimated, true)
    best = align_rigidly(estimated[:, :3, 3], true[:, :3, 3])
    for _ in range(50):
        other = make_transform(rotation_from_rpy(*rng.normal(0, 0.05, 3)), rng.normal(0, 0.05, 3)) @ best
        moved = estimated[:, :3, 3] @ other[:3, :3].T + other[:3, 3]
        assert np.sqrt(np.square(moved - true[:, :3, 3]).sum(1).mean()) >= least
    mirrored = true[:, :3, 3] * [1, 1, -1] + [0, 0, 0.01]
    assert np.linalg.det(align_rigidly(mirrored, true[:, :3, 3])[:3, :3]) == pytest.approx(1)


def test_flat_ways_are_aligned_too():
    """A robot that stays on its floor gives positions of rank two."""
    true = walk()
    true[:, 2, 3] = 0
    moved = make_transform(rotation_from_rpy(0, 0, 2.0), (1, 2, 3)) @ true
    assert absolute_error_m(moved, true) < 1e-12


def test_a_scale_error_shows_per_metre_and_per_second():
    true = np.stack([make_transform(np.eye(3), (0.1 * step, 0, 0)) for step in range(101)])
    estimated = true.copy()
    estimated[:, 0, 3] *= 1.05
    per_metre = relative_error(estimated, true, travelled_m(true), 1.0)
    assert per_metre.translation_m == pytest.approx(0.05) and per_metre.rotation_deg == pytest.approx(0) and per_metre.stretches == 91
    assert relative_error(estimated, true, 0.1 * np.arange(101), 2.0).translation_m == pytest.approx(0.1)
    # Positions 0..10 m stretched by 5 % about their middle: 0.05 times the spread of the positions.
    assert absolute_error_m(estimated, true) == pytest.approx(0.05 * true[:, 0, 3].std())


def test_relative_error_is_the_plain_loop_of_the_paper():
    true, estimated = walk(80, 2), walk(80, 3)
    along = travelled_m(true)
    shifts, turns = [], []
    for start in range(len(true)):
        later = [index for index in range(len(true)) if along[index] >= along[start] + 0.7]
        if later:
            end = later[0]
            wrong = invert(invert(true[start]) @ true[end]) @ (invert(estimated[start]) @ estimated[end])
            shifts.append(np.linalg.norm(wrong[:3, 3]))
            turns.append(angle_deg(wrong[:3, :3]))
    error = relative_error(estimated, true, along, 0.7)
    assert error.stretches == len(shifts) < len(true)
    assert error.translation_m == pytest.approx(np.sqrt(np.mean(np.square(shifts))))
    assert error.rotation_deg == pytest.approx(np.sqrt(np.mean(np.square(turns))))


def test_too_little_to_compare():
    true = walk(5)
    assert relative_error(true, true, travelled_m(true), 100.0).stretches == 0
    assert np.isnan(relative_error(true, true, travelled_m(true), 100.0).translation_m)
    with pytest.raises(ShapeError, match="at least 3"):
        absolute_error_m(true[:2], true[:2])
    with pytest.raises(ShapeError, match="cannot be aligned"):
        align_rigidly(true[:4, :3, 3], true[:, :3, 3])
