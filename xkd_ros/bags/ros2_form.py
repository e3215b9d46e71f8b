"""Records as ROS 2 sees them: bytes in CDR, ready to be published or written as they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from xkd_ros.core.errors import BagError
from xkd_ros.msgs.livox import LIVOX, MESSAGE_DEFINITION, POINT_DEFINITION

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

    from xkd_ros.bags.reader import Record


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

    kind, store = ros2_type(record.type), record.bag.ros2_typestore
    if kind not in store.fielddefs:
        raise BagError(f"topic {record.topic} is {record.type}, a ROS 1 type without definition in ROS 2; leave it out")
    message = migrate_message(record.bag.typestore, store, record.type, kind, {}, record.bag.deserialize(record))
    return bytes(store.serialize_cdr(message, kind))


def ros2_types() -> Mapping[str, Any]:
    """Map ROS 2 type names to message classes that `BagWriter.write` takes; also types that ROS lacks on this machine."""
    return jazzy().types


def ros2_definitions(ros1: Typestore, type_names: Collection[str]) -> Typestore:
    """Define the types of a ROS 1 bag in ROS 2: standard ones as Jazzy does, others as the bag does.

    Args:
        ros1: Definitions of the bag.
        type_names: Its types. One that cannot be translated is left out.
    """
    from rosbags.typesys import TypesysError, get_types_from_msg

    store = jazzy()
    for name in map(ros2_type, type_names):
        if name in store.fielddefs:
            continue
        try:
            added = get_types_from_msg(ros1.generate_msgdef(name, ros_version=2)[0], name)
            store.register({kind: fields for kind, fields in added.items() if kind not in store.fielddefs})
        except (TypesysError, KeyError):
            continue
    return store


def jazzy() -> Typestore:
    """Return a fresh typestore of ROS 2 Jazzy and of Livox's drivers."""
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(dict(livox_definitions()))
    return store


@cache
def livox_definitions() -> Mapping[str, Any]:
    """Map the names of Livox's types to their fields, as typestores hold them."""
    from rosbags.typesys import get_types_from_msg

    found: dict[str, Any] = {}
    for name in LIVOX:
        found |= get_types_from_msg(POINT_DEFINITION, name.replace("CustomMsg", "CustomPoint"))
        found |= get_types_from_msg(MESSAGE_DEFINITION.format(package=name.split("/")[0]), name)
    return found
