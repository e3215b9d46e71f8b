"""The points that one picture of a frame shows: what makers of units look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xkd_ros.core.camera import Camera
from xkd_ros.core.errors import CalibrationError
from xkd_ros.core.se3 import apply
from xkd_ros.teacher.config import TargetConfig
from xkd_ros.teacher.targets import seen_points

if TYPE_CHECKING:
    from xkd_ros.bags.frame import Frame


@dataclass(frozen=True, eq=False)
class Sight:
    """V points that a picture shows.

    Attributes:
        view: Place of the picture in its frame.
        camera: Intrinsics.
        point: (V,) int32 into the frame's points.
        uv_px: (V, 2) float32 as (column, row).
        depth_m: (V,) float32 distance from the camera.
    """

    view: int
    camera: Camera
    point: np.ndarray
    uv_px: np.ndarray
    depth_m: np.ndarray


def look_out(frame: Frame, view: int, config: TargetConfig) -> Sight | None:
    """Find the points that a picture shows.

    Args:
        frame: With its views.
        view: Which of them.
        config: Limits, as for targets.
    Returns:
        None where there are none, or the picture is too far from the scan in time.
    """
    seen = seen_points(frame, view, config)
    if seen is None or not len(seen.point):
        return None
    picture = frame.views[view]
    depth_m = np.linalg.norm(apply(picture.cam_from_lidar, frame.points_m[seen.point]), axis=1).astype(np.float32)
    return Sight(view, picture.camera, seen.point, seen.uv_px, depth_m)


def picture_of(frame: Frame, view: int) -> np.ndarray:
    """Decode the picture: (H, W, 3) uint8.

    Raises:
        CalibrationError: it has another size than its camera.
    """
    picture = frame.views[view]
    rgb, camera = picture.rgb(), picture.camera
    if rgb.shape[:2] != (camera.height, camera.width):
        raise CalibrationError(
            f"frame {frame.number}: the image of {picture.camera_name} has {rgb.shape[1]}x{rgb.shape[0]} pixels, its calibration "
            f"{camera.width}x{camera.height}: scale the calibration to the recorded images"
        )
    return rgb
