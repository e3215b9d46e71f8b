"""A number beside the overlay picture: how far a camera is turned from where its depth edges say it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xkd_ros.core.camera import Camera
from xkd_ros.core.errors import require
from xkd_ros.core.se3 import apply, make_transform, rotation_from_rpy
from xkd_ros.core.types import CameraImage, Scan

YAWS_DEG = np.arange(-3.0, 3.01, 0.25)
# Neighbours on a beam this much apart in distance belong to different things.
_EDGE_M = 0.5
_NEIGHBOUR_DEG = 0.8
# Beams of a cloud without rings are told apart by their elevation.
_BEAM_DEG = 0.7
_FEWEST_EDGES = 200
# The best yaw must beat the typical one by this factor, or the pictures do not tell.
_CONTRAST = 1.15


def depth_edges(scan: Scan) -> np.ndarray:
    """Return (M, 3) float64 points that stand in front of their neighbour on the same beam."""
    returns = np.isfinite(scan.points_m).all(axis=1) & scan.points_m.any(axis=1)
    points = scan.points_m[returns].astype(np.float64)
    distance = np.linalg.norm(points, axis=1)
    azimuth = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
    if scan.ring is not None:
        beam = scan.ring[returns].astype(np.int64)
    else:
        beam = np.rint(np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1]))) / _BEAM_DEG).astype(np.int64)
    order = np.lexsort((azimuth, beam))
    neighbours = (np.diff(beam[order]) == 0) & (np.diff(azimuth[order]) < _NEIGHBOUR_DEG)
    jump = np.diff(distance[order])
    front = np.concatenate([order[:-1][neighbours & (jump > _EDGE_M)], order[1:][neighbours & (jump < -_EDGE_M)]])
    return points[front]


def image_edges(image: CameraImage) -> np.ndarray:
    """Return (H, W) float32 strength of upright edges, the strongest twentieth cut to one level."""
    cv2 = require("cv2", "finding edges", "pip install opencv-python-headless")
    grey = cv2.cvtColor(image.rgb, cv2.COLOR_RGB2GRAY)
    blurred = cv2.GaussianBlur(grey, (0, 0), max(1.0, grey.shape[1] / 640)).astype(np.float32)
    strength = np.abs(cv2.Sobel(blurred, cv2.CV_32F, 1, 0))
    return np.minimum(strength, np.percentile(strength, 95)).astype(np.float32)


def yaw_error_deg(pairs: Sequence[tuple[Scan, CameraImage]], camera: Camera, cam_from_lidar: np.ndarray) -> float | None:
    """Find the turn about the camera's vertical axis under which depth edges fall on image edges best.

    Args:
        pairs: Scans and their images.
        camera: Intrinsics.
        cam_from_lidar: (4, 4) calibration to check.
    Returns:
        Degrees, 0 where the calibration is right, limited to the range of YAWS_DEG; None where too few edges are seen or no
        turn stands out.
    """
    curve, seen = np.zeros(len(YAWS_DEG)), 0
    for scan, image in pairs:
        strength = image_edges(image)
        points_cam = apply(cam_from_lidar, depth_edges(scan))
        for index, yaw in enumerate(np.radians(YAWS_DEG)):
            uv, inside = camera.project(apply(make_transform(rotation_from_rpy(0.0, yaw, 0.0), np.zeros(3)), points_cam))
            column, row = np.rint(uv[inside]).astype(np.int64).T
            if len(row):
                curve[index] += strength[row.clip(0, camera.height - 1), column.clip(0, camera.width - 1)].mean()
            if yaw == 0:
                seen += len(row)
    if seen < _FEWEST_EDGES or curve.max() < _CONTRAST * np.median(curve):
        return None
    return float(YAWS_DEG[int(curve.argmax())])
