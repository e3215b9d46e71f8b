"""What the teachers say at the lidar points of one frame: project, keep what the camera sees, look; next: `target_store`, `distill`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from xkd_ros.bags.frame import Frame, View
from xkd_ros.core.errors import CalibrationError, ConfigError
from xkd_ros.teacher.config import TargetConfig
from xkd_ros.teacher.depth_edges import near_depth_edge
from xkd_ros.teacher.teacher import Teacher


@dataclass(frozen=True, eq=False)
class ViewTargets:
    """Targets of the points that one camera image of a frame sees.

    Attributes:
        view: Place in `Frame.views`.
        point: (V,) int32 index into `Frame.points_m`, ascending.
        uv_px: (V, 2) float32 as (column, row).
        features: (V, D) float16, or None.
        scores: (V, C) float32: rows sum to 1 (within float16), or are zero where what is ignored wins. Or None.
        interior: (V,) bool: no other class is near in the image. Or None.
        edge: (V,) bool: near a jump in depth.
    """

    view: int
    point: np.ndarray
    uv_px: np.ndarray
    features: np.ndarray | None
    scores: np.ndarray | None
    interior: np.ndarray | None
    edge: np.ndarray

    def __len__(self) -> int:
        return len(self.point)


class Frames(Protocol):
    """What targets need of a `FrameStore`."""

    @property
    def hash(self) -> str:
        """Identify the frames and their calibration."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Frame: ...


@dataclass(frozen=True, eq=False)
class SeenPoints:
    """Points that a view sees: point (V,) int32, uv_px (V, 2) float32, edge (V,) bool."""

    point: np.ndarray
    uv_px: np.ndarray
    edge: np.ndarray


class TeacherPair:
    """The teacher that gives features and the one that gives scores; one network may be both."""

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        """Choose: the first of the list that offers features gives them, the last that offers scores gives those.

        Raises:
            ConfigError: there is none, or one would be of no use.
        """
        self.features = next((teacher for teacher in teachers if teacher.feature_width), None)
        self.scores = next((teacher for teacher in reversed(teachers) if teacher.label_set is not None), None)
        idle = [teacher.name for teacher in teachers if teacher is not self.features and teacher is not self.scores]
        if not teachers or idle:
            raise ConfigError(
                f"{', '.join(idle) or 'no teacher'} gives nothing that is wanted: take one teacher for features and one for classes at most"
            )
        self.distinct = [teacher for teacher in teachers if teacher in (self.features, self.scores)]

    @property
    def feature_width(self) -> int:
        """D, 0 without features."""
        return self.features.feature_width if self.features else 0

    @property
    def classes(self) -> int:
        """C, 0 without scores."""
        return len(self.scores.label_set) if self.scores and self.scores.label_set else 0

    def look(self, view: int, rgb: np.ndarray, seen: SeenPoints) -> ViewTargets:
        """Ask both teachers about an image.

        Args:
            view: Place in the frame.
            rgb: (H, W, 3) uint8.
            seen: The points to ask about.
        """
        glances = {id(teacher): teacher.look(rgb, seen.uv_px) for teacher in self.distinct}
        features = glances[id(self.features)].features if self.features else None
        labelled = glances[id(self.scores)] if self.scores else None
        scores = None if labelled is None or labelled.scores is None else labelled.scores
        return ViewTargets(
            view=view,
            point=seen.point,
            uv_px=seen.uv_px,
            features=features,
            # As precise as the store keeps them, so that stored and live targets are equal.
            scores=None if scores is None else scores.astype(np.float16).astype(np.float32),
            interior=None if labelled is None else labelled.interior,
            edge=seen.edge,
        )


def seen_points(frame: Frame, number: int, config: TargetConfig) -> SeenPoints | None:
    """Project a frame's points into one of its views and keep those that the camera really sees.

    Args:
        frame: The frame.
        number: Which view.
        config: Limits.
    Returns:
        The points, or None where the image is too far from the scan in time.
    """
    view: View = frame.views[number]
    if config.max_dt_ms is not None and abs(view.dt_ns) > config.max_dt_ms * 1e6:
        return None
    uv, visible = view.see(frame.points_m, config.min_depth_m)
    inside = np.flatnonzero((uv > -1).all(1) & (uv[:, 0] < view.camera.width) & (uv[:, 1] < view.camera.height))
    edge = np.zeros(len(uv), bool)
    edge[inside] = near_depth_edge(frame.points_m[inside], uv[inside], visible[inside], config.edge_px, config.edge_m)
    point = np.flatnonzero(visible)
    edge = edge[point]
    if config.max_points_per_view is not None and len(point) > config.max_points_per_view:
        rng = np.random.default_rng((config.seed, frame.number, number))
        chosen = np.sort(rng.choice(len(point), config.max_points_per_view, replace=False))
        point, edge = point[chosen], edge[chosen]
    return SeenPoints(point.astype(np.int32), uv[point], edge)


def frame_targets(frame: Frame, teachers: TeacherPair, config: TargetConfig) -> list[ViewTargets]:
    """Make the targets of every view of a frame that sees a point; images that see none are not decoded.

    Raises:
        CalibrationError: an image has another size than its camera.
    """
    targets = []
    for number, view in enumerate(frame.views):
        seen = seen_points(frame, number, config)
        if seen is not None and len(seen.point):
            rgb = view.rgb()
            if rgb.shape[:2] != (view.camera.height, view.camera.width):
                raise CalibrationError(
                    f"frame {frame.number}: the image of {view.camera_name} has {rgb.shape[1]}x{rgb.shape[0]} pixels, its calibration "
                    f"{view.camera.width}x{view.camera.height}: scale the calibration to the recorded images"
                )
            targets.append(teachers.look(number, rgb, seen))
    return targets
