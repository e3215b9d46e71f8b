"""examples/static_odometry.py: KISS-ICP on a simulated walk among people, over topics and from a bag; errors against the truth."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from xkd_ros.bags.reader import Bag
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import ConfigError, MissingPackageError
from xkd_ros.core.labels import INDOOR12
from xkd_ros.core.types import Segmentation
from xkd_ros.msgs.labelled_cloud import LabelledCloudFormat
from xkd_ros.pipeline.simulation import load_truth
from xkd_ros.worlds.simulate import simulate

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "static_odometry.py"
SIZES_M = (50.0, 0.5, 0.5)
NAMES = dict(enumerate(INDOOR12.names))
PERSON = INDOOR12.names.index("person")
has_kiss = pytest.mark.skipif(importlib.util.find_spec("kiss_icp") is None, reason="kiss-icp is not installed: pip install kiss-icp")


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("static_odometry", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """Simulated recording, and beside it one with /semantic_points whose labels are the true ones."""
    folder = tmp_path_factory.mktemp("walks")
    simulate(60, "ouster16", 1.6, folder / "walk", pictures=False, walkers=12)
    truth, layout = load_truth(folder / "walk"), LabelledCloudFormat()
    with Bag(folder / "walk") as bag, BagWriter(folder / "labelled") as writer:
        for _, stamp, message in bag.messages(["/ouster/points"]):
            labels = truth.labels(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)
            answer = Segmentation(labels, np.ones(len(labels), np.float32), np.zeros(len(labels), np.float32))
            parts = layout.encode(message, answer, INDOOR12.palette)
            writer.write("/semantic_points", parts.to_message(message.header, bag.typestore.types), stamp)
    return folder


@has_kiss
def test_bag_with_truth_prints_errors_and_saves_trajectories(walk, tmp_path):
    command = [sys.executable, str(EXAMPLE), "--bag", str(walk / "labelled"), "--truth", str(walk / "walk"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    # The labels are the true ones: every person is removed, nothing else, and both ways of removing give one trajectory.
    assert "100.0% are removed, and 0.0% of the others" in lines[0] and lines[0].startswith("15 scans")
    errors = {line[:24].strip(): line[24:] for line in lines[2:5]}
    assert errors["without person"] == errors["without what truly is"]
    assert all(float(text.split()[0]) < 0.1 for text in errors.values())
    table = np.loadtxt(tmp_path / "all_points.tum")
    assert table.shape == (16, 8) and np.allclose(np.linalg.norm(table[:, 4:], axis=1), 1)
    assert np.allclose(np.diff(table[:, 0]), 0.1, atol=1e-3)
    moved = np.linalg.norm(table[-1, 1:4] - table[0, 1:4])
    truth = load_truth(walk / "walk")
    first, last = (truth.pose(stamp)[:3, 3] for stamp in (truth.stamps_ns[0], truth.stamps_ns[-1]))
    assert abs(moved - np.linalg.norm(last - first)) < 0.2


@has_kiss
def test_removed_points_never_reach_the_odometry(example, walk):
    """A wall of false people right before the lidar changes only the odometry that sees it."""
    comparison = example.Comparison(["person"], 0.0, None, SIZES_M)
    undisturbed = example.Comparison(["person"], 0.0, None, SIZES_M)
    for each in (comparison, undisturbed):
        each.name_classes(NAMES)
    with Bag(walk / "labelled") as bag:
        for number, (_, _, message) in enumerate(bag.messages(["/semantic_points"])):
            undisturbed.add(message)
            step = message.point_step
            cells = message.data.reshape(-1, step).copy()
            cells[:4000, :12] = np.frombuffer(np.float32([2.0 + 0.3 * number, 1.0, 0.5]).tobytes(), np.uint8)
            offset = next(field.offset for field in message.fields if field.name == "label")
            cells[:4000, offset : offset + 4] = np.frombuffer(np.uint32(PERSON).tobytes(), np.uint8)
            message.data = cells.reshape(-1)
            comparison.add(message)
    whole, without = (np.stack(odometry.poses) for odometry in comparison.odometries.values())
    assert np.isfinite(without).all() and not np.allclose(whole, without)
    assert not np.allclose(whole, np.stack(undisturbed.odometries["all points"].poses))


def test_a_margin_takes_neighbours_too(example):
    points = np.array([[1, 0, 0], [1.05, 0, 0], [1.3, 0, 0], [np.nan, 0, 0], [0, 0, 0]], np.float32)
    chosen, nowhere = np.array([1, 0, 0, 0, 0], bool), np.array([0, 0, 0, 1, 1], bool)
    for margin, expected in ((0.0, [1, 0, 0, 0, 0]), (0.1, [1, 1, 0, 0, 0]), (0.5, [1, 1, 1, 0, 0])):
        assert example.widen(points, chosen, nowhere, margin).tolist() == [bool(value) for value in expected]


@has_kiss
@pytest.mark.dds
def test_over_topics(graph, example, walk):
    comparison = example.Comparison(["person"], 0.0, load_truth(walk / "walk"), SIZES_M)
    graph.add(example.StaticOdometryNode(comparison, context=graph.context))
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    infos = graph.publisher(String, "/semantic_points/label_info", latched)
    infos.publish(String(data=json.dumps({"classes": [{"id": number, "name": name} for number, name in NAMES.items()]})))
    clouds = graph.publisher(PointCloud2, "/semantic_points")
    graph.spin_until(lambda: comparison.names == NAMES, "the names")
    from rclpy.serialization import deserialize_message

    with Bag(walk / "labelled") as bag:
        for number, record in enumerate(bag.records(["/semantic_points"]), 1):
            clouds.publish(deserialize_message(bytes(record.raw), PointCloud2))
            graph.spin_until(lambda: len(comparison.stamps_ns) == number, "the scan")  # noqa: B023
    assert "without person" in comparison.report() and number == 16


def test_what_cannot_work_is_one_line(example, walk, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kiss_icp.config", None)
    with pytest.raises(MissingPackageError, match="pip install kiss-icp"):
        example.KissOdometry(*SIZES_M)
    monkeypatch.setattr(example, "KissOdometry", lambda *sizes: None)
    with pytest.raises(ConfigError, match="no class ghost"):
        example.Comparison(["ghost"], 0.0, None, SIZES_M).name_classes(NAMES)
    done = subprocess.run([sys.executable, str(EXAMPLE), "--truth", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1 and "no readable truth.json" in done.stderr and "Traceback" not in done.stderr
