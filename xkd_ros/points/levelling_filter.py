"""Levelling over many scans: steady on a robot, quick in a hand.

In: scans in order. Out: the levelling to apply to each. Next room: `preprocessor`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np

from xkd_ros.points.levelling import Levelling, angle_from_up_deg, estimate_levelling, level_to

WINDOW = 15
AGREE_DEG = 1.0  # estimates this near to the newest are averaged: more would lag behind a hand


class LevellingFilter:
    """Join the estimates of consecutive scans, or apply a rotation that is known.

    The result is the median of those recent estimates that agree with the newest one, so a jump takes effect at once:
    on real recordings a trusted estimate is far more often right than a lidar is still.
    An untrusted scan keeps the last result: the mounting has most likely not changed. Before the first trusted scan
    the rotation is the identity.
    """

    def __init__(self, rotation: np.ndarray | None = None, mounting: np.ndarray | None = None) -> None:
        """Start without knowledge, or fixed.

        Args:
            rotation: (3, 3) levelled_from_lidar from parameters, TF or an IMU; None estimates it from the scans.
            mounting: (3, 3) base_from_lidar of a lidar that is mounted on its side or upside down; what remains to be
                levelled is then estimated on top of it. None: z of the lidar is roughly up.
        """
        self._mounting = np.eye(3) if mounting is None else np.array(mounting, dtype=np.float64)
        self._fixed: Levelling | None = None
        if rotation is not None:
            fixed = np.array(rotation, dtype=np.float64)
            self._fixed = Levelling(fixed, None, 1.0, True, angle_from_up_deg(fixed[2]))
        self._recent: deque[np.ndarray] = deque(maxlen=WINDOW)
        self._joint: Levelling | None = None

    def reset(self) -> None:
        """Forget all scans, for example after a jump in time."""
        self._recent.clear()
        self._joint = None

    def update(self, points_m: np.ndarray) -> Levelling:
        """Take a scan and return the levelling to apply to it.

        Args:
            points_m: (M, 3) metres, lidar frame.
        Returns:
            Levelling whose rotation is levelled_from_lidar, mounting included.
        """
        if self._fixed is not None:
            return self._fixed
        mounted = np.asarray(points_m, dtype=np.float32).reshape(-1, 3) @ self._mounting.T.astype(np.float32)
        joint = self.push(estimate_levelling(mounted))
        rotation = joint.rotation @ self._mounting
        return replace(joint, rotation=rotation, tilt_deg=angle_from_up_deg(rotation[2]))

    def push(self, estimate: Levelling) -> Levelling:
        """Take the estimate of one scan, in the mounted frame, and return the joint one."""
        if not estimate.trusted:
            if self._joint is None or not self._joint.trusted:
                self._joint = estimate
            return self._joint
        up = estimate.up
        self._recent.append(up)
        agreeing = [other for other in self._recent if _degrees_between(other, up) <= AGREE_DEG]
        joint = np.median(agreeing, axis=0)
        joint /= np.linalg.norm(joint)
        self._joint = level_to(joint, estimate.floor_height_m, estimate.support)
        return self._joint


def _degrees_between(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.rad2deg(np.arccos(np.clip(first @ second, -1.0, 1.0))))
