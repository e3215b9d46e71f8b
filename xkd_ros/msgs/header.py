"""Stamps and headers: `builtin_interfaces/Time` to integer nanoseconds and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NS = 1_000_000_000

Types = Mapping[str, Any]
"""ROS type name to message class, as in `rosbags` `typestore.types`; a node passes `{"std_msgs/msg/Header": Header, ...}`."""


def stamp_ns(message: Any) -> int:
    """Read the header stamp of a message (or of a bare header) in nanoseconds."""
    stamp = getattr(message, "header", message).stamp
    return int(stamp.sec) * _NS + int(stamp.nanosec)


def frame_id(message: Any) -> str:
    """Read the frame of a message; a leading slash, allowed in ROS 1, is dropped."""
    return str(message.header.frame_id).lstrip("/")


def make_time(stamp: int, types: Types) -> Any:
    """Build a Time from nanoseconds."""
    return types["builtin_interfaces/msg/Time"](sec=stamp // _NS, nanosec=stamp % _NS)


def make_header(stamp: int, frame: str, types: Types) -> Any:
    """Build a Header from nanoseconds and a frame name."""
    return types["std_msgs/msg/Header"](stamp=make_time(stamp, types), frame_id=frame)
