"""The segmenter node over real DDS, with a real (random) network: what ROS.md promises about clouds, topics and lifecycle."""

from __future__ import annotations

import json

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float32, String
from std_srvs.srv import SetBool

from xkd_ros.core.labels import INDOOR12
from xkd_ros.msgs.header import stamp_ns
from xkd_ros.nodes.segmenter import SegmenterNode

pytestmark = pytest.mark.dds

LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
FAST = {"backend": "torch", "num_threads": 1, "input_reliability": "reliable", "input_depth": 50, "output_depth": 50}


def columns(cloud):
    """Fields of a cloud as a structured array, (N,)."""
    codes = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
    kind = np.dtype(
        {
            "names": [field.name for field in cloud.fields],
            "formats": [codes[field.datatype] for field in cloud.fields],
            "offsets": [field.offset for field in cloud.fields],
            "itemsize": cloud.point_step,
        }
    )
    return np.frombuffer(cloud.data, kind)


def report_of(messages):
    """The last report as (level, message, rows)."""
    status = messages[-1].status[0]
    return status.level, status.message, {row.key: row.value for row in status.values}


def start(graph, **parameters):
    """Start a segmenter; return it, a publisher it hears, and the list of what it answers."""
    node = graph.make(SegmenterNode, **{**FAST, **parameters})
    return node, *connect(graph, node)


def connect(graph, node):
    """Make a publisher that the node hears and a listener that it knows."""
    labelled = graph.listen(PointCloud2, "/semantic_points")
    points = graph.publisher(PointCloud2, "/points")
    graph.spin_until(lambda: node._stream is not None and node._stream.subscribers > 0, "the listener is known to the node")
    return points, labelled


def answer(graph, points, labelled, cloud):
    """Send a cloud and return the answer."""
    count = len(labelled)
    points.publish(cloud)
    graph.spin_until(lambda: len(labelled) > count, "a labelled cloud")
    return labelled[-1]


def label_one(graph, cloud, **parameters):
    """Start a segmenter, send one cloud, and return what comes out."""
    _, points, labelled = start(graph, **parameters)
    return answer(graph, points, labelled, cloud)


def test_full_profile_keeps_every_byte_and_names_every_point(graph, tiny_model, make_cloud_message):
    cloud = make_cloud_message(stamp=1_700_000_000_123_456_789, frame="os_lidar")
    labelled = label_one(graph, cloud, model=str(tiny_model))
    assert stamp_ns(labelled) == 1_700_000_000_123_456_789 and labelled.header.frame_id == "os_lidar"
    assert (labelled.height, labelled.width, labelled.is_dense) == (cloud.height, cloud.width, cloud.is_dense)
    names = [field.name for field in labelled.fields]
    assert names == ["x", "y", "z", "intensity", "ring", "label", "probability", "entropy", "rgb"]
    before, after = columns(cloud), columns(labelled)
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


def test_autoware_profile_with_its_own_classes(graph, tiny_model, make_cloud_message):
    cloud = make_cloud_message()
    infos = graph.listen(String, "/semantic_points/label_info", LATCHED)
    labelled = label_one(graph, cloud, model=str(tiny_model), output_profile="autoware", class_remap="wall:7, floor:0, 10:3")
    layout = [(field.name, field.offset, field.datatype) for field in labelled.fields]
    assert layout == [("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("class_id", 12, 2), ("probability", 16, 7), ("entropy", 20, 7)]
    assert labelled.point_step == 24
    assert set(np.unique(columns(labelled)["class_id"])) <= {7, 0, 3, 255}
    np.testing.assert_array_equal(columns(labelled)["x"], columns(cloud)["x"])
    description = json.loads(infos[-1].data)
    assert {entry["id"]: entry["name"] for entry in description["classes"]} == {7: "wall", 0: "floor", 3: "person"}
    assert description["field"] == "class_id"


def test_intensity_profile_writes_the_label_there(graph, tiny_model, make_cloud_message):
    labelled = label_one(graph, make_cloud_message(), model=str(tiny_model), output_profile="intensity")
    assert [field.name for field in labelled.fields] == ["x", "y", "z", "intensity", "ring"]
    values = columns(labelled)["intensity"]
    assert list(values[:2]) == [255, 255] and set(np.unique(values[2:])) <= set(range(12))


def test_label_field_name_and_type(graph, tiny_model, make_cloud_message):
    labelled = label_one(graph, make_cloud_message(), model=str(tiny_model), label_field="class_id", label_type="UINT8")
    assert columns(labelled)["class_id"].dtype == np.uint8


def test_empty_cloud_comes_back_empty_and_labelled(graph, tiny_model, make_cloud_message):
    cloud = make_cloud_message(count=0)
    labelled = label_one(graph, cloud, model=str(tiny_model))
    assert labelled.width * labelled.height == 0 and len(labelled.data) == 0
    assert "label" in [field.name for field in labelled.fields]


def test_malformed_clouds_are_rejected_with_the_reason_and_the_node_lives(graph, tiny_model, make_cloud_message):
    node, points, labelled = start(graph, model=str(tiny_model))
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
    graph.spin_until(lambda: bool(reports) and report_of(reports)[2]["clouds rejected"] == "3", "three rejections")
    reasons = " ".join(key for key in report_of(reports)[2] if key.startswith("reason: "))
    assert "no field 'z'" in reasons and "INT32" in reasons
    answer(graph, points, labelled, make_cloud_message())


def test_label_info_is_latched_for_late_joiners(graph, tiny_model, make_cloud_message):
    label_one(graph, make_cloud_message(), model=str(tiny_model))
    late = graph.listen(String, "/semantic_points/label_info", LATCHED)
    graph.spin_until(lambda: len(late) == 1, "the latched description")
    description = json.loads(late[0].data)
    assert [entry["name"] for entry in description["classes"]] == list(INDOOR12.names)
    assert [tuple(entry["colour"]) for entry in description["classes"]] == list(INDOOR12.colours)
    assert description["unknown"]["id"] == 255 and description["model"] == "tiny" and len(description["card_hash"]) == 16


def test_nobody_listens_nothing_is_computed(graph, tiny_model, make_cloud_message):
    node = graph.make(SegmenterNode, model=str(tiny_model), **FAST)
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    points = graph.publisher(PointCloud2, "/points")
    for number in range(5):
        points.publish(make_cloud_message(stamp=number))
    graph.spin_until(lambda: bool(reports) and report_of(reports)[2]["clouds not needed"] == "5", "five clouds not needed")
    level, message, rows = report_of(reports)
    assert level == DiagnosticStatus.OK and message.startswith("idle") and rows["clouds published"] == "0"
    assert node._stream.statistics.snapshot().stage_ms == {}


def test_overload_keeps_the_newest_and_counts_every_cloud(graph, make_model, make_cloud_message):
    node, points, labelled = start(graph, model=str(make_model("slow", depth=24)))
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


def test_lifecycle_twice_round(graph, tiny_model, make_cloud_message):
    node = graph.make(SegmenterNode, model=str(tiny_model), autostart=False, **FAST)
    labelled = graph.listen(PointCloud2, "/semantic_points")

    def change(transition):
        request = ChangeState.Request()
        request.transition.id = transition
        assert graph.call(ChangeState, "/segmenter/change_state", request).success

    def state():
        return graph.call(GetState, "/segmenter/get_state", GetState.Request()).current_state.label

    assert state() == "unconfigured"
    points = graph.publisher(PointCloud2, "/points", subscribers=0)
    for _ in range(2):
        labelled.clear()
        change(Transition.TRANSITION_CONFIGURE)
        assert state() == "inactive"
        assert graph.probe.count_subscribers("/points") == 0
        change(Transition.TRANSITION_ACTIVATE)
        graph.spin_until(lambda: node._stream.subscribers and points.get_subscription_count(), "the connections")
        answer(graph, points, labelled, make_cloud_message())
        change(Transition.TRANSITION_DEACTIVATE)
        graph.spin_until(lambda: points.get_subscription_count() == 0, "the end of the subscription")
        change(Transition.TRANSITION_CLEANUP)
        graph.spin_until(lambda: graph.probe.count_publishers("/semantic_points") == 0, "the end of the output topic")
    change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert state() == "finalized"


def test_set_enabled_and_stage_times(graph, tiny_model, make_cloud_message):
    times = {name: graph.listen(Float32, f"/segmenter/debug/processing_time/{name}_ms") for name in ("decode", "inference", "total")}
    latency = graph.listen(Float32, "/segmenter/debug/pipeline_latency_ms")
    node, points, labelled = start(graph, model=str(tiny_model))
    debug = node._stream._debug
    graph.spin_until(lambda: debug._latency.get_subscription_count() > 0, "the listeners are known to the node")
    cloud = make_cloud_message(stamp=graph.probe.get_clock().now().nanoseconds)
    answer(graph, points, labelled, cloud)
    graph.spin_until(lambda: all(times.values()) and bool(latency), "the times")
    assert 0 < times["decode"][0].data < times["total"][0].data and times["inference"][0].data > 0
    assert times["total"][0].data < latency[0].data < 20_000
    assert graph.call(SetBool, "/segmenter/set_enabled", SetBool.Request(data=False)).success
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    points.publish(cloud)
    graph.spin_until(lambda: node._stream.statistics.snapshot().skipped == 1, "a cloud that is not labelled")
    graph.spin_until(lambda: bool(reports) and "disabled" in report_of(reports)[1], "the report")
    assert len(labelled) == 1
    assert graph.call(SetBool, "/segmenter/set_enabled", SetBool.Request(data=True)).success
    answer(graph, points, labelled, cloud)


def test_missing_model_is_an_error_not_a_dead_node(graph, tiny_model, make_cloud_message, tmp_path):
    node = graph.make(SegmenterNode, model=str(tmp_path / "nothing"), **FAST)
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    graph.spin_until(lambda: bool(reports), "a report")
    level, message, _ = report_of(reports)
    assert level == DiagnosticStatus.ERROR and str(tmp_path / "nothing") in message and "does not exist" in message
    # Given a model that exists, it starts after all.
    assert node.set_parameters([Parameter("model", value=str(tiny_model))])[0].successful
    answer(graph, *connect(graph, node), make_cloud_message())


def test_model_is_swapped_while_running(graph, tiny_model, make_model, make_cloud_message, tmp_path):
    node, points, labelled = start(graph, model=str(tiny_model))
    infos = graph.listen(String, "/semantic_points/label_info", LATCHED)
    cloud = make_cloud_message()
    first = columns(answer(graph, points, labelled, cloud))["label"].copy()
    assert node.set_parameters([Parameter("model", value=str(make_model("other", seed=7)))])[0].successful
    graph.spin_until(lambda: infos and json.loads(infos[-1].data)["model"] == "other", "the other model's description")
    assert (columns(answer(graph, points, labelled, cloud))["label"] != first).any()
    # A folder without card is refused at once; one that breaks while loading leaves the old model at work.
    refused = node.set_parameters([Parameter("model", value=str(tmp_path))])[0]
    assert not refused.successful and "no card.json" in refused.reason
    broken = make_model("broken")
    (broken / "student.safetensors").write_bytes(b"not weights")
    before = node.get_parameter("model").value
    assert node.set_parameters([Parameter("model", value=str(broken))])[0].successful
    graph.spin_until(lambda: node.get_parameter("model").value == before, "the parameter goes back")
    answer(graph, points, labelled, cloud)


def test_levelling_is_reported(graph, tiny_model, make_cloud_message):
    label_one(graph, make_cloud_message(count=20_000), model=str(tiny_model))
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    graph.spin_until(lambda: bool(reports), "a report")
    rows = report_of(reports)[2]
    assert rows["levelling"].startswith("auto") and "tilt" in rows["levelling"]
    assert rows["backend"].startswith("torch") and rows["model"] == "tiny"


def test_backend_that_breaks_is_reported_and_the_node_lives(graph, tiny_model, make_cloud_message, monkeypatch):
    node, points, labelled = start(graph, model=str(tiny_model))
    reports = graph.listen(DiagnosticArray, "/diagnostics")

    def break_down(*_):
        raise RuntimeError("device lost\nand more")

    with monkeypatch.context() as broken:
        broken.setattr(node._stream.labeller._segmenter, "segment", break_down)
        points.publish(make_cloud_message())
        graph.spin_until(lambda: node._stream.statistics.snapshot().failed == 1, "a failure")
    graph.spin_until(lambda: bool(reports) and report_of(reports)[2]["clouds failed"] == "1", "the report")
    level, message, _ = report_of(reports)
    assert level == DiagnosticStatus.ERROR and message == "no cloud gets through: RuntimeError: device lost and more"
    answer(graph, points, labelled, make_cloud_message())


def test_diagnostics_go_on_without_a_simulated_clock(graph, tiny_model, make_cloud_message):
    node = graph.make(SegmenterNode, ["-p", "use_sim_time:=true"], model=str(tiny_model), **FAST)
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    points, labelled = connect(graph, node)
    answer(graph, points, labelled, make_cloud_message(stamp=5 * 10**9))
    graph.spin_until(lambda: bool(reports) and report_of(reports)[2]["clouds published"] == "1", "a report by wall time")
    clock = graph.publisher(Clock, "/clock")
    clock.publish(Clock(clock=Time(sec=5, nanosec=80_000_000)))
    graph.spin_until(lambda: node.get_clock().now().nanoseconds == 5_080_000_000, "the simulated time")
    answer(graph, points, labelled, make_cloud_message(stamp=5 * 10**9))
    graph.spin_until(lambda: node._stream.statistics.snapshot().published == 2, "the counted answer")
    assert node._stream.statistics.snapshot().from_stamp_ms[2] == pytest.approx(80, abs=60)


def test_input_that_dies_is_reported(graph, tiny_model, make_cloud_message):
    node, points, labelled = start(graph, model=str(tiny_model), stale_s=0.2)
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    answer(graph, points, labelled, make_cloud_message())
    graph.spin_until(lambda: bool(reports) and "input is dead" in report_of(reports)[1], "the dead input")
    assert report_of(reports)[0] == DiagnosticStatus.ERROR
    graph.probe.destroy_publisher(points)
    graph.spin_until(lambda: "nobody publishes /points" in report_of(reports)[1], "the missing publisher")
    assert node._stream.statistics.snapshot().published == 1
