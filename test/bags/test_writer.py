from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from xkd_ros.bags.reader import Bag
from xkd_ros.bags.topics import LATCHED, RecordedQos
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import BagError, ConfigError
from xkd_ros.msgs.build import make_cloud


@pytest.mark.parametrize(
    ("name", "storage", "file"),
    [
        ("walk", None, "walk.mcap"),
        ("walk", "mcap", "walk.mcap"),
        ("walk", "sqlite3", "walk.db3"),
        ("deep/down/walk.v2", None, "walk.v2.mcap"),
        ("walk.mcap", None, None),
        ("walk.db3", None, None),
    ],
)
def test_a_written_bag_opens_in_rosbags(tmp_path: Path, typestore: Any, drive: Any, name: str, storage: Any, file: str | None) -> None:
    path = tmp_path / name
    with BagWriter(path, storage) as writer:
        assert not path.exists()
        drive.write_messages(
            lambda topic, _, stamp, message: writer.write(topic, message, stamp, LATCHED if "tf" in topic else None), typestore.types
        )
    # Nothing but the bag is left, under the names that its own metadata gives.
    assert os.listdir(path.parent) == [path.name]
    assert path.is_file() if file is None else sorted(os.listdir(path)) == ["metadata.yaml", file]
    with AnyReader([path]) as reader:
        assert {topic: info.msgcount for topic, info in reader.topics.items()} == {
            "/cam/camera_info": 5,
            "/cam/image_raw": 5,
            "/points": 5,
            "/tf_static": 1,
        }
    with Bag(path) as bag:
        assert [scan.stamp_ns for scan in bag.scans()] == [drive.scan(number).stamp_ns for number in range(5)]
        assert bag.topics["/tf_static"].qos == LATCHED
        np.testing.assert_array_equal(next(bag.scans()).points_m, drive.scan(0).points_m)


@pytest.mark.parametrize(("kind", "target"), [("sqlite3", "copy.mcap"), ("mcap", "copy.db3"), ("ros1", "copy"), ("bare db3", "copy")])
def test_a_copy_holds_the_same_messages(tmp_path: Path, bags: dict[str, Path], kind: str, target: str) -> None:
    with Bag(bags[kind]) as bag, BagWriter(tmp_path / target) as writer:
        for record in bag.records():
            writer.copy(record)
    with Bag(bags["mcap"]) as expected, Bag(tmp_path / target) as copy:
        assert [(r.topic, r.type, r.stamp_ns, bytes(r.raw)) for r in copy.records()] == [
            (r.topic, r.type, r.stamp_ns, bytes(r.raw)) for r in expected.records()
        ]
        assert copy.topics["/tf_static"].qos is not None and copy.topics["/tf_static"].qos.durability == "transient_local"


def test_types_of_somebody_else_are_copied_with_their_definition(tmp_path: Path) -> None:
    from rosbags.rosbag2 import Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("uint32 number\nstring name\n", "my_msgs/msg/Thing"))
    thing = store.types["my_msgs/msg/Thing"](number=7, name="seven")
    with Writer(tmp_path / "theirs", version=9) as theirs:
        theirs.write(
            theirs.add_connection("/thing", "my_msgs/msg/Thing", typestore=store), 5, store.serialize_cdr(thing, "my_msgs/msg/Thing")
        )
    with Bag(tmp_path / "theirs") as bag, BagWriter(tmp_path / "ours.mcap") as writer:
        for record in bag.records():
            writer.copy(record, topic="/renamed")
    with Bag(tmp_path / "ours.mcap") as bag:
        assert bag.first("/renamed").name == "seven"
    with pytest.raises(BagError, match=r"type my_msgs/msg/Thing of topic /thing has no definition"), BagWriter(tmp_path / "b") as writer:
        writer.write_serialized("/thing", "my_msgs/msg/Thing", b"", 1)


def test_own_types_of_a_ros_1_bag_are_carried_over(tmp_path: Path) -> None:
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    store.register(get_types_from_msg("float32 value\n", "my_msgs/msg/Part"))
    store.register(get_types_from_msg("std_msgs/Header header\ntime when\nPart[] parts\nstring Name\n", "my_msgs/msg/Thing"))
    types = store.types
    when = types["builtin_interfaces/msg/Time"](sec=5, nanosec=6)
    header = types["std_msgs/msg/Header"](seq=1, stamp=when, frame_id="here")
    thing = types["my_msgs/msg/Thing"](header=header, when=when, parts=[types["my_msgs/msg/Part"](value=1.5)], Name="seven")
    with Writer(tmp_path / "theirs.bag") as theirs:
        theirs.write(
            theirs.add_connection("/thing", "my_msgs/msg/Thing", typestore=store), 5, store.serialize_ros1(thing, "my_msgs/msg/Thing")
        )
    with Bag(tmp_path / "theirs.bag") as bag, BagWriter(tmp_path / "ours.mcap") as writer:
        for record in bag.records():
            writer.copy(record)
    with Bag(tmp_path / "ours.mcap") as bag:
        copied = bag.first("/thing")
    assert (copied.Name, copied.parts[0].value, copied.when.nanosec, copied.header.frame_id) == ("seven", 1.5, 6, "here")
    assert not hasattr(copied.header, "seq")


def test_a_bag_that_is_there_is_kept_unless_told_otherwise(tmp_path: Path, typestore: Any, drive: Any) -> None:
    for name in ("folder", "file.mcap"):
        path = tmp_path / name
        for number in range(3):
            if number:
                with pytest.raises(BagError, match=r"exists already; choose another name"):
                    BagWriter(path)
            with BagWriter(path, overwrite=True) as writer:
                writer.write("/points", make_cloud(drive.scan(number), typestore.types), 1)
        with Bag(path) as bag:
            assert next(bag.scans()).stamp_ns == drive.scan(2).stamp_ns
    assert sorted(os.listdir(tmp_path)) == ["file.mcap", "folder"]


@pytest.mark.parametrize("name", ["bag", "bag.mcap", "bag.db3"])
def test_an_error_on_the_way_leaves_nothing_and_stays_the_error(tmp_path: Path, typestore: Any, drive: Any, name: str) -> None:
    with pytest.raises(KeyboardInterrupt), BagWriter(tmp_path / name) as writer:
        writer.write("/points", make_cloud(drive.scan(0), typestore.types), 1)
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="theirs"), BagWriter(tmp_path / name) as writer:
        raise ValueError("theirs")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["bag", "bag.mcap", "bag.db3"])
def test_a_disk_that_refused_once_leaves_nothing_even_if_nobody_listens(
    tmp_path: Path, typestore: Any, drive: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cloud = make_cloud(drive.scan(0), typestore.types)
    with pytest.raises(BagError, match="no room left for"), BagWriter(tmp_path / name) as writer:
        writer.write("/points", cloud, 1)
        with monkeypatch.context() as full, suppress(BagError):
            full.setattr(writer._writer, "write", refuse)
            writer.write("/points", cloud, 2)
        writer.write("/points", cloud, 3)
    assert os.listdir(tmp_path) == []


def test_an_old_bag_survives_a_failed_overwrite(tmp_path: Path, typestore: Any, drive: Any) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/points", make_cloud(drive.scan(0), typestore.types), 1)
    with pytest.raises(RuntimeError), BagWriter(tmp_path / "bag", overwrite=True) as writer:
        raise RuntimeError
    with Bag(tmp_path / "bag") as bag:
        assert len(list(bag.scans())) == 1


def test_an_empty_bag_is_a_bag(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "nothing"):
        pass
    with Bag(tmp_path / "nothing") as bag:
        assert bag.topics == {} and bag.duration_s == 0 and list(bag.records()) == []


def test_wrong_use_is_named(tmp_path: Path, typestore: Any, drive: Any) -> None:
    with pytest.raises(ConfigError, match="storage 'parquet' is unknown; use mcap or sqlite3"):
        BagWriter(tmp_path / "a", "parquet")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="ends like mcap but storage sqlite3"):
        BagWriter(tmp_path / "a.mcap", "sqlite3")
    cloud = make_cloud(drive.scan(0), typestore.types)
    with BagWriter(tmp_path / "b") as writer:
        writer.write("/points", cloud, 1)
        with pytest.raises(BagError, match=r"topic /points holds sensor_msgs/msg/PointCloud2, not sensor_msgs/msg/Image"):
            writer.write_serialized("/points", "sensor_msgs/msg/Image", b"", 2)
        with pytest.raises(BagError, match="is no rosbags message; serialise it"):
            writer.write("/points", object(), 2)
        cloud.width = "wide"
        with pytest.raises(BagError, match="message for /points does not fit"):
            writer.write("/points", cloud, 2)
    with pytest.raises(BagError, match="is not open"):
        writer.write_serialized("/points", "sensor_msgs/msg/PointCloud2", b"", 2)
    with Bag(tmp_path / "b") as bag:
        assert bag.topics["/points"].count == 1


FULL_DISK = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
import numpy as np
from rosbags.typesys import Stores, get_typestore
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import BagError
from xkd_ros.core.types import Scan
from xkd_ros.msgs.build import make_cloud
types = get_typestore(Stores.ROS2_JAZZY).types
cloud = make_cloud(Scan(np.zeros((5000, 3), np.float32)), types)
try:
    with BagWriter(sys.argv[1]) as writer:
        for stamp in range(20, 20 + int(sys.argv[2])):
            writer.write("/points", cloud, stamp)
except BagError as error:
    print(error)
"""


@pytest.mark.parametrize(("name", "count"), [("bag.mcap", 5), ("bag", 60), ("bag.db3", 60)])
def test_no_room_is_named_and_nothing_half_written_stays(tmp_path: Path, name: str, count: int) -> None:
    """The system itself refuses files beyond 200 kB, at once or at the end, as a full disk does."""
    import signal

    target = tmp_path / "out"
    target.mkdir()
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(target / name), str(count)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    assert run.returncode == 0, run.stderr
    # SQLite has one error for a limit and for a failing disk.
    reason = "the disk refuses" if name.endswith("db3") else "no room left for"
    assert f"{reason} {target / name} (" in run.stdout and run.stdout.count("\n") == 1
    assert os.listdir(target) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BagError, match=r"cannot write .*file/bag"), BagWriter(tmp_path / "file" / "bag"):
        pass
    with pytest.raises(BagError, match=r"(cannot write|no permission to write) /proc/bag"), BagWriter("/proc/bag"):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_no_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BagError, match="no permission to write"), BagWriter(tmp_path / "bag"):
        pass


def test_qos_survives(tmp_path: Path, typestore: Any, drive: Any) -> None:
    sensor = RecordedQos("best_effort", "volatile", "keep_last", 5)
    keep_all = RecordedQos("reliable", "transient_local", "keep_all", 1)
    for name in ("a.mcap", "b.db3", "c"):
        with BagWriter(tmp_path / name) as writer:
            writer.write("/points", make_cloud(drive.scan(0), typestore.types), 1, sensor)
            writer.write("/map", make_cloud(drive.scan(0), typestore.types), 1, keep_all)
        with Bag(tmp_path / name) as bag:
            assert bag.topics["/points"].qos == sensor and bag.topics["/map"].qos == keep_all
