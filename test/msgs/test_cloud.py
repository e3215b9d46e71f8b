from __future__ import annotations

import array
import math
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xkd_ros.core.errors import CloudError
from xkd_ros.core.types import Scan
from xkd_ros.msgs.build import make_cloud
from xkd_ros.msgs.cloud import decode_cloud, field_names

SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 8: 8}
RANGES = {1: (-128, 127), 2: (0, 255), 3: (-(2**15), 2**15 - 1), 4: (0, 2**16 - 1), 5: (-(2**31), 2**31 - 1), 6: (0, 2**32 - 1)}
CONTAINERS = [bytes, lambda data: array.array("B", data), lambda data: np.frombuffer(bytes(data), np.uint8), list]


def to_float32(value: float) -> float:
    """Round as a plain C cast does."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def numbers(datatype: int) -> st.SearchStrategy[Any]:
    if datatype == 7:
        return st.floats(width=32)
    if datatype == 8:
        return st.floats()
    return st.integers(*RANGES[datatype])


@st.composite
def layouts(draw: Any) -> dict[str, Any]:
    """Any order, gaps, padding, byte order and types that ROS.md promises to read."""
    wanted = [(name, draw(st.sampled_from([7, 8]))) for name in "xyz"]
    if (intensity := draw(st.sampled_from([None, "intensity", "reflectivity", "i"]))) is not None:
        wanted.append((intensity, draw(st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8]))))
    if draw(st.booleans()):
        wanted.append(("ring", draw(st.sampled_from([2, 4]))))
    wanted += [(f"other{i}", draw(st.sampled_from(list(SIZES)))) for i in range(draw(st.integers(0, 2)))]
    fields, end = [], 0
    for name, datatype in draw(st.permutations(wanted)):
        end += draw(st.integers(0, 5))
        fields.append((name, end, datatype))
        end += SIZES[datatype]
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    point = st.fixed_dictionaries({name: numbers(datatype) for name, _, datatype in fields})
    return {
        "fields": fields,
        "rows": draw(st.lists(st.lists(point, min_size=width, max_size=width), min_size=height, max_size=height)),
        "point_step": end + draw(st.integers(0, 5)),
        "row_padding": draw(st.integers(0, 7)),
        "bigendian": draw(st.booleans()),
    }


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layout=layouts(), container=st.sampled_from(CONTAINERS))
def test_every_layout_reads_as_a_plain_loop_does(plain_cloud: Any, layout: dict[str, Any], container: Any) -> None:
    cloud = plain_cloud(**layout)
    scan = decode_cloud(cloud.message(container))
    expected = np.array([[to_float32(value) for value in cloud.column(axis)] for axis in "xyz"], np.float32).T
    np.testing.assert_array_equal(scan.points_m, expected)
    names = [name for name, _, _ in layout["fields"]]
    strength = next((name for name in ("intensity", "reflectivity", "i") if name in names), None)
    if strength is None:
        assert scan.intensity is None
    else:
        np.testing.assert_array_equal(scan.intensity, np.array([to_float32(value) for value in cloud.column(strength)], np.float32))
    if "ring" in names:
        np.testing.assert_array_equal(scan.ring, cloud.column("ring"))
    for values in (scan.points_m, scan.intensity, scan.ring):
        if values is not None:
            assert values.flags.c_contiguous and values.flags.aligned and values.dtype.isnative
    assert (scan.stamp_ns, scan.frame_id) == (12_000_000_345, "lidar")


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_built_clouds_round_trip(typestore: Any, data: Any) -> None:
    rows, columns = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 5))
    count = rows * columns
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    scan = Scan(
        rng.normal(size=(count, 3)).astype(np.float32),
        rng.random(count).astype(np.float32) if data.draw(st.booleans()) else None,
        data.draw(st.integers(0, 2**31 * 10**9 - 1)),
        "lidar",
        rng.integers(0, 128, count).astype(np.uint16) if data.draw(st.booleans()) else None,
        rng.random(count).astype(np.float32) * 0.1 if data.draw(st.booleans()) else None,
    )
    extra = {"label": rng.integers(0, 12, count).astype(np.uint8)}
    message = make_cloud(scan, typestore.types, extra, height=rows)
    # Through the wire format, so that the message is one that ROS would accept.
    raw = typestore.serialize_cdr(message, "sensor_msgs/msg/PointCloud2")
    message = typestore.deserialize_cdr(raw, "sensor_msgs/msg/PointCloud2")
    back = decode_cloud(message)
    assert (back.stamp_ns, back.frame_id) == (scan.stamp_ns, scan.frame_id)
    assert (message.height, message.width) == (rows, columns)
    for name in ("points_m", "intensity", "ring", "time_s"):
        if count:
            np.testing.assert_array_equal(getattr(back, name), getattr(scan, name))
    assert "label" in field_names(message)


def test_points_that_lie_packed_are_not_copied(plain_cloud: Any) -> None:
    points = [{"x": 1.0, "y": 2.0, "z": 3.0}] * 4
    message = plain_cloud([("x", 0, 7), ("y", 4, 7), ("z", 8, 7)], [points], 12).message(lambda data: np.frombuffer(bytes(data), np.uint8))
    assert np.shares_memory(decode_cloud(message).points_m, message.data)


def test_a_message_of_nothing_is_an_empty_scan() -> None:
    message = SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=2), frame_id="/old_style"),
        height=0, width=0, fields=[], is_bigendian=False, point_step=0, row_step=0, data=b"", is_dense=True,
    )  # fmt: skip
    scan = decode_cloud(message)
    assert scan.points_m.shape == (0, 3) and scan.intensity is None and scan.frame_id == "old_style"


def test_one_row_may_leave_row_step_zero(simple_message: Any) -> None:
    message = simple_message()
    message.row_step = 0
    assert len(decode_cloud(message)) == 5


BROKEN = {
    "cut off": lambda m: setattr(m, "data", m.data[:-1]),
    "no data": lambda m: setattr(m, "data", b""),
    "huge": lambda m: (setattr(m, "height", 2**32 - 1), setattr(m, "width", 2**32 - 1), setattr(m, "row_step", 2**63)),
    "row_step": lambda m: setattr(m, "row_step", 17),
    "point_step": lambda m: (setattr(m, "point_step", 0), setattr(m, "row_step", 0)),
    "point_step small": lambda m: (setattr(m, "point_step", 11), setattr(m, "row_step", 55)),
    "negative": lambda m: setattr(m, "width", -1),
    "no x": lambda m: setattr(m.fields[0], "name", "a"),
    "integer x": lambda m: setattr(m.fields[0], "datatype", 5),
    "unknown datatype": lambda m: setattr(m.fields[1], "datatype", 9),
    "z beyond": lambda m: setattr(m.fields[2], "offset", 16),
    "two x": lambda m: setattr(m.fields[1], "name", "x"),
    "intensity beyond": lambda m: setattr(m.fields[3], "offset", 4_000_000_000),
    "no attribute": lambda m: delattr(m, "point_step"),
}
REASONS = {
    "cut off": "needs 90 bytes, data holds 89",
    "no data": "data holds 0",
    "huge": "needs",
    "row_step": "row_step 17 is smaller",
    "point_step": "point_step 0",
    "point_step small": "'z' (FLOAT32) ends at byte 12",
    "negative": "negative",
    "no x": "no field 'x' (fields: a, y, z, intensity, ring)",
    "integer x": "'x' is INT32",
    "unknown datatype": "unknown datatype 9",
    "z beyond": "ends at byte 20 of a point of 18",
    "two x": "2 fields named 'x'",
    "intensity beyond": "'intensity' (FLOAT32) ends at byte 4000000004",
    "no attribute": "is not a PointCloud2",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_each_kind_of_damage_is_named_in_one_line(simple_message: Any, kind: str) -> None:
    message = simple_message()
    BROKEN[kind](message)
    with pytest.raises(CloudError) as caught:
        decode_cloud(message)
    assert REASONS[kind] in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_damage_gives_a_scan_or_a_cloud_error(simple_message: Any, data: Any) -> None:
    message = simple_message()
    number = st.one_of(st.integers(0, 100), st.sampled_from([2**31, 2**32 - 1]))
    for _ in range(data.draw(st.integers(1, 3))):
        places = [(message, name) for name in ("height", "width", "point_step", "row_step")]
        places += [(field, name) for field in message.fields for name in ("offset", "datatype", "count")]
        target, name = data.draw(st.sampled_from(places))
        setattr(target, name, data.draw(number))
    try:
        scan = decode_cloud(message)
    except CloudError:
        return
    assert len(scan) == message.height * message.width


STAMP = 1_700_000_000_250_000_000


@pytest.mark.parametrize(
    ("name", "datatype", "raw", "seconds"),
    [
        ("time", 7, [-0.05, 0.0, 0.049], [-0.05, 0.0, 0.049]),
        ("t", 6, [0, 50_000_000, 99_999_999], [0.0, 0.05, 0.099999999]),
        ("timestamp", 8, [STAMP * 1e-9, STAMP * 1e-9 + 0.05, STAMP * 1e-9 + 0.1], [0.0, 0.05, 0.1]),
        ("timestamp", 8, [float(STAMP), STAMP + 5e7, STAMP + 1e8], [0.0, 0.05, 0.1]),
        ("offset_time", 6, [0, 1_000_000, 2_000_000], [0.0, 0.001, 0.002]),
        ("time", 7, [0.0, 50_000.0, 99_000.0], None),
        ("time", 7, [math.nan] * 3, None),
    ],
)
def test_times_of_points_in_the_units_of_the_drivers(plain_cloud: Any, name: str, datatype: int, raw: list, seconds: list | None) -> None:
    points = [{"x": 1.0, "y": 2.0, "z": 3.0, name: value} for value in raw]
    fields = [("x", 0, 7), ("y", 4, 7), ("z", 8, 7), (name, 12, datatype)]
    scan = decode_cloud(plain_cloud(fields, [points], 20, stamp_ns=STAMP).message())
    if seconds is None:
        assert scan.time_s is None
    else:
        # Doubles of absolute seconds resolve a quarter of a microsecond.
        np.testing.assert_allclose(scan.time_s, seconds, atol=3e-7)


def test_rclpy_messages_read_like_rosbags_messages(real_data: Any) -> None:
    messages = pytest.importorskip("sensor_msgs.msg", reason="ROS 2 message packages are not installed")
    from xkd_ros.bags.reader import Bag

    with Bag(real_data / "vlp16_workshop_fisheye") as bag:
        recorded = bag.first("/velodyne/front/points")
    ours = messages.PointCloud2(height=recorded.height, width=recorded.width, point_step=recorded.point_step, row_step=recorded.row_step)
    ours.fields = [messages.PointField(name=f.name, offset=f.offset, datatype=f.datatype, count=f.count) for f in recorded.fields]
    ours.data = recorded.data.tobytes()
    ours.header.frame_id = recorded.header.frame_id
    ours.header.stamp.sec = recorded.header.stamp.sec
    one, other = decode_cloud(recorded), decode_cloud(ours)
    np.testing.assert_array_equal(one.points_m, other.points_m)
    np.testing.assert_array_equal(one.intensity, other.intensity)
    np.testing.assert_array_equal(one.ring, other.ring)
    assert (one.stamp_ns, one.frame_id) == (other.stamp_ns, other.frame_id)


def test_the_real_clouds_read_as_sensor_msgs_py_reads_them(real_data: Any) -> None:
    yardstick = pytest.importorskip("sensor_msgs_py.point_cloud2", reason="sensor_msgs_py comes with a ROS 2 installation")
    messages = pytest.importorskip("sensor_msgs.msg")
    from xkd_ros.bags.reader import Bag

    for name in ("ouster_classroom", "vlp16_office", "vlp16_workshop_fisheye"):
        with Bag(real_data / name) as bag:
            recorded = bag.first(bag.find_points_topic())
        cloud = messages.PointCloud2(
            height=recorded.height, width=recorded.width, point_step=recorded.point_step, row_step=recorded.row_step
        )
        cloud.fields = [messages.PointField(name=f.name, offset=f.offset, datatype=f.datatype, count=f.count) for f in recorded.fields]
        cloud.data = recorded.data.tobytes()
        scan = decode_cloud(cloud)
        columns = yardstick.read_points(cloud)
        np.testing.assert_array_equal(scan.points_m, np.stack([columns[axis] for axis in "xyz"], axis=-1).reshape(-1, 3))
        if scan.intensity is not None:
            np.testing.assert_array_equal(scan.intensity, columns["intensity"].reshape(-1))


def test_the_unaligned_real_cloud_reads_as_struct_reads_it(real_data: Any) -> None:
    from xkd_ros.bags.reader import Bag

    with Bag(real_data / "vlp16_workshop_fisheye") as bag:
        message = bag.first("/velodyne/front/points")
    scan = decode_cloud(message)
    rows = np.array(list(struct.iter_unpack("<ffffH", message.data.tobytes())))
    np.testing.assert_array_equal(scan.points_m, rows[:, :3].astype(np.float32))
    np.testing.assert_array_equal(scan.intensity, rows[:, 3].astype(np.float32))
    np.testing.assert_array_equal(scan.ring, rows[:, 4])
