"""Where a sensor was at any moment, from poses that somebody measured now and then.

Stamped poses of the robot come in, poses of the lidar at scan, point and image times go out; next: `deskew`.
"""

from __future__ import annotations

import numpy as np

from xkd_ros.core.errors import ShapeError
from xkd_ros.core.se3 import invert

# Between poses farther apart than this nobody knows what the robot did.
LONGEST_GAP_S = 0.5
# Faster than any robot in a building: the odometry was reset or slipped.
FASTEST_MPS, FASTEST_RADPS = 15.0, 12.0
_RATE_WINDOW_NS = 100_000_000


class PoseTrack:
    """Poses over time, interpolated: positions linearly, rotations along the shortest arc (slerp).

    Attributes:
        name: Where the poses come from, for reports.
        first_ns, last_ns: Stamps of the first and the last pose.
    """

    def __init__(
        self,
        stamps_ns: np.ndarray,
        positions_m: np.ndarray,
        quaternions: np.ndarray,
        base_from_sensor: np.ndarray | None = None,
        name: str = "",
    ) -> None:
        """Take in poses in any order; of equal stamps the last one counts.

        Args:
            stamps_ns: (T,) int64, T >= 1.
            positions_m: (T, 3) of the body in the world.
            quaternions: (T, 4) as x, y, z, w; normalised here.
            base_from_sensor: (4, 4) where the sensor sits on the body; None is the identity.
            name: Topic or frames.
        Raises:
            ShapeError: lengths that differ, or no pose at all.
        """
        stamps = np.asarray(stamps_ns, np.int64)
        if not len(stamps) or np.shape(positions_m) != (len(stamps), 3) or np.shape(quaternions) != (len(stamps), 4):
            raise ShapeError(
                f"{len(stamps)} stamps, positions {np.shape(positions_m)}, quaternions {np.shape(quaternions)}: one row per pose"
            )
        order = np.argsort(stamps, kind="stable")
        order = order[np.append(np.diff(stamps[order]) > 0, True)]
        self.name = name
        self._stamps = stamps[order]
        self._positions = np.asarray(positions_m, np.float64)[order]
        unit = np.asarray(quaternions, np.float64)[order]
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        # q and -q are one rotation: with neighbours on one side, interpolation takes the short way.
        flips = np.cumsum(np.einsum("ij,ij->i", unit[1:], unit[:-1]) < 0) % 2
        unit[1:][flips == 1] *= -1
        self._quaternions = unit
        self._base_from_sensor = np.eye(4) if base_from_sensor is None else np.asarray(base_from_sensor, np.float64)
        self._bad = np.concatenate([[0], np.cumsum(self._bad_segments())])

    @property
    def first_ns(self) -> int:
        """Stamp of the first pose."""
        return int(self._stamps[0])

    @property
    def last_ns(self) -> int:
        """Stamp of the last pose."""
        return int(self._stamps[-1])

    def __len__(self) -> int:
        return len(self._stamps)

    def covers(self, first_ns: int, last_ns: int) -> bool:
        """Tell whether the poses from one moment to another are known: measured around them, without holes or jumps."""
        if first_ns < self.first_ns or last_ns > self.last_ns:
            return False
        low = max(0, int(np.searchsorted(self._stamps, first_ns, "right")) - 1)
        high = int(np.searchsorted(self._stamps, last_ns, "left"))
        return bool(self._bad[max(high, low)] == self._bad[low])

    def at(self, stamps_ns: np.ndarray) -> np.ndarray:
        """Return world_from_sensor at (K,) moments as (K, 4, 4) float64; before the first and after the last pose those are held."""
        stamps = np.clip(np.asarray(stamps_ns, np.int64), self.first_ns, self.last_ns)
        after = np.clip(np.searchsorted(self._stamps, stamps, "left"), min(1, len(self) - 1), len(self) - 1)
        before = np.maximum(after - 1, 0)
        span = np.maximum(self._stamps[after] - self._stamps[before], 1)
        weight = ((stamps - self._stamps[before]) / span)[:, None]
        poses = np.zeros((len(stamps), 4, 4))
        poses[:, :3, :3] = _rotations(_slerp(self._quaternions[before], self._quaternions[after], weight))
        poses[:, :3, 3] = (1 - weight) * self._positions[before] + weight * self._positions[after]
        poses[:, 3, 3] = 1
        return poses @ self._base_from_sensor

    def pose(self, stamp_ns: int) -> np.ndarray:
        """Return world_from_sensor (4, 4) at one moment; see `at`."""
        return np.asarray(self.at(np.array([stamp_ns]))[0])

    def turn_rate_radps(self, stamp_ns: int) -> float | None:
        """Return how fast the sensor turns, about any axis, over a tenth of a second around a moment; None where poses are missing."""
        first = max(self.first_ns, stamp_ns - _RATE_WINDOW_NS // 2)
        last = min(self.last_ns, first + _RATE_WINDOW_NS)
        if last <= first or not self.covers(first, last):
            return None
        start, end = self.at(np.array([first, last]))
        return _angle(start[:3, :3].T @ end[:3, :3]) / ((last - first) * 1e-9)

    def moved(self, from_ns: int, to_ns: int) -> np.ndarray:
        """Return (4, 4) sensor_at_to_from_sensor_at_from: what stood still, seen from where the sensor went."""
        start, end = self.at(np.array([from_ns, to_ns]))
        return invert(end) @ start

    def _bad_segments(self) -> np.ndarray:
        """Mark (T - 1,) the stretches between neighbouring poses that are too long or impossibly fast."""
        seconds = np.diff(self._stamps) * 1e-9
        metres = np.linalg.norm(np.diff(self._positions, axis=0), axis=1)
        cosine = np.abs(np.einsum("ij,ij->i", self._quaternions[1:], self._quaternions[:-1]))
        turned = 2 * np.arccos(np.clip(cosine, 0, 1))
        return (seconds > LONGEST_GAP_S) | _too_fast(metres, turned, seconds)


def is_possible_motion(start: np.ndarray, end: np.ndarray, seconds: float) -> bool:
    """Tell whether a robot can get from one pose (4, 4) to another in so many seconds."""
    metres, turned = np.linalg.norm(end[:3, 3] - start[:3, 3]), _angle(start[:3, :3].T @ end[:3, :3])
    return not _too_fast(np.asarray(metres), np.asarray(turned), np.asarray(seconds)).any()


def _too_fast(metres: np.ndarray, turned_rad: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    # Two poses at nearly one time differ by noise: that is not speed.
    return (metres > FASTEST_MPS * seconds + 0.05) | (turned_rad > FASTEST_RADPS * seconds + 0.05)


def _slerp(start: np.ndarray, end: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Interpolate (K, 4) unit quaternions of one half-sphere with weights (K, 1)."""
    angle = np.arccos(np.clip(np.einsum("ij,ij->i", start, end), -1, 1))[:, None]
    sine = np.sin(angle)
    near = sine < 1e-9
    safe = np.where(near, 1.0, sine)
    first = np.where(near, 1 - weight, np.sin((1 - weight) * angle) / safe)
    second = np.where(near, weight, np.sin(weight * angle) / safe)
    mixed = first * start + second * end
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


def _rotations(quaternions: np.ndarray) -> np.ndarray:
    """Turn (K, 4) unit quaternions x, y, z, w into (K, 3, 3) rotations."""
    x, y, z, w = quaternions.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def _angle(rotation: np.ndarray) -> float:
    """Angle of a (3, 3) rotation; exact for small ones, where the trace is not."""
    skew = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    return float(np.arctan2(np.linalg.norm(skew) / 2, (np.trace(rotation) - 1) / 2))
