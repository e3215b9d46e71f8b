"""A scan with everything that may teach it: few labels, and image features where a camera sees; two of them can become one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from xkd_ros.core.se3 import rotation_from_rpy
from xkd_ros.distill.ignet.config import FovMixConfig
from xkd_ros.points.heading import estimate_heading
from xkd_ros.points.places import places

_WIDEST_RAD = np.radians(300.0)
_SECTOR_PERCENT = (0.5, 99.5)
_FLOOR_PERCENT = 2.0
_LEVEL = np.eye(3)
_QUARTER = np.pi / 2


@dataclass(frozen=True, eq=False)
class GuidedScan:
    """N levelled points of one rig.

    Attributes:
        rig: Name of the rig.
        points_m: (N, 3) float32, levelled.
        intensity: (N,) float32, or None.
        labels: (N,) uint8, 255 unknown.
        confidence: (N,) float32.
        seen: (V,) int64 points that a camera sees; a point stands there once for each of its views.
        features: (V, D) float16 of the image teacher.
        view: (V,) int64 camera of each.
    """

    rig: str
    points_m: np.ndarray
    intensity: np.ndarray | None
    labels: np.ndarray
    confidence: np.ndarray
    seen: np.ndarray
    features: np.ndarray
    view: np.ndarray

    def __len__(self) -> int:
        return len(self.points_m)

    @property
    def levelled_from_lidar(self) -> np.ndarray:
        """(3, 3); the points are levelled."""
        return _LEVEL

    def take(self, kept: np.ndarray, view: int | None = None) -> GuidedScan:
        """Keep (n,) points in the given order, and what images say about them; only one camera's with `view`."""
        place = places(kept, len(self))
        rows = place[self.seen] >= 0
        if view is not None:
            rows &= self.view == view
        return replace(
            self,
            points_m=self.points_m[kept],
            intensity=None if self.intensity is None else self.intensity[kept],
            labels=self.labels[kept],
            confidence=self.confidence[kept],
            seen=place[self.seen[rows]],
            features=self.features[rows],
            view=self.view[rows],
        )

    def moved(self, rotation: np.ndarray, up_m: float) -> GuidedScan:
        """Rotate by a (3, 3) matrix, then lift."""
        points = self.points_m @ rotation.T.astype(np.float32)
        points[:, 2] += np.float32(up_m)
        return replace(self, points_m=points)


def fov_mix(outside: GuidedScan, inside: GuidedScan, config: FovMixConfig, rng: np.random.Generator) -> GuidedScan:
    """Replace the sector that a camera sees by that of another scan, with its labels and image features (FOVMix).

    The result has a valid image for its whole sector and a new surrounding. Floors are brought to one height and, as walls indoors
    stand at right angles, headings to one grid. On both sides of a border a band is left empty, where surfaces of the two scans would
    not meet.

    Args:
        outside: Keeps all but the sector; what images said about it is left out, for they are of another camera pose.
        inside: Gives the sector of one of its cameras, drawn at random.
        config: Guard band, how often the second scan is turned first, and whether walls are made parallel.
        rng: The only source of randomness.
    Returns:
        The mixed scan; `outside` as it is where `inside` has no camera with a sector of its own, or nothing would be left.

    Source: METHODS 4.3, our reconstruction of IGNet (WACV 2024), whose text was not available.
    """
    if not len(inside.seen) or (outside.intensity is None) != (inside.intensity is None):
        return outside
    view = int(rng.choice(np.unique(inside.view)))
    yaw = rng.uniform(-np.pi, np.pi) if rng.random() < config.turned else 0.0
    if config.parallel:
        to_parallel = estimate_heading(inside.points_m) - estimate_heading(outside.points_m)
        yaw = to_parallel + _QUARTER * round((yaw - to_parallel) / _QUARTER)
    inside = inside.moved(rotation_from_rpy(0, 0, yaw), floor_m(outside.points_m) - floor_m(inside.points_m))
    sector = camera_sector(inside.points_m[inside.seen[inside.view == view]])
    if sector is None:
        return outside
    guard = np.radians(config.guard_deg)
    kept = outside.take(np.flatnonzero(_beyond(outside.points_m, *sector) > guard))
    pasted = inside.take(np.flatnonzero(_beyond(inside.points_m, *sector) < -guard), view)
    if not len(pasted.seen) or not len(kept):
        return outside
    return GuidedScan(
        rig=outside.rig,
        points_m=np.concatenate([kept.points_m, pasted.points_m]),
        intensity=None if kept.intensity is None or pasted.intensity is None else np.concatenate([kept.intensity, pasted.intensity]),
        labels=np.concatenate([kept.labels, pasted.labels]),
        confidence=np.concatenate([kept.confidence, pasted.confidence]),
        seen=pasted.seen + len(kept),
        features=pasted.features,
        view=pasted.view,
    )


def camera_sector(points_m: np.ndarray) -> tuple[float, float] | None:
    """Find the sector of azimuth that (V, 3) points seen by a camera span: (middle, half width) in radians; None if it is no sector."""
    azimuth = np.arctan2(points_m[:, 1], points_m[:, 0])
    middle = float(np.arctan2(np.sin(azimuth).mean(), np.cos(azimuth).mean()))
    low, high = np.percentile(_wrapped(azimuth - middle), _SECTOR_PERCENT)
    return None if high - low > _WIDEST_RAD else (middle + (low + high) / 2, (high - low) / 2)


def floor_m(points_m: np.ndarray) -> float:
    """Estimate the height of the floor under (N, 3) levelled points."""
    return float(np.percentile(points_m[:, 2], _FLOOR_PERCENT)) if len(points_m) else 0.0


def _beyond(points_m: np.ndarray, middle: float, half: float) -> np.ndarray:
    """Angle (N,) by which points lie outside a sector, negative inside."""
    return np.abs(_wrapped(np.arctan2(points_m[:, 1], points_m[:, 0]) - middle)) - half


def _wrapped(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi
