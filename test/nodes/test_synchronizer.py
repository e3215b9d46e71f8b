"""The synchronizer against offline pairing of the same bag, and against streams that misbehave."""

from __future__ import annotations

import importlib.util
import json
import re

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Log
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import String

from xkd_ros.bags.reader import Bag
from xkd_ros.core.errors import BagError, ConfigError, MissingPackageError
from xkd_ros.core.rig import CameraConfig, LidarConfig, RigConfig, save_rig
from xkd_ros.core.types import Scan
from xkd_ros.msgs.build import make_cloud
from xkd_ros.msgs.camera_info import camera_from_info
from xkd_ros.msgs.header import stamp_ns
from xkd_ros.msgs.transform_tree import TransformTree
from xkd_ros.nodes.camera_input import list_sources
from xkd_ros.nodes.replayer import ReplayerNode
from xkd_ros.nodes.synchronizer import SynchronizerNode
from xkd_ros.pairing.nearest import NearestPairer

pytestmark = pytest.mark.dds

SECOND = 10**9


@pytest.fixture
def classroom(real_data):
    """Path of the classroom bag and the names of its cloud and image topics."""
    path = real_data / "ouster_classroom"
    with Bag(path) as bag:
        image = next(name for name, info in bag.topics.items() if info.type == "sensor_msgs/msg/Image")
        info = next(name for name, info in bag.topics.items() if info.type == "sensor_msgs/msg/CameraInfo")
        return path, bag.find_points_topic(), image, info


@pytest.fixture
def classroom_rig(classroom, tmp_path):
    """Rig file of the classroom, from its CameraInfo and tf_static."""
    path, points, image, info = classroom
    with Bag(path) as bag:
        tree = TransformTree()
        tree.add_message(bag.first("/tf_static"))
        cloud, picture, camera = bag.first(points), bag.first(image), camera_from_info(bag.first(info))
        transform = tree.lookup(picture.header.frame_id, cloud.header.frame_id)
    config = CameraConfig(
        name="front",
        topic=image,
        frame_id=picture.header.frame_id,
        model=camera.model,
        width=camera.width,
        height=camera.height,
        K=camera.K.reshape(-1).tolist(),
        D=camera.D.tolist(),
        cam_from_lidar=transform.reshape(-1).tolist(),
    )
    rig = RigConfig(name="classroom", lidar=LidarConfig(topic=points), cameras=[config])
    save_rig(rig, tmp_path / "rig.yaml")
    return tmp_path / "rig.yaml"


def make_stamped(kind, stamp, frame="f"):
    message = kind()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, SECOND)
    message.header.frame_id = frame
    return message


def offline_pairs(path, points, image, limit_ns):
    pairer = NearestPairer(limit_ns)
    pairs = []
    with Bag(path) as bag:
        for topic, _, message in bag.messages([points, image]):
            stamp = stamp_ns(message)
            pairs += pairer.push_scan(stamp, stamp) if topic == points else pairer.push_image(stamp, stamp)
    return [(pair.scan, pair.images[0]) for pair in pairs + pairer.flush()]


def test_live_pairs_equal_offline_pairs_and_are_recorded(graph, classroom, classroom_rig, tmp_path):
    path, points, image, info = classroom
    recording = tmp_path / "pairs"
    synchronizer = graph.make(
        SynchronizerNode, rig=str(classroom_rig), record=str(recording), stamps="original", output_depth=50, deadline_s=1.0
    )
    clouds = graph.listen(PointCloud2, "/synced/points")
    images = graph.listen(Image, "/synced/front/image")
    infos = graph.listen(CameraInfo, "/synced/front/camera_info")
    coloured = graph.listen(PointCloud2, "/synced/points_rgb")
    wait_for = f"{points}:1,{image}:1"
    parameters = {"bag": str(path), "stamps": "original", "rate": 10.0, "wait_for": wait_for, "reliability": "reliable"}
    replayer = graph.make(ReplayerNode, ["-r", f"{points}:=/points"], **parameters)
    expected = offline_pairs(path, points, image, 50_000_000)
    assert len(expected) == 7
    graph.spin_until(lambda: len(coloured) == 7 and len(clouds) == len(images) == len(infos) == 7, "seven pairs")
    graph.spin_until(replayer.finished.is_set, "end of the bag")
    live = [(stamp_ns(cloud), stamp_ns(picture)) for cloud, picture in zip(clouds, images)]
    assert live == expected
    assert [stamp_ns(message) for message in infos] == [picture for _, picture in expected]

    # The camera sees a part of the room, and what it sees is not one colour.
    colours = np.frombuffer(coloured[0].data, np.uint8).reshape(-1, coloured[0].point_step)
    offset = next(field.offset for field in coloured[0].fields if field.name == "rgb")
    packed = colours[:, offset : offset + 4].copy().view(np.uint32)[:, 0]
    seen = packed != 0x404040
    assert 0.03 < seen.mean() < 0.9 and len(np.unique(packed[seen])) > 500
    assert stamp_ns(coloured[0]) == stamp_ns(clouds[0]) and coloured[0].width == clouds[0].width * clouds[0].height

    synchronizer.close()
    with Bag(recording) as bag:
        assert {name: topic.count for name, topic in bag.topics.items()} == {"/points": 7, image: 7, info: 7, "/tf_static": 1}
        tree = TransformTree()
        tree.add_message(bag.first("/tf_static"))
        config = synchronizer._cameras[0].source.config
        lidar = bag.first("/points").header.frame_id
        np.testing.assert_allclose(tree.lookup(config.frame_id, lidar), config.transform(), atol=1e-9)
    assert offline_pairs(recording, "/points", image, 50_000_000) == expected


def test_pairs_carry_the_stamp_of_the_scan(graph):
    graph.make(SynchronizerNode, images="/camera/image_raw/compressed", camera_names="left", input_reliability="reliable")
    clouds = graph.listen(PointCloud2, "/synced/points")
    images = graph.listen(CompressedImage, "/synced/left/image/compressed")
    infos = graph.listen(CameraInfo, "/synced/left/camera_info")
    points = graph.publisher(PointCloud2, "/points")
    camera = graph.publisher(CompressedImage, "/camera/image_raw/compressed")
    info = graph.publisher(CameraInfo, "/camera/camera_info")
    info.publish(make_stamped(CameraInfo, 1))
    graph.spin_for(0.1)
    for number in range(1, 6):
        camera.publish(make_stamped(CompressedImage, number * SECOND - 20_000_000, "optical"))
        points.publish(make_stamped(PointCloud2, number * SECOND, "lidar"))
        camera.publish(make_stamped(CompressedImage, number * SECOND + 30_000_000, "optical"))
    graph.spin_until(lambda: len(clouds) == len(images) == len(infos) == 5, "five pairs")
    stamps = [number * SECOND for number in range(1, 6)]
    assert [stamp_ns(message) for message in clouds] == stamps
    assert [stamp_ns(message) for message in images] == stamps
    assert [stamp_ns(message) for message in infos] == stamps
    assert images[0].header.frame_id == "optical"


def test_image_type_is_found_out_and_missing_pairs_are_explained(graph):
    graph.make(SynchronizerNode, images="/cam/picture", input_reliability="reliable", deadline_s=0.05)
    statistics = graph.listen(String, "/synchronizer/statistics")
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    points = graph.publisher(PointCloud2, "/points")
    graph.spin_until(lambda: bool(reports), "a report")
    assert "nobody publishes images on /cam/picture" in reports[-1].status[0].message
    camera = graph.publisher(Image, "/cam/picture")
    # A camera whose clock is 37 s behind; when all messages arrive at once, each scan meets the last image.
    behind = re.compile("3[567] s behind the scans")
    for number in range(100, 103):
        camera.publish(make_stamped(Image, (number - 37) * SECOND))
        points.publish(make_stamped(PointCloud2, number * SECOND))
    complete = lambda said: behind.search(said) is not None and json.loads(said)["scans"] == 3  # noqa: E731
    graph.spin_until(lambda: bool(statistics) and complete(statistics[-1].data), "the reason")
    content = json.loads(statistics[-1].data)
    assert content["pairs"] == 0 and content["images"] == [3]
    graph.spin_until(lambda: behind.search(reports[-1].status[0].message) is not None, "the reason on /diagnostics")


def test_looping_clock_resets_and_goes_on(graph):
    graph.make(SynchronizerNode, images="/cam/compressed", input_reliability="reliable")
    clouds = graph.listen(PointCloud2, "/synced/points")
    statistics = graph.listen(String, "/synchronizer/statistics")
    points, camera = graph.publisher(PointCloud2, "/points"), graph.publisher(CompressedImage, "/cam/compressed")
    for _ in range(2):
        for number in range(10, 13):
            points.publish(make_stamped(PointCloud2, number * SECOND))
            camera.publish(make_stamped(CompressedImage, number * SECOND))
    graph.spin_until(lambda: len(clouds) == 6, "six pairs of two laps")
    graph.spin_until(lambda: bool(statistics) and json.loads(statistics[-1].data)["clock_resets"] >= 1, "the reset")


def test_incompatible_qos_is_reported_by_name(graph):
    graph.make(SynchronizerNode, images="/cam/compressed", input_reliability="reliable")
    statistics = graph.listen(String, "/synchronizer/statistics")
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    graph.publisher(PointCloud2, "/points", best_effort, subscribers=0)
    named = "/probe publishes /points with reliability best_effort, this node asks for reliable"
    graph.spin_until(lambda: bool(statistics) and named in json.loads(statistics[-1].data)["explanation"], "publisher and policy by name")
    camera = graph.publisher(CompressedImage, "/cam/compressed", best_effort, subscribers=0)
    named_too = "/probe publishes /cam/compressed with reliability best_effort"
    graph.spin_until(lambda: named_too in json.loads(statistics[-1].data)["explanation"], "the camera's publisher too")
    graph.probe.destroy_publisher(camera)
    graph.spin_until(lambda: named_too not in json.loads(statistics[-1].data)["explanation"], "the end of what is no longer true")


@pytest.mark.parametrize("topic", ["/synced/points", "/synced/points_rgb", "/synced/camera/camera_info"])
def test_subscriber_that_hears_no_pairs_is_named(graph, topic):
    graph.make(SynchronizerNode, images="/cam/compressed")
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    graph.probe.create_subscription(CameraInfo if topic.endswith("info") else PointCloud2, topic, lambda _: None, latched)
    named = f"/probe asks for durability transient_local on {topic}, this node offers volatile"
    graph.spin_until(lambda: bool(reports) and named in reports[-1].status[0].message, "subscriber and policy by name", 20)
    # It hides no reason for missing pairs.
    graph.spin_until(lambda: "no scan has arrived" in reports[-1].status[0].message, "the reason", 20)


def test_camera_info_is_heard_however_it_is_offered(graph):
    node = graph.make(SynchronizerNode, images="/cam/picture", input_reliability="reliable")
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    infos = graph.publisher(CameraInfo, "/cam/camera_info", best_effort)

    def heard():
        infos.publish(CameraInfo(width=6))
        graph.spin_for(0.02)
        return node._cameras[0].info is not None

    graph.spin_until(heard, "CameraInfo of a best-effort publisher")


def test_camera_info_of_another_type_is_named(graph):
    graph.make(SynchronizerNode, images="/cam/picture")
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    with graph.stranger("other") as other:
        other.create_publisher(String, "/cam/camera_info", 1)
        named = "/other publishes /cam/camera_info as std_msgs/msg/String, this node reads sensor_msgs/msg/CameraInfo"
        graph.spin_until(lambda: bool(reports) and named in reports[-1].status[0].message, "publisher and type by name")


def test_an_ordinary_camera_info_is_no_reason_to_warn(graph):
    node = graph.make(SynchronizerNode, images="/cam/picture")
    said, statistics = graph.listen(Log, "/rosout"), graph.listen(String, "/synchronizer/statistics")
    graph.spin_until(lambda: graph.probe.count_publishers("/rosout") > 1, "the log of the node")
    infos = graph.publisher(CameraInfo, "/cam/camera_info")
    infos.publish(CameraInfo(width=6))
    graph.spin_until(lambda: node._cameras[0].info is not None, "CameraInfo")
    statistics.clear()
    graph.spin_until(lambda: len(statistics) == 2, "reports since then")
    assert not [message.msg for message in said if message.name == "synchronizer" and "incompatible" in message.msg]


@pytest.mark.parametrize(
    ("image", "info"),
    [
        ("/cam/image_raw", "/cam/camera_info"),
        ("/cam/image_raw/compressed", "/cam/camera_info"),
        ("/picture", "/camera_info"),
        ("image_raw", "camera_info"),
        ("cam/image_raw", "cam/camera_info"),
        ("image_raw/compressed", "camera_info"),
    ],
)
def test_camera_info_is_looked_for_beside_the_image(image, info):
    assert list_sources(None, image, "", "")[0].info_topic == info


@pytest.mark.parametrize(("topic", "focal", "colour"), [("/cam/image_raw", 40.0, 0xFF0000), ("/cam/image_rect", 50.0, 0x0000FF)])
def test_rectified_pictures_are_seen_by_the_rectified_camera(graph, topic, focal, colour):
    node = graph.make(SynchronizerNode, images=topic, input_reliability="reliable")
    node._extrinsics._missing = ""  # where tf2_msgs is not installed
    node._extrinsics._tree.add("lidar", "optical", np.eye(4))
    coloured = graph.listen(PointCloud2, "/synced/points_rgb")
    graph.spin_until(lambda: node._coloured_output.get_subscription_count() == 1, "the watcher")
    images, points = graph.publisher(Image, topic, subscribers=0), graph.publisher(PointCloud2, "/points")
    graph.spin_until(lambda: images.get_subscription_count() == 1, "the camera is known")
    info = make_stamped(CameraInfo, SECOND, "optical")
    info.width, info.height, info.distortion_model = 60, 40, "plumb_bob"
    info.k, info.p = [40.0, 0, 30, 0, 40, 20, 0, 0, 1], [50.0, 0, 30, 0, 0, 50, 20, 0, 0, 0, 1, 0]
    info.r = [-1.0, 0, 0, 0, -1, 0, 0, 0, 1]  # rectified pictures stand on their heads
    graph.publisher(CameraInfo, "/cam/camera_info").publish(info)
    graph.spin_until(lambda: node._cameras[0].info is not None, "CameraInfo")
    picture = make_stamped(Image, SECOND, "optical")
    picture.height, picture.width, picture.encoding, picture.step = 40, 60, "rgb8", 180
    picture.data = (bytes([255, 0, 0]) * 30 + bytes([0, 0, 255]) * 30) * 40
    images.publish(picture)
    points.publish(make_cloud(Scan(np.array([[-0.5, 0.0, 2.0]], np.float32), None, SECOND, "lidar"), graph.types))
    picture.header.stamp.sec = 2
    images.publish(picture)  # tells that the first was the nearest
    graph.spin_until(lambda: bool(coloured), "a coloured scan")
    offset = next(field.offset for field in coloured[0].fields if field.name == "rgb")
    assert int.from_bytes(bytes(coloured[0].data)[offset : offset + 3], "little") == colour
    assert node._cameras[0].intrinsics().K[0, 0] == focal


def test_wrong_set_ups_are_refused(graph, tmp_path):
    with pytest.raises(ConfigError, match="no camera given"):
        graph.make(SynchronizerNode)
    with pytest.raises(ConfigError, match="2 images, 1 camera_infos"):
        graph.make(SynchronizerNode, images="/a,/b", camera_infos="/i")
    with pytest.raises(ConfigError, match="cannot read"):
        graph.make(SynchronizerNode, rig=str(tmp_path / "none.yaml"))
    for lacking in ({"require_all": False}, {"deadline_s": 1.0}):
        with pytest.raises(ConfigError, match=f"policy 'exact' knows no {next(iter(lacking))}"):
            graph.make(SynchronizerNode, images="/a", policy="exact", **lacking)
    with pytest.raises(BagError, match="exists already"):
        graph.make(SynchronizerNode, images="/a", record=str(tmp_path))


@pytest.mark.parametrize(("policy", "offset_ns", "pairs"), [("exact", 0, 3), ("exact", 20_000_000, 0), ("approximate", 20_000_000, 3)])
def test_policies_of_message_filters(graph, policy, offset_ns, pairs):
    if importlib.util.find_spec("message_filters") is None:
        with pytest.raises(MissingPackageError, match="apt install ros-jazzy-message-filters"):
            graph.make(SynchronizerNode, images="/cam/compressed", policy="approximate")
        return
    node = graph.make(SynchronizerNode, images="/cam/compressed", policy=policy, input_reliability="reliable")
    clouds = graph.listen(PointCloud2, "/synced/points")
    statistics = graph.listen(String, "/synchronizer/statistics")
    points, camera = graph.publisher(PointCloud2, "/points"), graph.publisher(CompressedImage, "/cam/compressed", subscribers=2)
    graph.spin_until(lambda: points.get_subscription_count() > 0 and node._matcher is not None, "the matcher")
    graph.spin_until(lambda: bool(statistics), "a report to compare with")
    for number in range(1, 4):
        points.publish(make_stamped(PointCloud2, number * SECOND))
        camera.publish(make_stamped(CompressedImage, number * SECOND + offset_ns))
    if pairs:
        graph.spin_until(lambda: len(clouds) == 3, "three pairs")
        assert node.statistics.dt_ms(50) == pytest.approx(offset_ns * 1e-6)
    graph.spin_until(lambda: node.statistics.images == [3] and node.statistics.scans == 3, "the counts")
    if not pairs:
        graph.spin_until(lambda: bool(statistics) and "0 pairs of 3 scans: image stamps are" in statistics[-1].data, "the reason")
    assert len(clouds) == pairs
