"""What the synchronizer records: every pair as it came, whatever else goes wrong, and a word about what is missing."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import String

from xkd_ros.bags.calibration import rig_from_bag
from xkd_ros.bags.reader import Bag
from xkd_ros.core.rig import CameraConfig, LidarConfig, RigConfig, save_rig
from xkd_ros.core.se3 import make_transform, rotation_from_rpy
from xkd_ros.nodes.qos import LATCHED
from xkd_ros.nodes.restamp import header_frame_id
from xkd_ros.nodes.synchronizer import SynchronizerNode

pytestmark = pytest.mark.dds

SECOND = 10**9
CALIBRATED = CameraInfo(width=6, height=4, k=[5.0, 0.0, 3.0, 0.0, 5.0, 2.0, 0.0, 0.0, 1.0])
EMPTY = "lacks intrinsics: camera_info of 'optical' is empty (K all zero)"


def make_image(stamp, encoding="rgb8", frame="optical"):
    image = Image(height=4, width=6, encoding=encoding, step=18, data=bytes(72))
    image.header.stamp.sec, image.header.stamp.nanosec = divmod(stamp, SECOND)
    image.header.frame_id = frame
    return image


class Recording:
    """A synchronizer that records, fed pair by pair."""

    def __init__(self, graph, path, make_cloud, **parameters):
        self.path = path
        self._graph, self._make_cloud = graph, make_cloud
        given = {"images": "/img", "input_reliability": "reliable", "record": str(path), "deadline_s": 60.0, **parameters}
        self.node = graph.make(SynchronizerNode, **given)
        self.clouds = graph.listen(PointCloud2, "/synced/points")
        self.reports = graph.listen(DiagnosticArray, "/diagnostics")
        self.camera, self.points = graph.publisher(Image, "/img"), graph.publisher(PointCloud2, "/points")

    def send(self, stamp, cloud=None, frame="optical", lidar_frame="lidar"):
        """Send a pair, and the image that makes it final; wait until it went out."""
        count = len(self.clouds)
        self.camera.publish(make_image(stamp, frame=frame))
        self.points.publish(cloud or self._make_cloud(stamp=stamp, count=50, frame=lidar_frame))
        self.camera.publish(make_image(stamp + SECOND // 2, frame=frame))
        self._graph.spin_until(lambda: len(self.clouds) > count, "the pair")

    def wait(self, level, *words, without=()):
        """Wait for a report that says these words and not those; one that was sent before may still be on its way."""

        def said():
            status = self.reports[-1].status[0] if self.reports else DiagnosticStatus(level=DiagnosticStatus.STALE)
            return status.level == level and all(w in status.message for w in words) and not any(w in status.message for w in without)

        self._graph.spin_until(said, f"a report of level {level} with {words} without {without}")

    def counts(self):
        self.node.close()
        with Bag(self.path) as bag:
            return {name: topic.count for name, topic in bag.topics.items()}


@pytest.fixture
def record(graph, tmp_path, make_cloud_message):
    return lambda **parameters: Recording(graph, tmp_path / "out" / "pairs", make_cloud_message, **parameters)


@pytest.fixture
def rig(tmp_path):
    """A rig of one camera, and its file."""
    transform = make_transform(rotation_from_rpy(-1.6, 0.1, -1.5), [0.1, 0.2, 0.3])
    matrix = [5.0, 0.0, 3.0, 0.0, 5.0, 2.0, 0.0, 0.0, 1.0]
    camera = CameraConfig(name="front", topic="/img", width=6, height=4, K=matrix, cam_from_lidar=transform.reshape(-1).tolist())

    def save(frame):
        camera.frame_id = frame
        save_rig(RigConfig(name="rig", lidar=LidarConfig(topic="/points"), cameras=[camera]), tmp_path / "rig.yaml")
        return camera, tmp_path / "rig.yaml"

    return save


def test_a_malformed_cloud_is_recorded_like_any_other(record, make_cloud_message):
    recording = record()
    for number in range(1, 5):
        cloud = make_cloud_message(stamp=number * SECOND, count=50)
        cloud.row_step -= 4 if number == 2 else 0
        recording.send(number * SECOND, cloud)
    assert not recording.node.recording_problem
    assert recording.counts() == {"/points": 4, "/img": 4}


def test_watching_the_coloured_cloud_costs_no_pair(graph, record, make_cloud_message):
    recording = record(max_dt_s=5.0)
    graph.listen(PointCloud2, "/synced/points_rgb")
    graph.spin_until(lambda: recording.node._coloured_output.get_subscription_count() == 1, "the watcher")
    for number in range(1, 4):
        recording.points.publish(make_cloud_message(stamp=number * SECOND, count=50))
    graph.spin_until(lambda: recording.node.statistics.scans == 3, "three scans that wait")
    # One image decides all three scans, and it cannot be decoded.
    recording.camera.publish(make_image(3 * SECOND, encoding="no such encoding"))
    graph.spin_until(lambda: len(recording.clouds) == 3, "three pairs")
    assert recording.counts() == {"/points": 3, "/img": 3}


@pytest.mark.parametrize(("frame", "given", "lidar_frame"), [("", "camera_link", "lidar"), ("", "", "lidar"), ("optical", "", "")])
def test_extrinsics_of_a_rig_are_recorded_whatever_frames_are_named(record, rig, frame, given, lidar_frame):
    camera, path = rig(given)
    recording = record(rig=str(path))
    for number in range(1, 3):
        recording.send(number * SECOND, frame=frame, lidar_frame=lidar_frame)
    recording.wait(DiagnosticStatus.OK)
    assert not recording.node._recorder.lacks()
    assert recording.counts() == {"/points": 2, "/img": 2, "/camera_info": 2, "/tf_static": 1}
    (found,) = rig_from_bag(recording.path).cameras
    np.testing.assert_allclose(found.transform(), camera.transform(), atol=1e-9)
    assert found.K == camera.K


def test_a_rig_stands_before_a_driver_that_knows_no_calibration(graph, record, rig):
    camera, path = rig("camera_link")
    recording = record(rig=str(path))
    infos = graph.listen(CameraInfo, "/synced/front/camera_info")
    uncalibrated = CameraInfo(width=6, height=4)
    uncalibrated.header.frame_id = "elsewhere"
    graph.publisher(CameraInfo, "/camera_info").publish(uncalibrated)
    graph.spin_until(lambda: recording.node._cameras[0].info is not None, "CameraInfo")
    graph.spin_until(lambda: recording.node._cameras[0]._info_output.get_subscription_count() == 1, "the listener")
    for number in range(1, 3):
        recording.send(number * SECOND, frame="")
    graph.spin_until(lambda: len(infos) == 2, "CameraInfo of the pairs")
    assert infos[-1].k.tolist() == camera.K
    recording.wait(DiagnosticStatus.OK)
    assert recording.counts() == {"/points": 2, "/img": 2, "/camera_info": 2, "/tf_static": 1}
    (found,) = rig_from_bag(recording.path).cameras
    np.testing.assert_allclose(found.transform(), camera.transform(), atol=1e-9)
    assert found.K == camera.K


def test_what_a_recording_lacks_is_said_until_it_comes(graph, record):
    recording = record()
    recording.wait(DiagnosticStatus.WARN, "no scan has arrived", without=["lacks"])
    recording.send(1 * SECOND)
    recording.wait(DiagnosticStatus.WARN, "no CameraInfo on /camera_info", "nothing connects the scan with camera")
    infos = graph.publisher(CameraInfo, "/camera_info")
    for number, (info, words, without) in enumerate(((CameraInfo(width=6, height=4), EMPTY, "no CameraInfo"), (CALIBRATED, "", EMPTY)), 2):
        infos.publish(info)
        graph.spin_until(lambda info=info: np.array_equal(getattr(recording.node._cameras[0].info, "k", []), info.k), "CameraInfo")
        recording.send(number * SECOND)
        recording.wait(DiagnosticStatus.WARN, words, "nothing connects the scan with camera", without=[without])
    assert recording.counts() == {"/points": 3, "/img": 3, "/camera_info": 2}


def test_a_calibration_said_once_before_the_start_is_heard(graph, record):
    graph.publisher(CameraInfo, "/camera_info", LATCHED, subscribers=0).publish(CALIBRATED)
    recording = record()
    graph.spin_until(lambda: recording.node._cameras[0].info is not None, "CameraInfo")
    recording.send(1 * SECOND)
    recording.wait(DiagnosticStatus.WARN, "nothing connects the scan with camera", without=["no CameraInfo"])
    assert recording.counts() == {"/points": 1, "/img": 1, "/camera_info": 1}


def test_a_disk_that_is_nearly_full_ends_the_recording_and_keeps_it(record, monkeypatch):
    recording = record()
    for number in range(1, 3):
        recording.send(number * SECOND)
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 10**6, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    recording.send(3 * SECOND)
    assert os.listdir(recording.path.parent) == ["pairs"]
    recording.wait(DiagnosticStatus.WARN, "recording ended: no room left for", "2 pairs are kept", without=["lacks"])
    recording.send(4 * SECOND)
    assert recording.counts() == {"/points": 2, "/img": 2}


def test_a_disk_that_refuses_in_the_middle_leaves_nothing_half_written(record, monkeypatch):
    recording = record()
    recording.send(1 * SECOND)

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(recording.node._recorder._writer._writer, "write", refuse)
        recording.send(2 * SECOND)
    assert "nothing was kept" in recording.node.recording_problem and "pairs are kept" not in recording.node.recording_problem
    recording.send(3 * SECOND)
    recording.node.close()
    assert os.listdir(recording.path.parent) == []


def test_stamps_before_1970_do_not_cost_the_recording(record):
    recording = record()
    for number in (-5, -3):
        recording.send(number * SECOND)
    assert recording.counts() == {"/points": 2, "/img": 2}


def test_the_frame_is_read_from_serialized_messages():
    for given, frame in (("cam", "cam"), ("/cam", "cam"), ("", ""), ("kamera_ä", "kamera_ä")):
        raw = bytes(serialize_message(make_image(7, frame=given)))
        assert header_frame_id(Image, raw) == frame
    assert header_frame_id(Image, b"\0\0\0\0" + bytes(8) + b"\0\0\0\4cam\0" + bytes(30)) == "cam", "the other byte order"
    assert header_frame_id(Image, raw[:14]) == "" and header_frame_id(String, raw) == ""
