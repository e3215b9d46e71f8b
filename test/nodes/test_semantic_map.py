"""The example map: what a subscriber makes of the labelled clouds, with a robot that moves."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from xkd_ros.bags.ply import read_ply
from xkd_ros.core.labels import INDOOR12
from xkd_ros.core.se3 import make_transform
from xkd_ros.core.types import Segmentation
from xkd_ros.msgs.labelled_cloud import LabelledCloudFormat

pytestmark = pytest.mark.dds
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "semantic_map.py"
FLOOR, PERSON = INDOOR12.names.index("floor"), INDOOR12.names.index("person")


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("semantic_map", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_voxels_take_the_label_with_most_probability(example, tmp_path):
    voxels = example.VoxelMap(0.5)
    voxels.add(np.array([[0.1, 0.1, 0.1]] * 3), np.array([1, 2, 2], np.uint8), np.array([0.9, 0.3, 0.3]))
    voxels.add(np.array([[-0.1, 0.1, 0.1], [0.2, 0.2, 0.2]]), np.array([3, 2], np.uint8), np.array([0.5, 0.4]))
    assert len(voxels) == 2 and sorted(voxels.labels()) == [2, 3]
    voxels.save(tmp_path / "map.ply", INDOOR12.palette)
    table = read_ply(tmp_path / "map.ply")
    assert {name: len(values) for name, values in table.items()}["x"] == 2
    row = int(np.flatnonzero(table["label"] == 3)[0])
    assert [table[axis][row] for axis in "xyz"] == [-0.25, 0.25, 0.25]
    assert [table[name][row] for name in ("red", "green", "blue")] == list(INDOOR12.colours[3])


def test_map_follows_odometry_and_leaves_people_out(graph, example, make_cloud_message, tmp_path):
    # The lidar sits one metre above the base.
    node = graph.add(example.SemanticMapNode(0.1, make_transform(np.eye(3), (0, 0, 1.0)), True, context=graph.context))
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    infos = graph.publisher(String, "/semantic_points/label_info", latched)
    classes = [{"id": number, "name": name, "colour": INDOOR12.colours[number]} for number, name in enumerate(INDOOR12.names)]
    infos.publish(String(data=json.dumps({"classes": classes})))
    odometry, clouds = graph.publisher(Odometry, "/odom"), graph.publisher(PointCloud2, "/semantic_points")
    for step in range(3):
        pose = Odometry()
        pose.header.stamp.sec = step + 1
        pose.pose.pose.position.x, pose.pose.pose.orientation.w = 10.0 * step, 1.0
        odometry.publish(pose)
        cloud = make_cloud_message(stamp=(step + 1) * 10**9, count=50)
        labels = np.full(50, FLOOR, np.uint8)
        labels[:2], labels[2:10] = 255, PERSON
        answer = Segmentation(labels, np.ones(50, np.float32), np.zeros(50, np.float32))
        parts = LabelledCloudFormat().encode(cloud, answer, INDOOR12.palette)
        graph.spin_until(lambda: len(node._poses) == step + 1, "the pose")  # noqa: B023
        clouds.publish(parts.to_message(cloud.header, graph.types))
        graph.spin_until(lambda: node.scans == step + 1, "the scan")  # noqa: B023
    unknown_time = make_cloud_message(stamp=99 * 10**9, count=50)
    parts = LabelledCloudFormat().encode(unknown_time, answer, INDOOR12.palette)
    clouds.publish(parts.to_message(unknown_time.header, graph.types))
    graph.spin_until(lambda: node.without_pose == 1, "the scan without a pose")
    node.map.save(tmp_path / "map.ply", node.palette)
    table = read_ply(tmp_path / "map.ply")
    assert (table["label"] == FLOOR).all() and (table["red"] == INDOOR12.colours[FLOOR][0]).all()
    # Three rooms of 8 m, 10 m apart, raised by the mounting.
    assert table["x"].min() < -3 and 22 < table["x"].max() < 25 and -0.3 < table["z"].min() < 0.1
