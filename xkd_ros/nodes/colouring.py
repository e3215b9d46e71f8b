"""A scan coloured by the images that see it, to check a calibration by eye."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from xkd_ros.core import se3
from xkd_ros.core.camera import Camera
from xkd_ros.core.types import CameraImage, Scan
from xkd_ros.msgs.build import make_cloud
from xkd_ros.pairing.visibility import visible_points

_UNSEEN = 0x404040
_TYPES = {
    "sensor_msgs/msg/PointCloud2": PointCloud2,
    "sensor_msgs/msg/PointField": PointField,
    "std_msgs/msg/Header": Header,
    "builtin_interfaces/msg/Time": Time,
}


def colour_scan(scan: Scan, views: Sequence[tuple[CameraImage, Camera, np.ndarray]]) -> np.ndarray:
    """Give each point the colour of its pixel in the first image that sees it.

    Args:
        scan: N points, lidar frame.
        views: Image, its camera, and cam_from_lidar (4, 4) of each camera.
    Returns:
        (N,) uint32 as 0x00RRGGBB; dark grey where no image sees the point.
    """
    colours = np.full(len(scan), _UNSEEN, np.uint32)
    unseen = np.ones(len(scan), bool)
    for image, camera, cam_from_lidar in views:
        points_cam = se3.apply(cam_from_lidar, scan.points_m)
        uv_px, inside = camera.project(points_cam)
        depth_m = np.linalg.norm(points_cam, axis=1)
        seen = visible_points(uv_px, depth_m, inside & unseen & (depth_m > 0), camera.width, camera.height)
        column, row = np.rint(uv_px[seen]).astype(np.int64).T
        red, green, blue = image.rgb[row.clip(0, camera.height - 1), column.clip(0, camera.width - 1)].astype(np.uint32).T
        colours[seen] = red << 16 | green << 8 | blue
        unseen &= ~seen
    return colours


def make_coloured_cloud(scan: Scan, colours: np.ndarray) -> Any:
    """Build a PointCloud2 of the scan with a field `rgb` from (N,) uint32 colours."""
    return make_cloud(scan, _TYPES, {"rgb": colours.view(np.float32)})
