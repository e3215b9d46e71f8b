"""Why a recording cannot give frames, each reason in one line: clocks, pairs, calibration, room on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xkd_ros.bags.frame_plan import FramePlan
from xkd_ros.core.errors import BagError, CalibrationError
from xkd_ros.core.rig import CameraConfig, LidarConfig
from xkd_ros.core.se3 import apply, invert
from xkd_ros.core.types import Scan
from xkd_ros.points.levelling import estimate_levelling

# Less than this share of the points in the picture is "almost none"; the inverse must then show much more to be believed.
_ALMOST_NONE, _MANY = 0.002, 0.02
# Cosine beyond which a picture is upright, and by how much the given extrinsic must be worse than its inverse to be doubted.
# The inverse of an upright camera's extrinsic always looks to the lidar's right, and is the less upright the less the camera does.
_UPRIGHT, _WORSE = 0.8, 0.1
_SPARE = 1.05
_MIN_DEPTH_M = 0.3


def check_pairs(plan: FramePlan, where: str, points_topic: str, image_topics: Sequence[str], cameras_needed: bool) -> None:
    """Refuse a recording that gives no frame.

    Args:
        plan: What was found.
        where: Name of the recording.
        points_topic, image_topics: Its lidar and its calibrated cameras.
        cameras_needed: Scans without a picture do not count.
    Raises:
        BagError: says which stream is missing, or by how much they are apart.
    """
    if not plan.scans:
        raise BagError(f"{where} has no scan on {points_topic}; record the lidar")
    if plan.frames or not cameras_needed:
        return
    first, last = plan.spans[points_topic]
    for topic in image_topics:
        if topic not in plan.spans:
            raise BagError(f"{where} has no image on {topic}; record the camera")
        image_first, image_last = plan.spans[topic]
        late, early = image_first - last, first - image_last
        if max(late, early) > 0:
            order = "begin {} after the last scan" if late > 0 else "end {} before the first scan"
            raise BagError(
                f"{where}: scans and images do not overlap in time: the stamps of {topic} {order.format(_duration(max(late, early)))}; "
                "record them together, with one clock (PTP, or `use_sim_time` off on both)"
            )
    raise BagError(f"{where}: nothing pairs: {plan.statistics.explain()}")


def check_view(
    scans: Sequence[np.ndarray], up: Sequence[np.ndarray], camera: CameraConfig, min_depth_m: float, where: str
) -> CalibrationError | None:
    """Look for what is wrong with an extrinsic.

    Args:
        scans: (N, 3) points of some scans, lidar frame.
        up: (3,) unit vectors, which way is up in the lidar frame, one per scan.
        camera: Its calibration.
        min_depth_m: Nearest point that counts.
        where: Name of the recording.
    Returns:
        The error to raise, or None where points are in view and the picture stands upright.
    """
    model, cam_from_lidar = camera.camera(), camera.transform()
    points = np.concatenate(scans)
    if not len(points):
        return None
    in_view, behind = _in_view(points, cam_from_lidar, camera, min_depth_m)
    inverse = invert(cam_from_lidar)
    inverse_in_view, _ = _in_view(points, inverse, camera, min_depth_m)
    name = f"camera {camera.name} of {where}"
    advice = "the extrinsic looks inverted: give cam_from_lidar, not lidar_from_cam"
    if in_view < _ALMOST_NONE and inverse_in_view > _MANY:
        return CalibrationError(f"{name} sees {in_view:.1%} of the points, with the inverse extrinsic {inverse_in_view:.0%}: {advice}")
    upright, inverse_upright = (_uprightness(up, transform) for transform in (cam_from_lidar, inverse))
    if inverse_upright > _UPRIGHT and upright < inverse_upright - _WORSE and inverse_in_view > _MANY:
        lean = np.degrees(np.arccos(np.clip(upright, -1, 1)))
        return CalibrationError(
            f"{name} leans by {lean:.0f} degrees, with the inverse extrinsic it is upright: {advice} "
            "(check_view: false accepts a camera that leans)"
        )
    if in_view:
        return None
    if behind == 1.0:
        return CalibrationError(f"{name}: all points are behind it; its frame must be optical (z forward, x right, y down)")
    return CalibrationError(
        f"{name}: no point of {len(scans)} scans falls into its {model.width}x{model.height} picture: check extrinsic, K and image size"
    )


def check_calibration(scans: Sequence[Scan], lidar: LidarConfig, camera: CameraConfig, where: str) -> CalibrationError | None:
    """Look for what is wrong with an extrinsic, from scans as they were decoded; see `check_view`."""
    mounting = lidar.rotation()
    mounting = np.eye(3) if mounting is None else mounting
    measured = [scan.points_m[np.isfinite(scan.points_m).all(axis=1) & scan.points_m.any(axis=1)] for scan in scans]
    measured = [points for points in measured if len(points)]
    if not measured:
        return None
    up = [(estimate_levelling(points @ mounting.T.astype(np.float32)).rotation @ mounting)[2] for points in measured]
    return check_view(measured, up, camera, _MIN_DEPTH_M, where)


def _in_view(points_m: np.ndarray, cam_from_lidar: np.ndarray, camera: CameraConfig, min_depth_m: float) -> tuple[float, float]:
    """Return the shares of points in the picture and behind the camera."""
    points_cam = apply(cam_from_lidar, points_m)
    _, inside = camera.camera().project(points_cam)
    return float((inside & (np.linalg.norm(points_cam, axis=1) >= min_depth_m)).mean()), float((points_cam[:, 2] <= 0).mean())


def _uprightness(up: Sequence[np.ndarray], cam_from_lidar: np.ndarray) -> float:
    """Cosine between up in the world and up in the picture; 0 for a camera that looks up or down, which stands no way."""
    return float(np.mean([-(cam_from_lidar[:3, :3] @ direction)[1] for direction in up]))


def check_room(out: Path, needed_bytes: int) -> int:
    """Return the free bytes of the disk that `out` will lie on.

    Raises:
        BagError: not enough.
    """
    folder = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < _SPARE * needed_bytes:
        raise BagError(
            f"{out} needs about {needed_bytes / 1e6:.0f} MB, {free / 1e6:.0f} MB are free on its disk; choose another disk, or take fewer "
            "scans (every)"
        )
    return free


def _duration(nanoseconds: int) -> str:
    seconds = nanoseconds * 1e-9
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.0f} days"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
