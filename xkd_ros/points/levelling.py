"""Which way is up, from a single scan and nothing else.

In: points of a scan in the lidar frame. Out: the smallest rotation that makes its floor level and its walls upright,
and whether to believe it. Next room: `preprocessor`, which applies it; `levelling_filter` joins scans.

Buildings are made of level and upright surfaces. Small flat patches vote for the direction to which most of them are
either parallel or perpendicular, so walls alone settle it where the floor is hidden, and a table top or a ceiling helps
as much as the floor does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xkd_ros.core.se3 import rotation_between
from xkd_ros.points.floor import find_floor
from xkd_ros.points.gravity import Patches, Vertical, find_vertical
from xkd_ros.points.surfels import find_surfels

MAX_POINTS = 16_000
MIN_POINTS = 200
MIN_RANGE_M, MAX_RANGE_M = 0.3, 60.0  # nearer is the robot itself, farther is a stray return or outdoors
CELL_M, MERGES = 0.5, (2, 3)  # the larger cells span several beams where those are far apart

# Set on real and simulated rooms, halved beams included, so that about one trusted scan in 300 is wrong by 3 degrees:
# an untrusted scan stays as tilted as it was, which costs more than a residue of 1 or 2 degrees.
MIN_PATCHES = 20
MIN_AREA_M2 = 5.0
MIN_SUPPORT = 0.35
SUPPORT_PER_TILT = 0.007  # per degree: a sloping roof asks for a large tilt
MIN_SCORE = 0.6
MIN_LEAD = 1.08
MAX_SIGMA_DEG = 1.3
MAX_TRUSTED_TILT_DEG = 35.0


@dataclass(frozen=True, eq=False)
class Levelling:
    """Gravity as seen by one scan, or by several.

    Attributes:
        rotation: (3, 3) float64 levelled_from_lidar, the smallest that levels; the identity when not trusted.
        floor_height_m: Height of the floor in the levelled frame (negative below the lidar); None when not seen.
        support: Share of the flat area that is level or upright, 0 to 1.
        trusted: Whether enough surfaces agree, in both directions of tilt.
        tilt_deg: Angle of `rotation`.
        reason: Why it is not trusted; empty when it is.
    """

    rotation: np.ndarray
    floor_height_m: float | None
    support: float
    trusted: bool
    tilt_deg: float
    reason: str = ""

    @property
    def up(self) -> np.ndarray:
        """(3,) unit vector that points up, in the lidar frame."""
        return self.rotation[2]


def estimate_levelling(points_m: np.ndarray) -> Levelling:
    """Estimate the rotation that levels a scan.

    Args:
        points_m: (M, 3) metres, lidar frame, z (or -z, upside down) within 35 degrees of up. NaN and (0, 0, 0) are
            ignored.
    Returns:
        The levelling; not trusted, with the identity rotation, where the scan does not settle it.
    """
    points = _usable(np.asarray(points_m, dtype=np.float32).reshape(-1, 3))
    if len(points) < MIN_POINTS:
        return untrusted(f"{len(points)} usable points, {MIN_POINTS} needed")
    surfels = find_surfels(points, CELL_M, MERGES)
    patches = Patches.choose(surfels)
    if len(patches) < MIN_PATCHES:
        return untrusted(f"{len(patches)} flat patches, {MIN_PATCHES} needed")
    vertical = find_vertical(patches)
    doubt = _doubt(vertical)
    if doubt:
        return untrusted(doubt, vertical.support)
    up, floor_height_m = find_floor(vertical.axis, surfels)
    return level_to(up, floor_height_m, vertical.support)


def level_to(up: np.ndarray, floor_height_m: float | None, support: float) -> Levelling:
    """Make the trusted levelling that turns `up` (3,) into z with the smallest rotation."""
    rotation = rotation_between(up, np.array([0.0, 0.0, 1.0]))
    return Levelling(rotation, floor_height_m, support, True, angle_from_up_deg(up))


def angle_from_up_deg(direction: np.ndarray) -> float:
    """Angle in degrees between a unit vector (3,) and z."""
    return float(np.rad2deg(np.arccos(np.clip(direction[2], -1.0, 1.0))))


def untrusted(reason: str, support: float = 0.0) -> Levelling:
    """Make the levelling that changes nothing."""
    return Levelling(np.eye(3), None, support, False, 0.0, reason)


def _usable(points: np.ndarray) -> np.ndarray:
    """Measurements at a sensible range, thinned at random (with a fixed seed: rows of beams must not be favoured)."""
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.abs(points[:, 0])
        size += np.abs(points[:, 1])
        size += np.abs(points[:, 2])
        usable = np.flatnonzero((size > MIN_RANGE_M) & (size < MAX_RANGE_M))
    if len(usable) > MAX_POINTS:
        usable = usable[np.random.default_rng(0).integers(0, len(usable), MAX_POINTS)]
    return points[usable]


def _doubt(vertical: Vertical) -> str:
    """Say why the vertical axis is not to be trusted; empty when it is."""
    tilt_deg = angle_from_up_deg(vertical.axis)
    if vertical.area_m2 < MIN_AREA_M2:
        return f"only {vertical.area_m2:.1f} m² of flat surface seen"
    if vertical.sigma_deg > MAX_SIGMA_DEG:
        return f"the surfaces leave the tilt open by {vertical.sigma_deg:.1f} degrees in one direction"
    if vertical.support < MIN_SUPPORT + SUPPORT_PER_TILT * tilt_deg:
        return f"only {100 * vertical.support:.0f} % of the flat surface is level or upright"
    if vertical.score < MIN_SCORE or vertical.lead < MIN_LEAD:
        return "another direction fits almost as well"
    if tilt_deg > MAX_TRUSTED_TILT_DEG:
        return f"the best direction is {tilt_deg:.0f} degrees off"
    return ""
