"""Stamps and headers: `builtin_interfaces/Time` to integer nanoseconds and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xkd_ros.core.errors import XkdError

_NS = 1_000_000_000

Types = Mapping[str, Any]
"""ROS type name to message class, as in `rosbags` `typestore.types`; a node passes `{"std_msgs/msg/Header": Header, ...}`."""


def stamp_ns(message: Any) -> int:
    """Read the header stamp of a message (or of a bare header) in nanoseconds.

    Raises:
        XkdError: there is none; a recording may define its types in its own way.
    """
    try:
        stamp = getattr(message, "header", message).stamp
        return int(stamp.sec) * _NS + int(stamp.nanosec)
    except (AttributeError, TypeError, ValueError) as error:
        raise XkdError(f"{type(message).__name__} has no stamp as ROS defines it ({error}): damaged, or of other definitions") from error


def frame_id(message: Any) -> str:
    """Read the frame of a message; a leading slash, allowed in ROS 1, is dropped.

    Raises:
        XkdError: there is none.
    """
    try:
        return str(message.header.frame_id).lstrip("/")
    except AttributeError as error:
        raise XkdError(f"{type(message).__name__} has no frame_id as ROS defines it ({error}): damaged, or of other definitions") from error


def make_time(stamp: int, types: Types) -> Any:
    """Build a Time from nanoseconds."""
    return types["builtin_interfaces/msg/Time"](sec=stamp // _NS, nanosec=stamp % _NS)


def make_header(stamp: int, frame: str, types: Types) -> Any:
    """Build a Header from nanoseconds and a frame name."""
    return types["std_msgs/msg/Header"](stamp=make_time(stamp, types), frame_id=frame)
