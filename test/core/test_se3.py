"""Rigid transforms: inverses, conventions and the smallest rotation."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from xkd_ros.core import se3

ANGLE = st.floats(-3.1, 3.1)
DIRECTION = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1)


@given(ANGLE, ANGLE, ANGLE)
def test_rpy_and_quaternion_agree_with_scipy(roll: float, pitch: float, yaw: float) -> None:
    rotation = se3.rotation_from_rpy(roll, pitch, yaw)
    theirs = Rotation.from_euler("xyz", [roll, pitch, yaw])
    assert np.allclose(rotation, theirs.as_matrix(), atol=1e-12)
    quaternion = se3.quaternion_from_rotation(rotation)
    assert quaternion[3] >= 0 and np.allclose(se3.rotation_from_quaternion(quaternion), rotation, atol=1e-9)


@given(ANGLE, ANGLE, ANGLE, DIRECTION)
def test_invert_undoes_apply(roll: float, pitch: float, yaw: float, translation: tuple[float, ...]) -> None:
    transform = se3.make_transform(se3.rotation_from_rpy(roll, pitch, yaw), translation)
    points = np.random.default_rng(0).normal(size=(20, 3))
    assert np.allclose(se3.apply(se3.invert(transform), se3.apply(transform, points)), points, atol=1e-9)


@given(DIRECTION, DIRECTION)
@example((0.0, 1.0, 0.0), (0.0, -1.0, 8.121e-6))
@example((0.0, 0.6, 0.8), (0.0, -0.6, -0.8 + 3e-8))
@example((1.0, 0.0, 0.0), (-1.0, 0.0, 0.0))
def test_rotation_between_is_the_smallest_rotation(source: tuple[float, ...], target: tuple[float, ...]) -> None:
    a, b = np.array(source) / np.linalg.norm(source), np.array(target) / np.linalg.norm(target)
    rotation = se3.rotation_between(a, b)
    assert np.allclose(rotation @ a, b, atol=1e-6) and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    angle = np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))
    assert np.isclose(angle, np.arccos(np.clip(a @ b, -1, 1)), atol=1e-4)


def test_opposite_directions_and_zero_quaternion() -> None:
    assert np.allclose(se3.rotation_between([0, 0, 1], [0, 0, -1]) @ [0, 0, 1], [0, 0, -1])
    assert np.array_equal(se3.rotation_from_quaternion((0, 0, 0, 0)), np.eye(3))


def test_apply_keeps_float32() -> None:
    assert se3.apply(np.eye(4), np.zeros((2, 3), np.float32)).dtype == np.float32
