"""The replayer against the bag it plays: the same messages, stamps and counts come out of DDS."""

from __future__ import annotations

import signal
import time
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, PointCloud2
from std_msgs.msg import Header, String

from xkd_ros.bags.reader import Bag
from xkd_ros.bags.ros2_form import ros2_bytes
from xkd_ros.bags.topics import LATCHED as RECORDED_LATCHED
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import BagError, ConfigError
from xkd_ros.core.types import Scan
from xkd_ros.msgs.build import make_cloud
from xkd_ros.msgs.header import stamp_ns
from xkd_ros.nodes import restamp
from xkd_ros.nodes.replayer import ReplayerNode, _Pace
from xkd_ros.nodes.restamp import header_stamp_ns, shift_stamp

pytestmark = pytest.mark.dds


def test_original_stamps_and_bytes_arrive_complete(graph, real_data):
    bag_path = real_data / "vlp16_workshop_fisheye"
    topics = {
        "/velodyne/front/points": PointCloud2,
        "/gmsl/A0/image_color/compressed": CompressedImage,
        "/gmsl/A0/camera_info": CameraInfo,
    }
    received = {topic: graph.listen(kind, topic, raw=True) for topic, kind in topics.items()}
    wait_for = ",".join(f"{topic}:1" for topic in topics)
    parameters = {"bag": str(bag_path), "stamps": "original", "rate": 20.0, "wait_for": wait_for, "reliability": "reliable"}
    replayer = graph.make(ReplayerNode, **parameters)
    graph.spin_until(replayer.finished.is_set, "end of the bag")
    graph.spin_until(lambda: all(len(messages) == 5 for messages in received.values()), "five messages each")
    assert not replayer.failed
    with Bag(bag_path) as bag:
        for topic, messages in received.items():
            assert messages == [ros2_bytes(record) for record in bag.records([topic])]


def test_stamps_of_now_keep_the_distance_between_streams(graph, real_data):
    clouds = graph.listen(PointCloud2, "/velodyne/front/points")
    images = graph.listen(CompressedImage, "/gmsl/A0/image_color/compressed")
    wait_for = "/velodyne/front/points:1,/gmsl/A0/image_color/compressed:1"
    started = time.time_ns()
    parameters = {"bag": str(real_data / "vlp16_workshop_fisheye"), "rate": 20.0, "wait_for": wait_for, "reliability": "reliable"}
    replayer = graph.make(ReplayerNode, **parameters)
    graph.spin_until(lambda: replayer.finished.is_set() and len(clouds) == len(images) == 5, "the whole bag")
    # Recorded: one second apart, the image 10 ms after its scan; twenty times faster: 50 ms and 0.5 ms.
    assert all(started < stamp_ns(cloud) < time.time_ns() for cloud in clouds)
    assert [stamp_ns(b) - stamp_ns(a) for a, b in pairwise(clouds)] == pytest.approx([50e6] * 4, abs=2)
    assert [stamp_ns(b) - stamp_ns(a) for a, b in zip(clouds, images)] == pytest.approx([0.5e6] * 5, abs=2)


def test_stamps_of_another_clock_are_not_taken_for_recorded_time(graph, typestore, tmp_path):
    boot, recorded = 1000 * 10**9, 1_600_000_000 * 10**9
    with BagWriter(tmp_path / "bag") as writer:
        for number in range(3):
            for topic, stamp in (("/none", 0), ("/uptime", boot + number * 100_000_000)):
                scan = Scan(np.zeros((1, 3), np.float32), stamp_ns=stamp)
                writer.write(topic, make_cloud(scan, typestore.types), recorded + number * 100_000_000)
    none, uptime = graph.listen(PointCloud2, "/none"), graph.listen(PointCloud2, "/uptime")
    started = time.time_ns()
    replayer = graph.make(ReplayerNode, bag=str(tmp_path / "bag"), rate=4.0, wait_for="1", reliability="reliable")
    graph.spin_until(lambda: replayer.finished.is_set() and len(none) == len(uptime) == 3, "the whole bag")
    assert not replayer.failed
    assert [stamp_ns(cloud) for cloud in none] == [0, 0, 0]
    stamps = [stamp_ns(cloud) for cloud in uptime]
    # As far from now as it was from the time of recording, and at the pace that is played.
    assert boot + started <= stamps[0] + recorded <= boot + time.time_ns()
    assert np.diff(stamps) == pytest.approx([25e6] * 2, abs=2)


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0, 1000.0])
def test_stamps_stay_what_a_header_can_hold(rate):
    recorded = 1_600_000_000 * 10**9
    pace = _Pace(recorded, rate)
    assert pace.restamp(0, recorded) == pace.restamp(0, 10**9) == 0
    for stamp in (1, 10**12, recorded - 3600 * 10**9, 2**31 * 10**9 - 1):
        assert 0 <= pace.restamp(stamp, recorded + 10**9) < 2**31 * 10**9


def test_what_was_latched_before_the_start_by_several_reaches_who_comes_late(graph, typestore, tmp_path):
    texts = [f"of publisher {number}" for number in range(3)]
    with BagWriter(tmp_path / "bag") as writer:
        for number, text in enumerate(texts):
            writer.write("/static", typestore.types["std_msgs/msg/String"](data=text), 10**9 + number, RECORDED_LATCHED)
        writer.write("/points", make_cloud(Scan(np.zeros((1, 3), np.float32)), typestore.types), 4 * 10**9)
    replayer = graph.make(ReplayerNode, bag=str(tmp_path / "bag"), start_s=2.0, rate=0.0)
    graph.spin_until(replayer.finished.is_set, "the end")
    assert replayer.played == {"/static": 3, "/points": 1}
    late = graph.listen(String, "/static", QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    graph.spin_until(lambda: [message.data for message in late] == texts, "what all of them latched", 10)


def test_only_chosen_topics_from_a_start_with_a_clock(graph, real_data):
    clouds = graph.listen(PointCloud2, "/velodyne/front/points")
    infos = graph.listen(CameraInfo, "/gmsl/A0/camera_info")
    clocks = graph.listen(Clock, "/clock")
    replayer = graph.make(
        ReplayerNode,
        bag=str(real_data / "vlp16_workshop_fisheye"),
        topics="/velodyne/front/points",
        start_s=1.5,
        duration_s=2.0,
        rate=5.0,
        stamps="original",
        clock_hz=50.0,
        wait_for="1",
        reliability="reliable",
    )
    graph.spin_until(lambda: replayer.finished.is_set() and len(clouds) == 2 and len(clocks) > 5, "two clouds and /clock")
    times = [clock.clock.sec * 10**9 + clock.clock.nanosec for clock in clocks]
    assert not infos and times == sorted(times)
    assert times[-1] <= stamp_ns(clouds[-1]) + 20_000_000


def test_as_fast_as_acknowledged_loses_nothing(graph, real_data):
    clouds = graph.listen(PointCloud2, "/velodyne_points")
    parameters = {"bag": str(real_data / "vlp16_office"), "rate": 0.0, "wait_for": "1", "reliability": "reliable", "stamps": "original"}
    replayer = graph.make(ReplayerNode, **parameters)
    graph.spin_until(lambda: replayer.finished.is_set() and len(clouds) == 4, "four clouds")


def test_loop_goes_on_until_told_to_stop(graph, real_data):
    clouds = graph.listen(PointCloud2, "/velodyne_points")
    replayer = graph.make(ReplayerNode, bag=str(real_data / "vlp16_office"), rate=50.0, loop=True, wait_for="1", reliability="reliable")
    graph.spin_until(lambda: len(clouds) > 10, "third lap")
    assert replayer.close()


def test_what_cannot_be_played_is_said(graph, real_data, tmp_path):
    with pytest.raises(ConfigError, match="no bag given"):
        graph.make(ReplayerNode)
    with pytest.raises(BagError, match="does not exist"):
        graph.make(ReplayerNode, bag=str(tmp_path / "nothing"))
    with pytest.raises(BagError, match=r"no topic /points; it has /velodyne_points"):
        graph.make(ReplayerNode, bag=str(real_data / "vlp16_office"), topics="/points")
    with pytest.raises(BagError, match=r"start_s is 10000, but .*vlp16_office is only \d+\.\d+ s long"):
        graph.make(ReplayerNode, bag=str(real_data / "vlp16_office"), start_s=1e4, loop=True)


def test_a_loop_without_a_message_ends(graph, typestore, tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        for topic, stamp in (("/early", 1), ("/late", 9)):
            writer.write(topic, make_cloud(Scan(np.zeros((1, 3), np.float32)), typestore.types), stamp * 10**9)
    replayer = graph.make(ReplayerNode, bag=str(tmp_path / "bag"), topics="/early", start_s=2.0, loop=True)
    graph.spin_until(replayer.finished.is_set, "the end")
    assert "no message of /early" in replayer.failed


def test_ros1_bag_is_played_as_ros2(graph, tmp_path):
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    types = store.types
    bag_path = tmp_path / "old.bag"
    with Writer(bag_path) as writer:
        connection = writer.add_connection("/info", "sensor_msgs/msg/CameraInfo", typestore=store)
        time_class, header_class = types["builtin_interfaces/msg/Time"], types["std_msgs/msg/Header"]
        for number in range(3):
            message = types["sensor_msgs/msg/CameraInfo"](
                header=header_class(seq=number, stamp=time_class(sec=100 + number, nanosec=5), frame_id="cam"),
                height=480,
                width=640,
                distortion_model="plumb_bob",
                D=np.array([0.1, 0.2]),
                K=np.arange(9.0),
                R=np.eye(3).reshape(-1),
                P=np.arange(12.0),
                binning_x=0,
                binning_y=0,
                roi=types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
            )
            raw = store.serialize_ros1(message, "sensor_msgs/msg/CameraInfo")
            writer.write(connection, (100 + number) * 10**9, raw)
    infos = graph.listen(CameraInfo, "/info")
    graph.make(ReplayerNode, bag=str(bag_path), stamps="original", rate=10.0, wait_for="/info:1", reliability="reliable")
    graph.spin_until(lambda: len(infos) == 3, "three messages")
    assert [stamp_ns(info) for info in infos] == [100_000_000_005, 101_000_000_005, 102_000_000_005]
    assert infos[2].header.frame_id == "cam" and list(infos[2].k) == list(range(9)) and list(infos[2].d) == [0.1, 0.2]


def test_topic_without_installed_type_is_skipped_with_one_line(graph, real_data):
    process = graph.process(
        "xkd_ros.nodes.replayer",
        "--ros-args",
        "-p",
        f"bag:={real_data / 'ouster_classroom'}",
        "-p",
        "rate:=100",
        "-p",
        "reliability:=reliable",
    )
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    installed = __import__("importlib").util.find_spec("tf2_msgs") is not None
    assert ("/tf_static is skipped" in output) != installed
    assert output.count("is skipped") == (0 if installed else 1) and "played" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_process_in_two_seconds(graph, real_data, number, slowness):
    arguments = ("--ros-args", "-p", f"bag:={real_data / 'vlp16_office'}", "-p", "loop:=true", "-p", "rate:=0.01")
    process = graph.process("xkd_ros.nodes.replayer", *arguments)
    graph.spin_until(lambda: graph.probe.count_publishers("/velodyne_points") > 0, "the replayer")
    started = time.monotonic()
    process.send_signal(number)
    assert process.wait(60) == 0
    assert time.monotonic() - started < 2.0 * slowness


def test_restamping_touches_the_stamp_only():
    message = CameraInfo(width=7)
    message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id = 5, 6, "cam"
    raw = bytes(serialize_message(message))
    assert header_stamp_ns(CameraInfo, raw) == 5_000_000_006
    moved = shift_stamp(CameraInfo, raw, lambda stamp: stamp + 1_999_999_999)
    message.header.stamp.sec, message.header.stamp.nanosec = 7, 5
    assert moved == bytes(serialize_message(message))
    assert header_stamp_ns(Clock, bytes(serialize_message(Clock()))) is None
    assert header_stamp_ns(CameraInfo, b"\0\1\0\0abc") is None


def test_restamping_touches_every_transform_of_a_message(monkeypatch):
    class TFMessage:  # stands in for that of tf2_msgs, which not every place has
        @staticmethod
        def get_fields_and_field_types():
            return {"transforms": "sequence<geometry_msgs/TransformStamped>"}

    message = SimpleNamespace(transforms=[TransformStamped(header=Header(stamp=Time(sec=number))) for number in (5, 7)])
    monkeypatch.setattr(restamp, "deserialize_message", lambda raw, kind: {(b"raw", TFMessage): message}[raw, kind])
    monkeypatch.setattr(restamp, "serialize_message", lambda changed: [stamp_ns(each) for each in changed.transforms])
    assert shift_stamp(TFMessage, b"raw", lambda stamp: stamp + 1_000_000_001) == [6_000_000_001, 8_000_000_001]
