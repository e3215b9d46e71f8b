"""Chosen points keep every byte of theirs, whatever the layout."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xkd_ros.core.errors import CloudError, ShapeError
from xkd_ros.msgs.filtered_cloud import select_points

TYPES = {"sensor_msgs/msg/PointCloud2": SimpleNamespace}


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("bigendian", [False, True])
def test_chosen_points_byte_for_byte(plain_cloud: Any, padding: int, bigendian: bool) -> None:
    fields = [("x", 1, 7), ("y", 5, 8), ("z", 13, 7), ("ring", 17, 4), ("label", 19, 6)]
    rows = [[{"x": r, "y": c, "z": 1.5, "ring": 7 * r + c, "label": 10 * r + c} for c in range(4)] for r in range(3)]
    message = plain_cloud(fields, rows, 26, row_padding=padding, bigendian=bigendian).message()
    chosen = np.random.default_rng(3).random(12) < 0.5
    before = bytes(message.data)
    cloud = select_points(message, chosen, TYPES)
    expected = [before[r * message.row_step + c * 26 :][:26] for r in range(3) for c in range(4) if chosen[4 * r + c]]
    assert [cloud.data[i : i + 26] for i in range(0, len(cloud.data), 26)] == expected and 3 < len(expected) < 9
    assert (cloud.height, cloud.width, cloud.row_step, cloud.is_bigendian) == (1, len(expected), 26 * len(expected), bigendian)
    assert cloud.header is message.header and cloud.fields is message.fields and bytes(message.data) == before


def test_none_and_all_and_empty(simple_message: Any) -> None:
    message = simple_message(5)
    assert select_points(message, np.zeros(5, bool), TYPES).width == 0
    assert select_points(message, np.ones(5, bool), TYPES).data == bytes(message.data)
    assert select_points(simple_message(0), np.zeros(0, bool), TYPES).data == b""


def test_what_does_not_fit_is_named(simple_message: Any) -> None:
    with pytest.raises(ShapeError, match="cloud of 1 x 5"):
        select_points(simple_message(5), np.ones(4, bool), TYPES)
    message = simple_message(5)
    message.width = 4_000_000_000
    with pytest.raises(CloudError, match="smaller than width"):
        select_points(message, np.ones(5, bool), TYPES)


def test_the_bytes_are_handed_over_behind_the_constructor(simple_message: Any) -> None:
    """That of rclpy copies them twice."""
    made = []

    def build(**fields: Any) -> SimpleNamespace:
        made.append(len(fields["data"]))
        return SimpleNamespace(**fields)

    cloud = select_points(simple_message(5), np.ones(5, bool), {"sensor_msgs/msg/PointCloud2": build})
    assert made == [0] and cloud.data == bytes(simple_message(5).data)


def test_rosbags_messages(simple_message: Any, typestore: Any) -> None:
    cloud = select_points(simple_message(5), np.arange(5) % 2 == 0, typestore.types)
    cloud.fields = []
    again = typestore.deserialize_cdr(typestore.serialize_cdr(_with_header(cloud, typestore), cloud.__msgtype__), cloud.__msgtype__)
    assert again.width == 3 and len(again.data) == 3 * again.point_step


def _with_header(cloud: Any, typestore: Any) -> Any:
    types = typestore.types
    cloud.header = types["std_msgs/msg/Header"](stamp=types["builtin_interfaces/msg/Time"](sec=1, nanosec=2), frame_id="lidar")
    return cloud
