"""The segmenter with the odometry of a robot, over real DDS: scans are joined where poses say so, and labelled alone where none does."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.labels import INDOOR12
from xkd_ros.core.se3 import make_transform, quaternion_from_rotation, rotation_from_rpy
from xkd_ros.msgs.cloud import decode_cloud
from xkd_ros.nodes.odometry import OdometryPoses
from xkd_ros.nodes.segmenter import SegmenterNode
from xkd_ros.nodes.segmenter_parameters import parse_base_from_lidar
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.runtime.temporal import TemporalFusion

pytestmark = pytest.mark.dds
FIRST_NS, SCAN_NS = 1_700_000_000_000_000_000, 100_000_000
PLAIN = {"levelling": "off", "intensity": "off", "temporal_fusion": True, "stale_s": 3600.0}
MOUNTED = "0.1, 0, 0.3, 0, 0, 90"


@pytest.fixture(scope="module")
def sure_model(tmp_path_factory) -> Path:
    """A small random model that is sure of what it says: what is said in doubt hardly counts."""
    import torch

    from xkd_ros.core.card import ModelCard, NetworkConfig
    from xkd_ros.nets.checkpoint import save_student
    from xkd_ros.nets.student import seeded_student

    network = NetworkConfig(depth=2, width=16)
    student = seeded_student(network, 1)
    with torch.no_grad():
        student.head.weight.mul_(20)
    folder = tmp_path_factory.mktemp("sure") / "tiny"
    save_student(student, ModelCard(name="tiny", network=network), folder)
    return folder


def odom_from_base(stamp: int) -> np.ndarray:
    """A robot that drives 0.3 m/s and turns."""
    seconds = 1e-9 * (stamp - FIRST_NS)
    return make_transform(rotation_from_rpy(0, 0, 0.2 * seconds), (0.3 * seconds, -1.0, 0.0))


def message_at(stamp: int, child: str, pose: np.ndarray | None = None) -> Odometry:
    pose = odom_from_base(stamp) if pose is None else pose
    message = Odometry(child_frame_id=child)
    message.header.frame_id = "odom"
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
    place, turn = message.pose.pose.position, message.pose.pose.orientation
    place.x, place.y, place.z = pose[:3, 3].tolist()
    turn.x, turn.y, turn.z, turn.w = quaternion_from_rotation(pose[:3, :3]).tolist()
    return message


def drive(graph, node, odometry, first: int, last: int, child: str = "base_link") -> None:
    """Publish the odometry of a stretch, and wait until the node has heard its end."""
    for stamp in range(first, last + 1, 20_000_000):
        odometry.publish(message_at(stamp, child))
    graph.spin_until(lambda: bool(node._poses._rows) and node._poses._rows[-1][0] >= last, "the odometry")


def wait_for_report(graph, labelling, reports, level: bytes, words: str = "", known: range = range(101)) -> None:
    """Wait until /diagnostics has this level, these words in its sentence, and this percentage of known points."""

    def said() -> bool:
        if not reports:
            return False
        found, sentence, rows = labelling.report(reports)
        fusion = rows.get("temporal fusion", "none")
        return found == level and words in sentence and fusion.endswith("voxels kept") and int(fusion.split(" %")[0]) in known

    graph.spin_until(said, f"a report of level {level!r} with '{words}' and {known}")


def test_scans_are_joined_along_the_odometry(graph, labelling, sure_model, make_cloud_message):
    node, points, labelled = labelling.start(model=str(sure_model), base_from_lidar=MOUNTED, **PLAIN)
    odometry, reports = graph.publisher(Odometry, "/odometry"), graph.listen(DiagnosticArray, "/diagnostics")
    drive(graph, node, odometry, FIRST_NS, FIRST_NS + 5 * SCAN_NS)

    segmenter, fusion = Segmenter.load(sure_model, "torch", 1), TemporalFusion(INDOOR12.names)
    base_from_lidar = make_transform(rotation_from_rpy(0, 0, np.pi / 2), (0.1, 0, 0.3))
    changed = 0
    for number in range(4):
        stamp = FIRST_NS + number * SCAN_NS + 7_000_000  # between two poses
        cloud = make_cloud_message(stamp=stamp, seed=number)
        answer = labelling.columns(labelling.answer(points, labelled, cloud))
        scan = decode_cloud(cloud)
        fuse = partial(fusion, world_from_lidar=odom_from_base(stamp) @ base_from_lidar, stamp_ns=stamp)
        alone, fused = (segmenter.segment(scan.points_m, None, np.eye(3), each) for each in (None, fuse))
        # Poses are interpolated: a few points at the border of a voxel may be in the next one.
        assert (answer["label"] == fused.labels).mean() > 0.98
        assert np.isclose(answer["probability"], fused.probability, atol=1e-3).mean() > 0.97
        changed += not np.allclose(fused.probability, alone.probability, atol=1e-3)
    assert changed == 3, "of the first scan nothing was known"
    wait_for_report(graph, labelling, reports, DiagnosticStatus.OK, known=range(10, 101))
    graph.spin_until(lambda: "fusion ms (median)" in labelling.report(reports)[2], "the time of the fusion")


def test_without_a_pose_scans_are_labelled_alone_and_it_says_why(graph, labelling, sure_model, make_cloud_message):
    node, points, labelled = labelling.start(model=str(sure_model), **PLAIN)
    odometry, reports = graph.publisher(Odometry, "/odometry"), graph.listen(DiagnosticArray, "/diagnostics")
    segmenter = Segmenter.load(sure_model, "torch", 1)

    def answer_alone(stamp: int) -> None:
        cloud = make_cloud_message(stamp=stamp, seed=3)
        answer = labelling.columns(labelling.answer(points, labelled, cloud))
        alone = segmenter.segment(decode_cloud(cloud).points_m, None, np.eye(3))
        np.testing.assert_allclose(answer["probability"], alone.probability, atol=1e-5)

    def warned(words: str) -> None:
        wait_for_report(graph, labelling, reports, DiagnosticStatus.WARN, f"labels are not fused: {words}", range(1))

    answer_alone(FIRST_NS)
    warned("no odometry has arrived on /odometry")
    drive(graph, node, odometry, FIRST_NS, FIRST_NS + SCAN_NS, child="lidar")
    answer_alone(FIRST_NS + 3 * SCAN_NS)
    warned("the newest pose on /odometry is 0.200 s older than the scan")
    odometry.publish(message_at(FIRST_NS + 50 * SCAN_NS, "lidar"))
    drive(graph, node, odometry, FIRST_NS + 50 * SCAN_NS, FIRST_NS + 52 * SCAN_NS, child="lidar")
    answer_alone(FIRST_NS + 48 * SCAN_NS)
    warned("/odometry begins after the scan")
    odometry.publish(message_at(FIRST_NS + 53 * SCAN_NS, "lidar", make_transform(np.eye(3), (40.0, 0, 0))))
    drive(graph, node, odometry, FIRST_NS + 54 * SCAN_NS, FIRST_NS + 55 * SCAN_NS, child="lidar")
    answer_alone(FIRST_NS + 53 * SCAN_NS - SCAN_NS // 4)
    warned("/odometry has a hole or a jump")
    # With a pose again it is fused again.
    for later in (0, 1_000):
        labelling.answer(points, labelled, make_cloud_message(stamp=FIRST_NS + 55 * SCAN_NS - 2_000 + later))
    wait_for_report(graph, labelling, reports, DiagnosticStatus.OK, known=range(99, 101))


def test_where_the_lidar_sits_is_never_guessed(graph, labelling, sure_model, make_cloud_message):
    node, points, labelled = labelling.start(model=str(sure_model), **PLAIN)
    odometry, reports = graph.publisher(Odometry, "/odometry"), graph.listen(DiagnosticArray, "/diagnostics")
    drive(graph, node, odometry, FIRST_NS, FIRST_NS + 2 * SCAN_NS, child="base_link")
    for number in range(2):
        labelling.answer(points, labelled, make_cloud_message(stamp=FIRST_NS + number * SCAN_NS))
    wait_for_report(graph, labelling, reports, DiagnosticStatus.WARN, "not fused: nobody says where 'lidar' sits on 'base_link'", range(1))
    tf2_msgs = pytest.importorskip("tf2_msgs.msg", reason="TF cannot be heard without tf2_msgs")
    geometry_msgs = pytest.importorskip("geometry_msgs.msg")
    transform = geometry_msgs.TransformStamped(child_frame_id="lidar")
    transform.header.frame_id, transform.transform.rotation.w = "base_link", 1.0
    graph.publisher(tf2_msgs.TFMessage, "/tf_static", labelling.LATCHED).publish(tf2_msgs.TFMessage(transforms=[transform]))
    graph.spin_until(lambda: bool(node._poses._extrinsics._tree.edges), "the transform")
    labelling.answer(points, labelled, make_cloud_message(stamp=FIRST_NS + 2 * SCAN_NS))
    assert node._poses.problem == ""


def test_movable_classes_must_be_the_models(graph, labelling, tiny_model):
    graph.make(SegmenterNode, model=str(tiny_model), movable_classes="person, cat", **PLAIN, **labelling.FAST)
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    wanted = "movable_classes names 'cat', which the model does not know"
    graph.spin_until(lambda: bool(reports) and wanted in labelling.report(reports)[1], wanted)
    assert labelling.report(reports)[0] == DiagnosticStatus.ERROR


@pytest.mark.parametrize("text", ["1, 2, 3", "a, 0, 0, 0, 0, 0", "0, 0, 0, 0, 0, nan", "0 0 0 0 0 0"])
def test_a_mounting_is_six_numbers(text):
    with pytest.raises(ConfigError, match="is not six numbers"):
        parse_base_from_lidar(text)
    assert parse_base_from_lidar(" ") is None
    np.testing.assert_allclose(parse_base_from_lidar(MOUNTED) @ [1, 0, 0, 1], [0.1, 1, 0.3, 1], atol=1e-12)


def hear(poses: OdometryPoses, stamps: Iterable[int], child: str = "lidar", x_m: float = 0.0) -> None:
    for stamp in stamps:
        poses._on_odometry(message_at(stamp, child, make_transform(np.eye(3), (x_m, 0, 0)) @ odom_from_base(stamp)))


def test_odometry_that_was_overtaken_costs_no_pose(graph):
    poses = OdometryPoses(graph.probe, None)
    steps = [FIRST_NS + number * 50_000_000 for number in range(10)]
    hear(poses, [*steps[1:], steps[0]])
    for stamp in (FIRST_NS + 10_000_000, FIRST_NS + 420_000_000):
        np.testing.assert_allclose(poses.pose(stamp, "lidar"), odom_from_base(stamp), atol=1e-3)
    assert poses.pose(FIRST_NS + 470_000_000, "lidar") is None
    assert poses.problem == "the newest pose on /odometry is 0.020 s older than the scan"


def test_odometry_of_a_bag_that_begins_anew_replaces_that_of_the_lap_before(graph):
    poses = OdometryPoses(graph.probe, None)
    hear(poses, range(FIRST_NS, FIRST_NS + 3 * 10**9, 50_000_000))
    hear(poses, range(FIRST_NS, FIRST_NS + 300_000_000, 50_000_000), x_m=40.0)
    assert poses.pose(FIRST_NS + 100_000_000, "lidar")[0, 3] > 39
    assert poses.pose(FIRST_NS + 10**9, "lidar") is None and "older than the scan" in poses.problem


@pytest.mark.parametrize("lidar", ["os_lidar", ""])
def test_odometry_that_names_no_moving_frame_is_not_taken_for_the_lidars(graph, lidar):
    poses = OdometryPoses(graph.probe, None)
    hear(poses, (FIRST_NS, FIRST_NS + SCAN_NS), child="")
    assert poses.pose(FIRST_NS + SCAN_NS // 2, lidar) is None
    assert poses.problem.startswith(f"nobody says where '{lidar}' sits on ''")


def test_a_mounting_from_tf_goes_from_the_lidar_to_the_moving_frame(graph, monkeypatch):
    poses, mounting = OdometryPoses(graph.probe, None), parse_base_from_lidar(MOUNTED)
    monkeypatch.setattr(poses._extrinsics, "_missing", "")  # TF is heard by who has tf2_msgs
    poses._extrinsics._tree.add("base_link", "lidar", mounting)
    hear(poses, (FIRST_NS, FIRST_NS + SCAN_NS), child="base_link")
    np.testing.assert_allclose(poses.pose(FIRST_NS, "lidar"), odom_from_base(FIRST_NS) @ mounting, atol=1e-9)
