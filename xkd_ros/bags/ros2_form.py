"""Records as ROS 2 sees them: bytes in CDR, ready to be published as they are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from xkd_ros.bags.reader import Record
from xkd_ros.core.errors import BagError

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore


def ros2_type(record_type: str) -> str:
    """Name the ROS 2 type of a recorded one; a few standard types of ROS 1 moved to other packages."""
    from rosbags.convert.converter import STATIC_MSGTYPE_RENAMES

    return str(STATIC_MSGTYPE_RENAMES.get(record_type, record_type))


def ros2_bytes(record: Record) -> bytes:
    """Serialise a record for ROS 2; bytes that already are pass through.

    Raises:
        BagError: a ROS 1 message that has no ROS 2 form.
    """
    if not record.bag.is_ros1:
        return bytes(record.raw)
    from rosbags.convert.converter import migrate_message

    kind, store = ros2_type(record.type), _jazzy()
    if kind not in store.fielddefs:
        raise BagError(f"topic {record.topic} is {record.type}, a ROS 1 type without definition in ROS 2; leave it out")
    message = migrate_message(record.bag.typestore, store, record.type, kind, {}, record.message())
    return bytes(store.serialize_cdr(message, kind))


def ros2_types() -> Mapping[str, Any]:
    """Map ROS 2 type names to message classes that `BagWriter.write` takes; also types that ROS lacks on this machine."""
    return _jazzy().types


@cache
def _jazzy() -> Typestore:
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)
