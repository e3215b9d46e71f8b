"""Livox CustomMsg: bags with and without definitions, against rosbags' own slow decoding."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.frame_writer import write_frames
from xkd_ros.bags.inspection import inspect
from xkd_ros.bags.reader import Bag
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import BagError, CloudError
from xkd_ros.msgs.build import make_cloud
from xkd_ros.msgs.cloud import decode_cloud
from xkd_ros.msgs.header import stamp_ns
from xkd_ros.msgs.livox import LIVOX, decode_livox

# Written out here once more, as Livox publishes them.
POINT = "uint32 offset_time\nfloat32 x\nfloat32 y\nfloat32 z\nuint8 reflectivity\nuint8 tag\nuint8 line"
MESSAGE = "Header header\nuint64 timebase\nuint32 point_num\nuint8 lidar_id\nuint8[3] rsvd\nCustomPoint[] points"
START_NS = 1_700_000_000_123_456_789
FRAME = "livox_frame"


def livox_store(base: Stores = Stores.ROS2_JAZZY, message: str = MESSAGE) -> Any:
    store = get_typestore(base)
    for name in LIVOX:
        package = name.split("/")[0]
        store.register(get_types_from_msg(POINT, f"{package}/msg/CustomPoint"))
        store.register(get_types_from_msg(message, name))
    return store


STORE, STORE1 = livox_store(), livox_store(Stores.ROS1_NOETIC)


def as_custom(cloud: Any) -> Any:
    """Say a PointCloud2 with intensity and time in the words of Livox."""
    scan = decode_cloud(cloud)
    assert scan.intensity is not None and scan.time_s is not None
    Point = STORE.types[LIVOX[0].replace("CustomMsg", "CustomPoint")]
    points = [
        Point(round(float(time) * 1e9), *map(float, point), int(strength), 0, 0)
        for point, strength, time in zip(scan.points_m, scan.intensity, scan.time_s)
    ]
    return STORE.types[LIVOX[0]](cloud.header, scan.stamp_ns, len(scan), 0, np.zeros(3, np.uint8), points)


def custom(number: int, count: int, kind: str = LIVOX[0], store: Any = STORE, frame: str = FRAME) -> Any:
    rng = np.random.default_rng(number)
    xyz = rng.uniform(-20, 20, (count, 3)).astype(np.float32).astype(float)
    offsets = rng.integers(0, 100_000_000, count)
    small = rng.integers(0, 256, (count, 3))
    Point = store.types[kind.replace("CustomMsg", "CustomPoint")]
    points = [Point(int(t), *map(float, p), *map(int, s)) for t, p, s in zip(offsets, xyz, small)]
    stamp = START_NS + number * 100_000_000
    time = store.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    extra = {"seq": 7} if store is STORE1 else {}
    header = store.types["std_msgs/msg/Header"](stamp=time, frame_id=frame, **extra)
    return store.types[kind](header, stamp, count, 3, np.arange(3, dtype=np.uint8), points)


def write(path: Path, container: str, kind: str = LIVOX[0], count: int = 500) -> Path:
    if container == "old db3":  # the schema before ROS 2 Iron: no definitions anywhere
        with sqlite3.connect(path := path.with_suffix(".db3")) as database:
            database.execute(
                "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT, offered_qos_profiles TEXT)"
            )
            database.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB)")
            database.execute("INSERT INTO topics VALUES(1, '/livox/lidar', ?, 'cdr', '')", (kind,))
            for number in range(3):
                raw = bytes(STORE.serialize_cdr(custom(number, count, kind), kind))
                database.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES(1, ?, ?)", (START_NS + number * 10**8, raw))
        database.close()
        return path
    if container == "ros1":
        with Writer1(path := path.with_suffix(".bag")) as one:
            connection = one.add_connection("/livox/lidar", kind, typestore=STORE1)
            for number in range(3):
                one.write(connection, START_NS + number * 10**8, STORE1.serialize_ros1(custom(number, count, kind, STORE1), kind))
        return path
    with Writer2(path, version=9, storage_plugin=StoragePlugin[container.upper()]) as two:
        topic = two.add_connection("/livox/lidar", kind, typestore=STORE)
        for number in range(3):
            two.write(topic, START_NS + number * 10**8, STORE.serialize_cdr(custom(number, count, kind), kind))
    return path


@pytest.mark.parametrize("kind", LIVOX)
@pytest.mark.parametrize("container", ["mcap", "sqlite3", "old db3", "ros1"])
def test_scans_are_what_rosbags_decodes_point_by_point(tmp_path: Path, container: str, kind: str) -> None:
    with Bag(write(tmp_path / "bag", container, kind)) as bag:
        assert bag.find_points_topic() == "/livox/lidar"
        scans = list(bag.scans())
        plain = [bag.deserialize(record) for record in bag.records()]
        assert "tag" in [field.name for field in bag.first("/livox/lidar").fields]
    assert len(scans) == len(plain) == 3
    for number, (scan, message) in enumerate(zip(scans, plain)):
        assert (scan.stamp_ns, scan.frame_id, len(scan)) == (START_NS + number * 10**8, FRAME, 500)
        assert np.array_equal(scan.points_m, np.array([(p.x, p.y, p.z) for p in message.points], np.float32))
        assert scan.intensity is not None and scan.intensity.tolist() == [p.reflectivity for p in message.points]
        assert scan.ring is not None and scan.ring.tolist() == [p.line for p in message.points]
        assert scan.time_s is not None
        np.testing.assert_allclose(scan.time_s, [p.offset_time * 1e-9 for p in message.points], rtol=1e-6)


@pytest.mark.parametrize("little", [True, False])
@pytest.mark.parametrize("count", [0, 1, 2, 9])
@pytest.mark.parametrize("frame", ["", "a", "/lidar", "livox", "livox_frame"])
def test_every_alignment_and_byte_order(frame: str, count: int, little: bool) -> None:
    message = custom(count, count, frame=frame)
    scan, tag = decode_livox(bytes(STORE.serialize_cdr(message, LIVOX[0], little_endian=little)))
    assert scan.frame_id == frame.lstrip("/") and scan.stamp_ns == START_NS + count * 10**8
    assert scan.points_m.tolist() == [[p.x, p.y, p.z] for p in message.points] and tag.tolist() == [p.tag for p in message.points]
    ours = decode_livox(bytes(STORE1.serialize_ros1(custom(count, count, store=STORE1, frame=frame), LIVOX[0])), ros1=True)[0]
    assert np.array_equal(ours.points_m, scan.points_m) and ours.frame_id == scan.frame_id and ours.stamp_ns == scan.stamp_ns


def test_contradictions_and_hostile_lengths() -> None:
    good = bytearray(STORE.serialize_cdr(custom(1, 50), LIVOX[0]))
    at = len(good) - (50 * 20 - 1) - 12  # point_num, then lidar_id and rsvd, then the length of the array
    assert int.from_bytes(good[at : at + 4], "little") == int.from_bytes(good[at + 8 : at + 12], "little") == 50

    def refused(match: str, *changes: tuple[int, int]) -> None:
        bad = bytearray(good)
        for place, value in changes:
            bad[place : place + 4] = value.to_bytes(4, "little")
        with pytest.raises(CloudError, match=match):
            decode_livox(bytes(bad))

    refused("says point_num 49 but holds 50", (at, 49))
    refused("says point_num 50 but holds 4294967295", (at + 8, 2**32 - 1))
    refused("needs 8589934.* cut off", (at, 2**32 - 1), (at + 8, 2**32 - 1))
    refused("20 bytes too many", (at, 49), (at + 8, 49))
    refused("frame_id of 4294967295 bytes", (12, 2**32 - 1))
    for end in range(len(good)):
        with pytest.raises(CloudError):
            decode_livox(bytes(good[:end]))


@given(st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=6), st.booleans())
def test_damaged_bytes_are_read_or_refused(changes: list[tuple[int, int]], ros1: bool) -> None:
    raw = STORE1.serialize_ros1(custom(1, 5, store=STORE1), LIVOX[0]) if ros1 else STORE.serialize_cdr(custom(1, 5), LIVOX[0])
    bad = bytearray(raw)
    for place, value in changes:
        bad[place] = value
    try:
        assert len(decode_livox(bytes(bad), ros1)[0]) == 5
    except CloudError as error:
        assert "Livox CustomMsg" in str(error)


def test_a_broken_scan_stops_or_is_left_out_and_inspect_counts_the_others(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for number in range(4):
            message = custom(number, 2000)
            message.point_num -= number == 0
            writer.write("/livox/lidar", message, START_NS + number * 10**8)
    with Bag(tmp_path / "bag") as bag:
        assert [len(scan) for scan in bag.scans(on_error="skip")] == [2000] * 3
        with pytest.raises(CloudError, match=r"/livox/lidar at \d+ ns: .*point_num 1999 but holds 2000"):
            list(bag.scans())
        assert bag.first("/livox/lidar").width == 2000
    report = inspect(tmp_path / "bag")
    assert "point_num 1999" in report.lidars[0].problem


def test_inspect_describes_a_sound_recording(tmp_path: Path) -> None:
    report = inspect(write(tmp_path / "bag", "mcap", count=1500))
    lidar = report.lidars[0]
    assert report.can_segment and lidar.points == (1500, 1500, 1500) and lidar.frame_id == FRAME
    assert lidar.intensity_field == "intensity" and lidar.has_time and lidar.beams == 256


def test_a_cloud_beside_it_must_be_chosen_unless_it_is_labelled(tmp_path: Path, typestore: Any) -> None:
    plain = make_cloud(decode_livox(bytes(STORE.serialize_cdr(custom(0, 10), LIVOX[0])))[0], typestore.types)
    labelled = make_cloud(decode_livox(bytes(STORE.serialize_cdr(custom(0, 10), LIVOX[0])))[0], typestore.types, {"label": np.zeros(10)})
    for name, cloud in {"plain": plain, "labelled": labelled}.items():
        with BagWriter(tmp_path / name) as writer:
            writer.write("/livox/lidar", custom(0, 10), START_NS)
            writer.write("/other", cloud, START_NS)
    with Bag(tmp_path / "labelled") as bag:
        assert bag.find_points_topic() == "/livox/lidar"
    with Bag(tmp_path / "plain") as bag, pytest.raises(BagError, match="several lidar topics: /livox/lidar, /other; choose one"):
        bag.find_points_topic()


def test_frames_are_those_of_the_same_walk_with_clouds(tmp_path: Path, room_walk: Any) -> None:
    """Pairing, poses and deskewing see no difference, and a broken scan is left out."""
    plain = room_walk.write(tmp_path / "plain", scans=8)
    with Bag(plain) as bag, BagWriter(tmp_path / "livox") as writer:
        for record in bag.records():
            if record.topic != "/points":
                writer.copy(record)
                continue
            message = as_custom(record.message())
            message.point_num += stamp_ns(message) == room_walk.start_ns + 2 * 10**8
            writer.write("/points", message, record.stamp_ns)
    config = FrameConfig(learn_body_m=0.0)
    clouds = {frame.stamp_ns: frame for frame in write_frames([plain], tmp_path / "one", config)}
    frames = list(write_frames([tmp_path / "livox"], tmp_path / "two", config))
    assert {frame.stamp_ns for frame in frames} == set(clouds) - {room_walk.start_ns + 2 * 10**8}
    for frame in frames:
        expected = clouds[frame.stamp_ns]
        np.testing.assert_allclose(frame.points_m, expected.points_m, atol=1.1e-3)
        assert np.array_equal(frame.intensity, expected.intensity) and len(frame.views) == len(expected.views) == 1


def test_other_definitions_under_the_name_are_refused(tmp_path: Path) -> None:
    """Early drivers had a `timestep`; read as today's message, its bytes would be nonsense."""
    early = livox_store(message=MESSAGE.replace("uint32 point_num", "uint32 timestep\nuint32 point_num"))
    plain = custom(0, 3)
    message = early.types[LIVOX[1]](plain.header, plain.timebase, 0, 3, 3, plain.rsvd, plain.points)
    with Writer2(tmp_path / "early", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/livox/lidar", LIVOX[1], typestore=early)
        writer.write(connection, START_NS, early.serialize_cdr(message, LIVOX[1]))
    with Bag(tmp_path / "early") as bag, pytest.raises(CloudError, match=r"other fields in this recording .*timestep"):
        list(bag.scans())


@pytest.mark.parametrize("container", ["old db3", "ros1"])
def test_copies_keep_every_point(tmp_path: Path, container: str) -> None:
    with Bag(write(tmp_path / "bag", container)) as bag, BagWriter(tmp_path / "copy") as writer:
        for record in bag.records():
            writer.copy(record)
    with Bag(tmp_path / "copy") as copy:
        raws = [bytes(record.raw) for record in copy.records()]
    assert raws == [bytes(STORE.serialize_cdr(custom(number, 500), LIVOX[0])) for number in range(3)]
