from __future__ import annotations

import os
import re
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from xkd_ros.bags.reader import Bag
from xkd_ros.bags.topics import RecordedQos
from xkd_ros.core.errors import BagError, CloudError, XkdError
from xkd_ros.core.types import Scan
from xkd_ros.msgs.build import make_cloud
from xkd_ros.msgs.image import decode_image

KINDS = ("sqlite3", "mcap", "ros1", "bare mcap", "bare db3")
TOPICS = {
    "/cam/camera_info": "sensor_msgs/msg/CameraInfo",
    "/cam/image_raw": "sensor_msgs/msg/Image",
    "/points": "sensor_msgs/msg/PointCloud2",
    "/tf_static": "tf2_msgs/msg/TFMessage",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_container_gives_the_same_drive(bags: dict[str, Path], drive: Any, kind: str) -> None:
    with Bag(bags[kind]) as bag:
        assert {info.name: info.type for info in bag.topics.values()} == TOPICS
        assert [info.count for info in bag.topics.values()] == [5, 5, 5, 1]
        assert bag.duration_s == pytest.approx(0.438) and bag.start_ns == drive.start_ns
        assert bag.topics["/tf_static"].qos == RecordedQos("reliable", "transient_local", "keep_last", 1)
        assert bag.topics["/points"].qos is None
        scans, images = list(bag.scans()), list(bag.images("/cam/image_raw"))
        stamps = [stamp for _, stamp, _ in bag.messages()]
        assert stamps == sorted(stamps) and len(stamps) == 16
        middle = list(bag.records(["/points"], drive.start_ns + 120_000_000, drive.start_ns + 320_000_000))
        assert [record.stamp_ns - drive.start_ns for record in middle] == [120_000_000, 220_000_000]
    for number in range(5):
        np.testing.assert_array_equal(scans[number].points_m, drive.scan(number).points_m)
        np.testing.assert_array_equal(scans[number].intensity, drive.scan(number).intensity)
        assert (scans[number].stamp_ns, scans[number].frame_id) == (drive.scan(number).stamp_ns, "lidar")
        np.testing.assert_array_equal(images[number].rgb, drive.picture(number).rgb)
        assert images[number].stamp_ns == drive.picture(number).stamp_ns


@pytest.mark.parametrize("plugin", list(StoragePlugin))
@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_compressed_recordings_hold_the_same(tmp_path: Path, bags: dict[str, Path], mode: CompressionMode, plugin: StoragePlugin) -> None:
    writer = Writer(tmp_path / "zstd", version=9, storage_plugin=plugin)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    connections: dict[str, Any] = {}
    store = get_typestore(Stores.ROS2_JAZZY)
    with Bag(bags["mcap"]) as bag, writer:
        records = list(bag.records())
        for record in records:
            if record.topic not in connections:
                connections[record.topic] = writer.add_connection(record.topic, record.type, typestore=store)
            writer.write(connections[record.topic], record.stamp_ns, record.raw)
    with Bag(tmp_path / "zstd") as bag:
        back = list(bag.records())
    assert [(r.topic, r.stamp_ns, bytes(r.raw)) for r in back] == [(r.topic, r.stamp_ns, bytes(r.raw)) for r in records]


def test_the_real_bags(real_data: Path) -> None:
    sizes = {}
    for name in ("ouster_classroom", "vlp16_office", "vlp16_workshop_fisheye"):
        with Bag(real_data / name) as bag:
            sizes[name] = [len(scan) for scan in bag.scans()]
    assert sizes["ouster_classroom"][0] == 31330 and len(sizes["ouster_classroom"]) == 7
    assert sizes["vlp16_office"][0] == 14885 and len(sizes["vlp16_office"]) == 4
    assert sizes["vlp16_workshop_fisheye"][0] == 23969 and len(sizes["vlp16_workshop_fisheye"]) == 5


def test_bags_without_definitions_are_read_as_standard_types(tmp_path: Path, drive: Any) -> None:
    with Bag(drive.write_old_db3(tmp_path / "foxy.db3")) as bag:
        assert [len(scan) for scan in bag.scans()] == [1500] * 3


def test_the_metadata_file_stands_for_its_folder(bags: dict[str, Path]) -> None:
    with Bag(bags["mcap"] / "metadata.yaml") as bag:
        assert len(bag.topics) == 4


def test_wrong_topics_are_answered_with_the_right_ones(bags: dict[str, Path]) -> None:
    with Bag(bags["mcap"]) as bag:
        with pytest.raises(BagError, match=r"no topic /point \(did you mean /points\?\); it has .*/points \[sensor_msgs/PointCloud2\]"):
            bag.find_points_topic("/point")
        with pytest.raises(BagError, match=r"/cam/image_raw .* is sensor_msgs/msg/Image, not a PointCloud2; topics that are: /points"):
            bag.find_points_topic("/cam/image_raw")
        with pytest.raises(BagError, match="not an image; topics that are: /cam/image_raw"):
            list(bag.images("/points"))
        with pytest.raises(BagError, match="no topic /x"):
            list(bag.records(["/points", "/x"]))
        assert bag.find_points_topic() == bag.find_points_topic("/points") == "/points"


def write_clouds(path: Path, store: Any, clouds: dict[str, Any]) -> Path:
    from rosbags.rosbag2 import Writer

    with Writer(path, version=9) as writer:
        for stamp, (topic, message) in enumerate(clouds.items()):
            kind = message.__msgtype__
            connection = writer.add_connection(topic, kind, typestore=store)
            writer.write(connection, stamp + 1, store.serialize_cdr(message, kind))
    return path


def test_damaged_messages_at_the_beginning_hide_nothing(bags: dict[str, Path], drive: Any) -> None:
    asked: list[int] = []

    def read(message: Any) -> np.ndarray:
        asked.append(len(asked))
        if len(asked) < 3:
            raise XkdError("cut short")
        return decode_image(message).rgb

    with Bag(bags["mcap"]) as bag:
        picture = bag.first("/cam/image_raw", read)
        assert picture is not None
        np.testing.assert_array_equal(picture, drive.picture(2).rgb)
        assert bag.first("/cam/image_raw", _no_picture) is None


def _no_picture(message: Any) -> None:
    raise XkdError("cut short")


def test_of_several_clouds_the_plain_one_is_meant(tmp_path: Path, typestore: Any, drive: Any) -> None:
    scan = drive.scan(0)
    plain = make_cloud(scan, typestore.types)
    labelled = make_cloud(scan, typestore.types, {"label": np.zeros(len(scan), np.uint32)})
    coloured = make_cloud(scan, typestore.types, {"rgb": np.zeros(len(scan), np.float32)})
    with Bag(write_clouds(tmp_path / "one", typestore, {"/a_depth": coloured, "/lidar": plain, "/semantic_points": labelled})) as bag:
        assert bag.find_points_topic() == "/lidar"
    with Bag(write_clouds(tmp_path / "two", typestore, {"/left": plain, "/right": plain})) as bag:
        with pytest.raises(BagError, match="several lidar topics: /left, /right; choose one"):
            bag.find_points_topic()
        assert bag.find_points_topic("/right") == "/right"
    with Bag(write_clouds(tmp_path / "labelled only", typestore, {"/semantic_points": labelled})) as bag:
        assert bag.find_points_topic() == "/semantic_points"


def test_a_bag_without_clouds_says_what_to_do(tmp_path: Path, typestore: Any) -> None:
    from rosbags.rosbag2 import Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("uint8[] data\n", "velodyne_msgs/msg/VelodyneScan"))
    with Writer(tmp_path / "packets", version=9) as writer:
        connection = writer.add_connection("/packets", "velodyne_msgs/msg/VelodyneScan", typestore=store)
        message = store.types["velodyne_msgs/msg/VelodyneScan"](data=np.zeros(3, np.uint8))
        writer.write(connection, 1, store.serialize_cdr(message, connection.msgtype))
    with Bag(tmp_path / "packets") as bag, pytest.raises(BagError, match=r"no PointCloud2 messages; /packets is .*velodyne_pointcloud"):
        bag.find_points_topic()


def test_broken_clouds_stop_or_are_left_out(tmp_path: Path, typestore: Any, drive: Any, caplog: pytest.LogCaptureFixture) -> None:
    from rosbags.rosbag2 import Writer

    with Writer(tmp_path / "bag", version=9) as writer:
        connection = writer.add_connection("/points", "sensor_msgs/msg/PointCloud2", typestore=typestore)
        for number in range(3):
            message = make_cloud(drive.scan(number), typestore.types)
            message.header.stamp.sec = message.header.stamp.nanosec = 0
            if number == 1:
                message.point_step = 0
            writer.write(connection, number + 1, typestore.serialize_cdr(message, connection.msgtype))
    with Bag(tmp_path / "bag") as bag:
        # A header without a stamp takes the time of recording.
        assert [scan.stamp_ns for scan in bag.scans(on_error="skip")] == [1, 3]
        assert "skipped a cloud of /points at 2 ns" in caplog.text
        with pytest.raises(CloudError, match=r"/points at 2 ns: .*point_step 0"):
            list(bag.scans())


def test_what_is_no_bag_is_named(tmp_path: Path, bags: dict[str, Path]) -> None:
    (tmp_path / "drive").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.mcap").touch()
    (tmp_path / "a.bag.active").write_bytes(b"x")
    (tmp_path / "text.mcap").write_text("hello, this is no mcap file at all, not even a little")
    (tmp_path / "text.db3").write_text("hello, this is no database at all, not even a little one")
    (tmp_path / "text.bag").write_text("hello, this is no bag at all")
    no_metadata = tmp_path / "cut"
    no_metadata.mkdir()
    shutil.copy(bags["bare mcap"], no_metadata / "cut_0.mcap")
    unknown = tmp_path / "unknown"
    shutil.copytree(bags["mcap"], unknown)
    metadata = (unknown / "metadata.yaml").read_text()
    (unknown / "metadata.yaml").write_text(metadata.replace("storage_identifier: mcap", "storage_identifier: parquet"))
    missing = tmp_path / "missing"
    missing.mkdir()
    (missing / "metadata.yaml").write_text(metadata)
    for path, text in (
        ("drives", "does not exist; did you mean .*/drive"),
        ("nowhere/at/all", "does not exist; check the path"),
        ("drive", "no metadata.yaml; it is not a bag folder"),
        ("cut", r"no metadata.yaml; open .*cut_0.mcap itself, or run `ros2 bag reindex"),
        ("notes.txt", "is not a bag: a rosbag2 folder, .mcap, .db3, .bag are"),
        ("a.bag.active", "rosbag reindex"),
        ("empty.mcap", "0 bytes"),
        ("text.mcap", "cannot be opened: File magic is invalid"),
        ("text.db3", "cannot be opened: .*not a database"),
        ("text.bag", "cannot be opened"),
        ("unknown", "Storage plugin 'parquet' not supported"),
        ("missing", "files are missing"),
    ):
        with pytest.raises(BagError, match=text) as caught, Bag(tmp_path / path):
            pass
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_no_permission_is_named(tmp_path: Path, bags: dict[str, Path]) -> None:
    path = Path(shutil.copy(bags["bare mcap"], tmp_path / "secret.mcap"))
    path.chmod(0)
    with pytest.raises(BagError, match="permission"), Bag(path):
        pass


def read_all(path: Path) -> list[Scan]:
    with Bag(path) as bag:
        for record in bag.records():
            record.message()
        return list(bag.scans(on_error="skip"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bag_cut_off_anywhere_is_an_error_or_a_beginning(tmp_path: Path, bags: dict[str, Path], kind: str) -> None:
    whole = bags[kind]
    source = whole if whole.is_file() else next(file for file in whole.iterdir() if file.suffix in (".mcap", ".db3"))
    content = source.read_bytes()
    errors = 0
    for length in {1, 8, 60, len(content) // 10, len(content) // 3, 2 * len(content) // 3, len(content) - 100, len(content) - 1}:
        path = tmp_path / f"cut_{length}"
        if whole.is_dir():
            shutil.copytree(whole, path)
            (path / source.name).write_bytes(content[:length])
        else:
            path = path.with_suffix(source.suffix)
            path.write_bytes(content[:length])
        try:
            scans = read_all(path)
        except BagError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            errors += 1
        else:
            assert len(scans) <= 5
    # sqlite3 may not miss its last byte; everything else must be noticed.
    assert errors >= 6


def test_reading_stops_with_the_place_of_the_damage(tmp_path: Path, bags: dict[str, Path]) -> None:
    with Bag(bags["bare mcap"]) as bag:
        size = len(next(bag.records(["/points"])).raw)
    # The opcode and length of a message in an mcap chunk; the index still tells of a whole file.
    record = struct.pack("<BQ", 5, 22 + size)
    content = bags["bare mcap"].read_bytes()
    assert content.count(record) == 5
    path = tmp_path / "holed.mcap"
    path.write_bytes(content.replace(record, struct.pack("<BQ", 5, 2**40)))
    with Bag(path) as bag, pytest.raises(BagError, match=r"is damaged after 0 messages, 0.0 s from its start: Truncated record"):
        list(bag.records())


def test_a_message_that_does_not_fit_its_type_is_named(bags: dict[str, Path]) -> None:
    with Bag(bags["bare mcap"]) as bag:
        record = next(bag.records(["/points"]))
        for broken in (replace(record, raw=record.raw[:50]), replace(record, type="my_msgs/msg/Unknown"), replace(record, raw=b"")):
            with pytest.raises(BagError, match=r"message of /points .* cannot be read: "):
                broken.message()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["bare mcap", "bare db3", "ros1"]), data=st.data())
def test_random_damage_never_escapes_the_error_tree(tmp_path: Path, bags: dict[str, Path], kind: str, data: Any) -> None:
    content = bytearray(bags[kind].read_bytes())
    # Structure is at both ends; in the middle lie the numbers of the clouds.
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(
            st.one_of(st.integers(0, 3000), st.integers(len(content) - 3000, len(content) - 1), st.integers(0, len(content) - 1))
        )
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / f"damaged{bags[kind].suffix}"
    path.write_bytes(content)
    try:
        read_all(path)
    except BagError as error:
        assert str(path) in str(error) and "\n" not in str(error)


def test_metadata_cut_off_anywhere(tmp_path: Path, bags: dict[str, Path]) -> None:
    path = tmp_path / "bag"
    shutil.copytree(bags["sqlite3"], path)
    text = (path / "metadata.yaml").read_text()
    for length in range(0, len(text), 331):
        (path / "metadata.yaml").write_text(text[:length])
        try:
            read_all(path)
        except BagError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("field", ["message_count", "nanoseconds_since_epoch", "nanoseconds"])
def test_metadata_with_a_text_for_a_number(tmp_path: Path, bags: dict[str, Path], field: str) -> None:
    path = tmp_path / "bag"
    shutil.copytree(bags["sqlite3"], path)
    metadata = path / "metadata.yaml"
    changed, count = re.subn(rf"\b{field}: \d+", f"{field}: many", metadata.read_text())
    assert count
    metadata.write_text(changed)
    try:
        with Bag(path) as bag:
            assert bag.duration_s >= 0
    except BagError as error:
        assert str(path) in str(error) and "\n" not in str(error)


def test_a_closed_bag_says_so(bags: dict[str, Path]) -> None:
    bag = Bag(bags["mcap"])
    with pytest.raises(BagError, match="is not open"):
        list(bag.records())
