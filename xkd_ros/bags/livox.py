"""Recorded Livox CustomMsg as the PointCloud2 it stands for, so that whatever reads clouds reads it too."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from xkd_ros.bags.ros2_form import livox_definitions, ros2_types
from xkd_ros.core.errors import CloudError
from xkd_ros.msgs.build import make_cloud
from xkd_ros.msgs.livox import decode_livox

if TYPE_CHECKING:
    from xkd_ros.bags.reader import Record

_cloud_types = cache(ros2_types)


def livox_cloud(record: Record) -> Any:
    """Build a PointCloud2 with x, y, z, intensity (reflectivity), ring (line), time (seconds after the stamp) and tag.

    Raises:
        CloudError: the bytes are damaged, or the recording defines the type in another way than the driver does.
    """
    known, own = livox_definitions(), record.bag.typestore.fielddefs
    for name in (record.type, record.type.replace("CustomMsg", "CustomPoint")):
        if name in own and own[name][1] != known[name][1]:
            fields = ", ".join(field for field, _ in own[name][1])
            raise CloudError(f"{name} has other fields in this recording ({fields}) than Livox gives it; record PointCloud2 instead")
    scan, tag = decode_livox(record.raw, record.bag.is_ros1)
    return make_cloud(scan, _cloud_types(), {"tag": tag})
