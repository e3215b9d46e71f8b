"""Do the cameras see the points at all? If not, say why before hours are spent."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xkd_ros.bags.frame import View
from xkd_ros.core.errors import CalibrationError
from xkd_ros.core.se3 import apply, invert
from xkd_ros.teacher.config import TargetConfig
from xkd_ros.teacher.targets import Frames, seen_points

_SAMPLED = 16
# Shares of the points, as when frames are written: a camera sees a tenth of a round scan or more.
_ALMOST_NONE, _MANY = 0.002, 0.02


def spread(count: int, wanted: int) -> Iterator[int]:
    """Choose up to `wanted` of the numbers below `count`, evenly."""
    yield from np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(int)).tolist()


def check_overlap(frames: Frames, config: TargetConfig) -> None:
    """Look at a few frames spread over the store.

    Raises:
        CalibrationError: no point falls into any image, or nearly none while the inverse extrinsic would bring many.
    """
    total = forward = backward = views = late = 0
    for number in spread(len(frames), _SAMPLED):
        frame = frames[number]
        for view in frame.views:
            views += 1
            if config.max_dt_ms is not None and abs(view.dt_ns) > config.max_dt_ms * 1e6:
                late += 1
                continue
            total += len(frame.points_m)
            forward += _in_view(frame.points_m, view, view.cam_from_lidar)
            backward += _in_view(frame.points_m, view, invert(view.cam_from_lidar))
    if not views:
        raise CalibrationError("no frame has an image: check the camera topics and whether the stamps of scans and images overlap")
    if late == views:
        raise CalibrationError(f"every image is more than {config.max_dt_ms:g} ms from its scan: check the stamps, or raise max_dt_ms")
    if forward < _ALMOST_NONE * total and backward > _MANY * total:
        raise CalibrationError(
            f"{forward} of {total} points fall into the images, and {backward} would with the inverse extrinsic: cam_from_lidar is "
            "inverted (it must map lidar points into the optical frame); invert it in the rig file"
        )
    if not forward:
        raise CalibrationError(
            f"none of {total} points falls into an image in {views} views: check the extrinsic (cam_from_lidar; optical frame x right, "
            "y down, z forward), the intrinsics, and that stamps of scans and images are of one clock"
        )


def _in_view(points_m: np.ndarray, view: View, cam_from_lidar: np.ndarray) -> int:
    return int(view.camera.project(apply(cam_from_lidar, points_m))[1].sum())


def mean_seen_points(frames: Frames, config: TargetConfig) -> tuple[float, float]:
    """Measure on a few frames how many targets there will be.

    Returns:
        Mean number of points per frame with targets, all views together, and mean number of views.
    """
    points, views, looked = 0, 0, 0
    for number in spread(len(frames), _SAMPLED):
        frame = frames[number]
        seen = [seen_points(frame, place, config) for place in range(len(frame.views))]
        points += sum(len(one.point) for one in seen if one is not None)
        views += sum(one is not None and len(one.point) > 0 for one in seen)
        looked += 1
    return points / max(looked, 1), views / max(looked, 1)
