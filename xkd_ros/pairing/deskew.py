"""Undo the robot's motion during a sweep: every point to where it would have been measured at the stamp of the scan."""

from __future__ import annotations

import numpy as np

from xkd_ros.core.se3 import invert
from xkd_ros.pairing.pose_track import PoseTrack

# Poses are evaluated this far apart and their matrices mixed linearly in between: at 3 rad/s that bends a ray by 0.02 mrad.
_KNOT_S = 0.004


def sweep_ns(time_s: np.ndarray, stamp_ns: int) -> tuple[int, int]:
    """Return when the first and the last point were measured; the stamp itself belongs to the span.

    Args:
        time_s: (N,) seconds after the stamp; what is not finite does not count.
        stamp_ns: Stamp of the scan.
    """
    finite = time_s[np.isfinite(time_s)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    return stamp_ns + int(np.floor(min(low, 0.0) * 1e9)), stamp_ns + int(np.ceil(max(high, 0.0) * 1e9))


def deskew(points_m: np.ndarray, time_s: np.ndarray, stamp_ns: int, track: PoseTrack) -> np.ndarray:
    """Move the points of a sweep into the lidar frame at the stamp.

    Args:
        points_m: (N, 3) float32, metres, each in the lidar frame of its own moment.
        time_s: (N,) seconds after the stamp; a point without a finite time is taken as measured at the stamp.
        stamp_ns: Stamp of the scan.
        track: Poses that cover the sweep; ask `track.covers(*sweep_ns(time_s, stamp_ns))`.
    Returns:
        (N, 3) float32, metres, lidar frame at the stamp.
    """
    time = np.where(np.isfinite(time_s), time_s, 0.0).astype(np.float64)
    if not len(time):
        return np.asarray(points_m, np.float32)
    low, high = float(time.min()), float(time.max())
    knots = max(1, int(np.ceil((high - low) / _KNOT_S)))
    moments = stamp_ns + np.rint(np.linspace(low, high, knots + 1) * 1e9).astype(np.int64)
    stamp_from_moment = (invert(track.pose(stamp_ns)) @ track.at(moments))[:, :3].astype(np.float32)
    place = (time - low) / max(high - low, 1e-12) * knots
    knot = np.clip(place.astype(np.int64), 0, knots - 1)
    weight = (place - knot).astype(np.float32)[:, None, None]
    matrix = stamp_from_moment[knot]
    matrix += weight * (stamp_from_moment[knot + 1] - matrix)
    return np.einsum("nij,nj->ni", matrix[:, :, :3], np.asarray(points_m, np.float32)) + matrix[:, :, 3]
