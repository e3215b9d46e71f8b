"""PointCloud2 to `Scan`: any field layout, both byte orders, rclpy and rosbags objects alike.

A message comes in, float32 metres in the lidar frame go out; next: `points`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xkd_ros.core.errors import CloudError
from xkd_ros.core.types import Scan
from xkd_ros.msgs.header import frame_id, stamp_ns
from xkd_ros.msgs.layout import CloudField, CloudLayout, field_names

__all__ = ["INTENSITY_FIELDS", "decode_cloud", "decode_layout", "field_names", "points_of"]

INTENSITY_FIELDS = ("intensity", "reflectivity", "i")
"""Names under which drivers publish the strength of the return, best first."""
RING_FIELDS = ("ring", "channel", "line")
TIME_FIELDS = ("time", "t", "timestamp", "time_stamp", "offset_time", "time_offset")

# A revolution takes a tenth of a second; anything beyond this is another unit or another clock.
_LONGEST_SCAN_S = 10.0
_FLOATS = ("FLOAT32", "FLOAT64")


def decode_cloud(message: Any) -> Scan:
    """Read all points of a PointCloud2, in order; non-returns stay NaN or zero.

    Arrays are C-contiguous, aligned and in native byte order, so that compiled code sees one kind of array. Points that
    already lie so in the message are not copied: keep the message unchanged while the scan is in use.

    Args:
        message: sensor_msgs/PointCloud2 of rclpy or rosbags (ROS 1 and 2).
    Returns:
        A scan of height x width points, row by row.
    Raises:
        CloudError: what is wrong with which field or size.
    """
    layout = CloudLayout.read(message)
    return decode_layout(layout, stamp_ns(message), frame_id(message))


def decode_layout(layout: CloudLayout, stamp: int = 0, frame: str = "") -> Scan:
    """Read a cloud whose layout was already checked; arguments and result as for `decode_cloud`."""
    points = points_of(layout)
    if layout.count == 0:
        return Scan(points, stamp_ns=stamp, frame_id=frame)
    intensity = _first(layout, INTENSITY_FIELDS)
    ring = _first(layout, RING_FIELDS)
    moment = _first(layout, TIME_FIELDS)
    return Scan(
        points_m=points,
        intensity=None if intensity is None else _flat(layout, intensity, np.float32),
        stamp_ns=stamp,
        frame_id=frame,
        ring=None if ring is None else _flat(layout, ring, np.uint16),
        time_s=None if moment is None else _time_offsets(layout, moment, stamp),
    )


def points_of(layout: CloudLayout) -> np.ndarray:
    """Read x, y and z as (N, 3) float32 metres.

    Raises:
        CloudError: a coordinate is missing or not floating point.
    """
    if layout.count == 0:
        return np.zeros((0, 3), np.float32)
    x, y, z = (_coordinate(layout, name) for name in "xyz")
    size = x.dtype(False).itemsize
    with np.errstate(over="ignore", invalid="ignore"):
        if x.datatype == y.datatype == z.datatype and y.offset - x.offset == z.offset - y.offset == size:
            shape, strides = (layout.height, layout.width, 3), (layout.row_step, layout.point_step, size)
            view = np.ndarray(shape, x.dtype(layout.bigendian), layout.data, x.offset, strides)
            return np.require(view, np.float32, ["C", "A"]).reshape(-1, 3)
        points = np.empty((layout.height, layout.width, 3), np.float32)
        for column, field in enumerate((x, y, z)):
            points[..., column] = layout.values(field)
    return points.reshape(-1, 3)


def _coordinate(layout: CloudLayout, name: str) -> CloudField:
    field = layout.find(name)
    if field is None:
        names = ", ".join(found.name for found in layout.fields) or "none"
        raise CloudError(f"cloud has no field '{name}' (fields: {names}); a PointCloud2 with x, y, z is needed")
    if field.type_name not in _FLOATS:
        raise CloudError(f"field '{name}' is {field.type_name}; coordinates must be FLOAT32 or FLOAT64 in metres")
    return field


def _first(layout: CloudLayout, names: tuple[str, ...]) -> CloudField | None:
    for name in names:
        if (field := layout.find(name)) is not None:
            return field
    return None


def _flat(layout: CloudLayout, field: CloudField, dtype: type) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return layout.values(field).astype(dtype, order="C").reshape(-1)


def _time_offsets(layout: CloudLayout, field: CloudField, stamp: int) -> np.ndarray | None:
    """Read per-point times as seconds after the stamp.

    Integers are nanoseconds; floats are seconds, or nanoseconds where only that gives a calendar time. Absolute times are
    recognised by their size. None where the result is no time within one revolution.

    Source: fields of the Velodyne (`time`), Ouster (`t`), Hesai and RoboSense (`timestamp`, seconds), Livox (`timestamp`,
    nanoseconds) and Nebula (`time_stamp`) ROS drivers.
    """
    raw = _flat(layout, field, np.float64)
    finite = np.isfinite(raw)
    largest = float(np.abs(raw, where=finite, out=np.zeros_like(raw)).max())
    if field.type_name in _FLOATS and largest < 1e15:
        seconds = raw - stamp * 1e-9 if largest > 1e8 else raw
    else:
        seconds = (raw - stamp if largest > 1e15 else raw) * 1e-9
    if not finite.any() or float(np.abs(seconds[finite]).max()) > _LONGEST_SCAN_S:
        return None
    return seconds.astype(np.float32)
