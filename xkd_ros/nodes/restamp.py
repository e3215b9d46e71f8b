"""Read and change headers inside serialized messages, without knowing their types at writing time."""

from __future__ import annotations

import struct
from typing import Any

from rclpy.serialization import deserialize_message, serialize_message

_NS = 1_000_000_000
# A CDR message begins with four bytes whose second tells the byte order.
_HEADER_BYTES = 4
_STAMP_BYTES = 8
_LENGTH_BYTES = 4


def header_stamp_ns(message_type: Any, raw: bytes) -> int | None:
    """Read the header stamp of a serialized message; None where it does not begin with a header."""
    if not _begins_with_header(message_type) or len(raw) < _HEADER_BYTES + _STAMP_BYTES:
        return None
    seconds, nanoseconds = struct.unpack_from(_order(raw) + "iI", raw, _HEADER_BYTES)
    return int(seconds) * _NS + int(nanoseconds)


def header_frame_id(message_type: Any, raw: bytes) -> str:
    """Read the frame of a serialized message, without a leading slash; empty where it does not begin with a header."""
    at = _HEADER_BYTES + _STAMP_BYTES
    if not _begins_with_header(message_type) or len(raw) < at + _LENGTH_BYTES:
        return ""
    (length,) = struct.unpack_from(_order(raw) + "I", raw, at)
    text = bytes(raw[at + _LENGTH_BYTES : at + _LENGTH_BYTES + length])
    return text.rstrip(b"\0").decode(errors="replace").lstrip("/")


def shift_stamp(message_type: Any, raw: bytes, map_ns: Any) -> bytes:
    """Return the message with its stamp replaced.

    Args:
        message_type: rclpy message class.
        raw: CDR bytes.
        map_ns: Old stamp to new stamp, both int nanoseconds.
    Returns:
        New bytes; the same where there is no stamp.
    """
    stamp = header_stamp_ns(message_type, raw)
    if stamp is not None:
        changed = bytearray(raw)
        struct.pack_into(_order(raw) + "iI", changed, _HEADER_BYTES, *divmod(map_ns(stamp), _NS))
        return bytes(changed)
    if message_type.__name__ == "TFMessage":
        message = deserialize_message(raw, message_type)
        for transform in message.transforms:
            old = transform.header.stamp
            old.sec, old.nanosec = divmod(map_ns(old.sec * _NS + old.nanosec), _NS)
        return serialize_message(message)
    return raw


def _begins_with_header(message_type: Any) -> bool:
    return next(iter(message_type.get_fields_and_field_types().values()), "") == "std_msgs/Header"


def _order(raw: bytes) -> str:
    return "<" if raw[1] & 1 else ">"
