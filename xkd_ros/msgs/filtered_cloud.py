"""Some points of a cloud as a cloud of their own: same fields, same bytes, one row.

A PointCloud2 and a choice come in, a smaller PointCloud2 goes out; next: `nodes`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xkd_ros.core.errors import ShapeError
from xkd_ros.msgs.header import Types
from xkd_ros.msgs.layout import CloudLayout


def select_points(cloud: Any, chosen: np.ndarray, types: Types) -> Any:
    """Build the cloud of the chosen points, in their order.

    Args:
        cloud: PointCloud2 of rclpy or rosbags; it is not changed.
        chosen: (N,) bool, one per point, row by row.
        types: Class of PointCloud2 by ROS type name (see `header.Types`).
    Raises:
        CloudError: the cloud contradicts itself.
        ShapeError: not one choice per point.
    """
    layout = CloudLayout.read(cloud)
    if chosen.shape != (layout.count,):
        raise ShapeError(f"choice of shape {chosen.shape} for a cloud of {layout.height} x {layout.width} points")
    if layout.count:
        # As one opaque item per point: byte by byte is five times slower.
        points = layout.view(np.dtype((np.void, layout.point_step))).reshape(-1)[chosen]
    else:
        points = np.zeros(0, np.uint8)
    message = types["sensor_msgs/msg/PointCloud2"]
    width = len(points)
    data = points.view(np.uint8).reshape(-1) if hasattr(message, "__msgtype__") else points.tobytes()
    selected = message(
        header=cloud.header,
        height=1,
        width=width,
        fields=cloud.fields,
        is_bigendian=cloud.is_bigendian,
        point_step=cloud.point_step,
        row_step=width * int(cloud.point_step),
        data=data[:0],
        is_dense=cloud.is_dense,
    )
    selected.data = data  # the constructor of rclpy copies twice, its setter once
    return selected
