"""How a lidar moves while it turns: at a constant rate, or along poses; each ray leaves from its own place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Motion:
    """Movement during one turn, constant in the sensor's frame.

    Attributes:
        velocity_mps: (3,) metres per second, sensor frame.
        yaw_rate_radps: Turn about the sensor's z axis.
        period_s: Time of one turn.
    """

    velocity_mps: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw_rate_radps: float = 0.0
    period_s: float = 0.1

    def moved(self, rays: np.ndarray, time_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return origins (N, 3) and directions (N, 3) of rays at their times, in the sensor's frame at the start of the turn."""
        turn = self.yaw_rate_radps * time_s
        c, s = np.cos(turn), np.sin(turn)
        turned = np.stack([c * rays[:, 0] - s * rays[:, 1], s * rays[:, 0] + c * rays[:, 1], rays[:, 2]], 1)
        return time_s[:, None] * np.asarray(self.velocity_mps, np.float32), turned


@dataclass(frozen=True, eq=False)
class Track:
    """Movement during one turn along poses, straight between them: what hands, stairs and a lidar on its side need.

    Attributes:
        times_s: (K,) ascending, from 0 to the time of one turn.
        start_from_then: (K, 4, 4) float64, the sensor's pose at those times in its frame at the start.
    """

    times_s: np.ndarray
    start_from_then: np.ndarray

    @property
    def period_s(self) -> float:
        """Time of one turn."""
        return float(self.times_s[-1])

    @cached_property
    def _turns(self) -> np.ndarray:
        from scipy.spatial.transform import Rotation

        return np.asarray(Rotation.from_matrix(self.start_from_then[:, :3, :3]).as_rotvec())

    def moved(self, rays: np.ndarray, time_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return origins (N, 3) and directions (N, 3) of rays at their times, in the sensor's frame at the start of the turn."""
        shift, turn = (
            np.stack([np.interp(time_s, self.times_s, values[:, k]) for k in range(3)], 1).astype(np.float32)
            for values in (self.start_from_then[:, :3, 3], self._turns)
        )
        # Rodrigues' formula, one rotation vector per ray.
        angle = np.sqrt(np.einsum("ij,ij->i", turn, turn))[:, None]
        axis = turn / np.maximum(angle, np.float32(1e-9))
        along = np.einsum("ij,ij->i", axis, rays)[:, None]
        c, s = np.cos(angle), np.sin(angle)
        return shift, c * rays + s * np.cross(axis, rays) + (1 - c) * along * axis
