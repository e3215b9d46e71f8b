"""Rigid transforms as float64 (4, 4) matrices named `target_from_source`, so that p_target = target_from_source @ p_source."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def make_transform(rotation: np.ndarray, translation: Sequence[float] | np.ndarray) -> np.ndarray:
    """Build a (4, 4) float64 transform from a (3, 3) rotation and a (3,) translation in metres."""
    transform = np.eye(4)
    transform[:3, :3] = rotation
    transform[:3, 3] = translation
    return transform


def invert(transform: np.ndarray) -> np.ndarray:
    """Invert a rigid (4, 4) transform."""
    rotation = transform[:3, :3].T
    return make_transform(rotation, -rotation @ transform[:3, 3])


def apply(transform: np.ndarray, points_m: np.ndarray) -> np.ndarray:
    """Transform (N, 3) points; the dtype of the points is kept."""
    rotation = transform[:3, :3].astype(points_m.dtype, copy=False)
    return points_m @ rotation.T + transform[:3, 3].astype(points_m.dtype, copy=False)


def rotation_from_quaternion(xyzw: Sequence[float]) -> np.ndarray:
    """Turn a quaternion (x, y, z, w), normalised here, into a (3, 3) rotation; a zero quaternion is the identity."""
    quaternion = np.asarray(xyzw, float)
    norm = float(np.linalg.norm(quaternion))
    if norm == 0.0:
        return np.eye(3)
    x, y, z, w = quaternion / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """Turn a (3, 3) rotation into a unit quaternion (x, y, z, w) with w >= 0.

    Source: the symmetric 4x4 eigenproblem (Bar-Itzhack 2000), stable for every angle.
    """
    r = np.asarray(rotation, float)
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], r[1, 0] + r[0, 1], r[2, 0] + r[0, 2], r[2, 1] - r[1, 2]],
            [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], r[2, 1] + r[1, 2], r[0, 2] - r[2, 0]],
            [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], r[0, 0] + r[1, 1] + r[2, 2]],
        ]
    )
    quaternion = np.linalg.eigh(k)[1][:, -1]
    return quaternion if quaternion[3] >= 0 else -quaternion


def rotation_from_rpy(roll_rad: float, pitch_rad: float, yaw_rad: float) -> np.ndarray:
    """Compose Rz(yaw) Ry(pitch) Rx(roll), the fixed-axis convention of ROS (REP 103)."""
    (sr, sp, sy), (cr, cp, cy) = np.sin([roll_rad, pitch_rad, yaw_rad]), np.cos([roll_rad, pitch_rad, yaw_rad])
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def rotation_between(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Find the smallest (3, 3) rotation that turns the direction `source` (3,) into `target` (3,)."""
    a = np.asarray(source, float) / np.linalg.norm(source)
    b = np.asarray(target, float) / np.linalg.norm(target)
    middle = a + b
    if middle @ middle < 1e-16:
        axis = np.cross(a, [1.0, 0, 0] if abs(a[0]) < 0.9 else [0, 1.0, 0])
        axis /= np.linalg.norm(axis)
        return 2 * np.outer(axis, axis) - np.eye(3)
    # Half a turn about the source, then half a turn about the middle: exact near opposite directions too.
    return (2 * np.outer(middle, middle) / (middle @ middle) - np.eye(3)) @ (2 * np.outer(a, a) - np.eye(3))
