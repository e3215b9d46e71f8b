"""The segmenter node over real DDS, with a real (random) network: what is promised about the clouds that go through it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String

from xkd_ros.core.labels import INDOOR12
from xkd_ros.msgs.header import stamp_ns
from xkd_ros.nodes.labeller import Labeller
from xkd_ros.nodes.segmenter import SegmenterNode
from xkd_ros.nodes.segmenter_parameters import SEGMENTER

pytestmark = pytest.mark.dds


def test_full_profile_keeps_every_byte_and_names_every_point(graph, labelling, tiny_model, make_cloud_message):
    cloud = make_cloud_message(stamp=1_700_000_000_123_456_789, frame="os_lidar")
    labelled = labelling.one(cloud, model=str(tiny_model))
    assert stamp_ns(labelled) == 1_700_000_000_123_456_789 and labelled.header.frame_id == "os_lidar"
    assert (labelled.height, labelled.width, labelled.is_dense) == (cloud.height, cloud.width, cloud.is_dense)
    names = [field.name for field in labelled.fields]
    assert names == ["x", "y", "z", "intensity", "ring", "label", "probability", "entropy", "rgb"]
    before, after = labelling.columns(cloud), labelling.columns(labelled)
    for name in before.dtype.names:
        assert before[name].tobytes() == after[name].tobytes(), name
    assert after["label"].dtype == np.uint32
    assert list(after["label"][:2]) == [255, 255] and list(after["probability"][:2]) == [0, 0]
    assert set(np.unique(after["label"][2:])) <= set(range(12))
    assert (after["probability"][2:] >= 1 / 12 - 1e-5).all() and (after["probability"] <= 1).all()
    assert (after["entropy"] >= 0).all() and (after["entropy"] <= 1 + 1e-5).all()
    packed = after["rgb"].view(np.uint32)
    red, green, blue = INDOOR12.palette[after["label"]].astype(np.uint32).T
    assert (packed == red << 16 | green << 8 | blue).all()


def test_autoware_profile_with_its_own_classes(graph, labelling, tiny_model, make_cloud_message):
    cloud = make_cloud_message()
    infos = graph.listen(String, "/semantic_points/label_info", labelling.LATCHED)
    labelled = labelling.one(cloud, model=str(tiny_model), output_profile="autoware", class_remap="wall:7, floor:0, 10:3")
    layout = [(field.name, field.offset, field.datatype) for field in labelled.fields]
    assert layout == [("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("class_id", 12, 2), ("probability", 16, 7), ("entropy", 20, 7)]
    assert labelled.point_step == 24
    assert set(np.unique(labelling.columns(labelled)["class_id"])) <= {7, 0, 3, 255}
    np.testing.assert_array_equal(labelling.columns(labelled)["x"], labelling.columns(cloud)["x"])
    description = json.loads(infos[-1].data)
    assert {entry["id"]: entry["name"] for entry in description["classes"]} == {7: "wall", 0: "floor", 3: "person"}
    assert description["field"] == "class_id"


def test_classes_of_one_output_id_add_their_probabilities(graph, labelling, tiny_model, make_cloud_message):
    alone = "wall:0, floor:1, ceiling:2, door:3, window:4, column:5, stairs:6, table:7, chair:8, furniture:9, person:10, clutter:11"
    remaps = (alone, "wall:0, floor:1, ceiling:2, door:3, window:3, column:0, stairs:3, table:3, chair:3, furniture:3, person:3, clutter:3")
    node, points, labelled = labelling.start(model=str(tiny_model), class_remap=alone)
    probability = []
    for remap in remaps:
        assert node.set_parameters([Parameter("class_remap", value=remap)])[0].successful
        answer = labelling.columns(labelling.answer(points, labelled, make_cloud_message()))
        assert set(np.unique(answer["label"][2:])) <= set(range(12 if remap == alone else 4))
        probability.append(answer["probability"][2:])
    assert (probability[1] >= probability[0] - 1e-6).all() and probability[1].mean() > probability[0].mean() + 0.1


def test_intensity_profile_writes_the_label_there(graph, labelling, tiny_model, make_cloud_message):
    labelled = labelling.one(make_cloud_message(), model=str(tiny_model), output_profile="intensity")
    assert [field.name for field in labelled.fields] == ["x", "y", "z", "intensity", "ring"]
    values = labelling.columns(labelled)["intensity"]
    assert list(values[:2]) == [255, 255] and set(np.unique(values[2:])) <= set(range(12))


def test_label_field_name_and_type(graph, labelling, tiny_model, make_cloud_message):
    labelled = labelling.one(make_cloud_message(), model=str(tiny_model), label_field="class_id", label_type="UINT8")
    assert labelling.columns(labelled)["class_id"].dtype == np.uint8


def test_empty_cloud_comes_back_empty_and_labelled(graph, labelling, tiny_model, make_cloud_message):
    cloud = make_cloud_message(count=0)
    labelled = labelling.one(cloud, model=str(tiny_model))
    assert labelled.width * labelled.height == 0 and len(labelled.data) == 0
    assert "label" in [field.name for field in labelled.fields]


def test_malformed_clouds_are_rejected_with_the_reason_and_the_node_lives(graph, labelling, tiny_model, make_cloud_message):
    node, points, labelled = labelling.start(model=str(tiny_model))
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    no_z = make_cloud_message()
    no_z.fields = [field for field in no_z.fields if field.name != "z"]
    cut_off = make_cloud_message()
    cut_off.data = cut_off.data[: len(cut_off.data) // 2]
    integers = make_cloud_message()
    integers.fields[0].datatype = 5
    for number, cloud in enumerate((no_z, cut_off, integers)):
        points.publish(cloud)
        graph.spin_until(lambda: node._stream.statistics.snapshot().rejected == number + 1, "a rejection")  # noqa: B023
    graph.spin_until(lambda: bool(reports) and labelling.report(reports)[2]["clouds rejected"] == "3", "three rejections")
    reasons = " ".join(key for key in labelling.report(reports)[2] if key.startswith("reason: "))
    assert "no field 'z'" in reasons and "INT32" in reasons
    labelling.answer(points, labelled, make_cloud_message())


def test_label_info_is_latched_for_late_joiners(graph, labelling, tiny_model, make_cloud_message):
    labelling.one(make_cloud_message(), model=str(tiny_model))
    late = graph.listen(String, "/semantic_points/label_info", labelling.LATCHED)
    graph.spin_until(lambda: len(late) == 1, "the latched description")
    description = json.loads(late[0].data)
    assert [entry["name"] for entry in description["classes"]] == list(INDOOR12.names)
    assert [tuple(entry["colour"]) for entry in description["classes"]] == list(INDOOR12.colours)
    assert description["unknown"]["id"] == 255 and description["model"] == "tiny" and len(description["card_hash"]) == 16


def test_nobody_listens_nothing_is_computed(graph, labelling, tiny_model, make_cloud_message):
    node = graph.make(SegmenterNode, model=str(tiny_model), **labelling.FAST)
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    points = graph.publisher(PointCloud2, "/points")
    for number in range(5):
        points.publish(make_cloud_message(stamp=number))
    graph.spin_until(lambda: bool(reports) and labelling.report(reports)[2]["clouds not needed"] == "5", "five clouds not needed")
    level, message, rows = labelling.report(reports)
    assert level == DiagnosticStatus.OK and message.startswith("idle") and rows["clouds published"] == "0"
    assert node._stream.statistics.snapshot().stage_ms == {}


def test_overload_keeps_the_newest_and_counts_every_cloud(graph, labelling, make_model, make_cloud_message):
    node, points, labelled = labelling.start(model=str(make_model("slow", depth=24)))
    sent = 30
    for number in range(sent):
        points.publish(make_cloud_message(stamp=10_000 + number, count=12_000, seed=number))
        graph.executor.spin_once(timeout_sec=0.01)
    graph.spin_until(lambda: labelled and stamp_ns(labelled[-1]) == 10_000 + sent - 1, "the newest cloud of all")
    graph.spin_until(lambda: node._stream.pending == 0, "the end of its work")
    counts = node._stream.statistics.snapshot()
    stamps = [stamp_ns(cloud) for cloud in labelled]
    assert stamps == sorted(stamps)
    assert counts.arrived == sent and counts.lost_in_transport == counts.failed == counts.rejected == counts.skipped == 0
    assert counts.published == len(stamps) and counts.replaced > 0 and counts.published + counts.replaced == sent


@pytest.mark.parametrize("nowhere", [0.0, np.nan])
def test_intensities_of_non_returns_are_not_among_those_of_the_sensor(tiny_model, make_cloud_message, labelling, nowhere):
    values = {name: spec.default for name, spec in SEGMENTER.specs.items()}
    values |= {"model": str(tiny_model), "backend": "torch", "num_threads": 1}
    learnt = []
    for extra in (0, 3000):
        cloud = make_cloud_message(count=4000 + extra)
        table = labelling.columns(cloud).copy()
        for axis in "xyz":
            table[axis] = np.where(np.arange(len(table)) < 4000, np.linspace(1, 3, len(table)), nowhere)
        table["intensity"] = np.where(np.arange(len(table)) < 4000, 100 + np.arange(len(table)) % 40, 0)
        cloud.data = table.tobytes()
        labeller = Labeller.load(SimpleNamespace(**values))
        labeller.label(cloud)
        learnt.append(labeller.facts()["intensity mean/std of this sensor"])
    assert learnt[0] == learnt[1] != labeller.facts()["intensity mean/std of the model"]
