"""Livox CustomMsg to `Scan`, straight from the bytes of a recording: deserialising point by point takes hundreds of times longer.

The bytes of one message come in, float32 metres in the lidar frame and Livox's tags go out; next: `build` (as a PointCloud2).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xkd_ros.core.errors import CloudError
from xkd_ros.core.types import Scan

LIVOX = ("livox_ros_driver2/msg/CustomMsg", "livox_ros_driver/msg/CustomMsg")
"""ROS type names of both generations of the driver; the definitions are the same."""
POINT_DEFINITION = "uint32 offset_time\nfloat32 x\nfloat32 y\nfloat32 z\nuint8 reflectivity\nuint8 tag\nuint8 line\n"
MESSAGE_DEFINITION = (
    "std_msgs/Header header\nuint64 timebase\nuint32 point_num\nuint8 lidar_id\nuint8[3] rsvd\n{package}/CustomPoint[] points\n"
)

_POINT = np.dtype([("offset_time", "u4"), ("xyz", "f4", 3), ("reflectivity", "u1"), ("tag", "u1"), ("line", "u1")])
_ENCAPSULATION = 4
# Fewer bytes than this behind the last point are padding of the serialiser.
_PADDING = 4


@dataclass(frozen=True)
class _Place:
    """Where the points of a message lie: `count` of them, from byte `offset`, `stride` bytes apart."""

    stamp_ns: int
    frame_id: str
    count: int
    offset: int
    stride: int
    order: Literal["<", ">"]


def decode_livox(raw: bytes | memoryview, ros1: bool = False) -> tuple[Scan, np.ndarray]:
    """Read all points of a serialised CustomMsg, in order.

    Args:
        raw: The message in CDR (either byte order), or in ROS 1 serialisation.
        ros1: Which of the two.
    Returns:
        The scan: intensity is the reflectivity 0 to 255, ring the line, time_s the offset_time after the stamp, which the driver
        takes at the timebase; and (N,) uint8 tags.
    Raises:
        CloudError: bytes that are cut off, or counts that contradict each other; nothing was allocated then.
    Source: the message definitions in the README of Livox-SDK/livox_ros_driver; OMG CDR (members aligned to their size, counted
        from behind the encapsulation); ROS 1 serialisation (no alignment).
    """
    try:
        place = _find_ros1(raw) if ros1 else _find_cdr(raw)
    except (struct.error, UnicodeDecodeError) as error:
        raise CloudError(f"Livox CustomMsg of {len(raw)} bytes is damaged before its points ({error}): cut off?") from error
    end = place.offset + max(place.count - 1, 0) * place.stride + (_POINT.itemsize if place.count else 0)
    if not 0 <= len(raw) - end < _PADDING:
        what = "is cut off" if end > len(raw) else f"has {len(raw) - end} bytes too many"
        raise CloudError(f"Livox CustomMsg of {place.count} points needs {end} bytes, holds {len(raw)}: it {what}")
    points = np.ndarray((place.count,), _POINT.newbyteorder(place.order), raw, place.offset, (place.stride,))
    scan = Scan(
        points_m=points["xyz"].astype(np.float32),
        intensity=points["reflectivity"].astype(np.float32),
        stamp_ns=place.stamp_ns,
        frame_id=place.frame_id,
        ring=points["line"].astype(np.uint16),
        time_s=(points["offset_time"] * 1e-9).astype(np.float32),
    )
    return scan, points["tag"].copy()


def _find_cdr(raw: bytes | memoryview) -> _Place:
    if len(raw) < _ENCAPSULATION or raw[0] or raw[1] > 1:
        raise CloudError(f"Livox CustomMsg of {len(raw)} bytes does not begin like CDR (00 00 or 00 01): damaged")
    order: Literal["<", ">"] = "<" if raw[1] else ">"
    seconds, nanoseconds, length = struct.unpack_from(order + "iII", raw, _ENCAPSULATION)
    start = _ENCAPSULATION + 12
    frame = _text(raw, start, length).rstrip("\0")
    at = _ENCAPSULATION + -(-(12 + length) // 8) * 8
    point_num, count = struct.unpack_from(order + "8xI4xI", raw, at)
    return _Place(seconds * 1_000_000_000 + nanoseconds, frame, _agreed(point_num, count), at + 20, 20, order)


def _find_ros1(raw: bytes | memoryview) -> _Place:
    seconds, nanoseconds, length = struct.unpack_from("<4xIII", raw)
    frame = _text(raw, 16, length)
    point_num, count = struct.unpack_from("<8xI4xI", raw, 16 + length)
    return _Place(seconds * 1_000_000_000 + nanoseconds, frame, _agreed(point_num, count), 16 + length + 20, _POINT.itemsize, "<")


def _text(raw: bytes | memoryview, start: int, length: int) -> str:
    if length > len(raw) - start:
        raise CloudError(f"Livox CustomMsg of {len(raw)} bytes has a frame_id of {length} bytes: it is cut off or damaged")
    return bytes(raw[start : start + length]).decode().lstrip("/")


def _agreed(point_num: int, count: int) -> int:
    if point_num != count:
        raise CloudError(f"Livox CustomMsg says point_num {point_num} but holds {count} points; the driver must write the same number")
    return count
