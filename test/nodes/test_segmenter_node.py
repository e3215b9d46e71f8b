"""The segmenter node around its clouds: lifecycle, models, parameters, diagnostics, times."""

from __future__ import annotations

import json

import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float32, String
from std_srvs.srv import SetBool

from xkd_ros.nodes.segmenter import SegmenterNode

pytestmark = pytest.mark.dds


def test_lifecycle_twice_round(graph, labelling, tiny_model, make_cloud_message):
    node = graph.make(SegmenterNode, model=str(tiny_model), autostart=False, **labelling.FAST)
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
        labelling.answer(points, labelled, make_cloud_message())
        change(Transition.TRANSITION_DEACTIVATE)
        graph.spin_until(lambda: points.get_subscription_count() == 0, "the end of the subscription")
        change(Transition.TRANSITION_CLEANUP)
        graph.spin_until(lambda: graph.probe.count_publishers("/semantic_points") == 0, "the end of the output topic")
    change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    assert state() == "finalized"


def test_set_enabled_and_stage_times(graph, labelling, tiny_model, make_cloud_message):
    times = {name: graph.listen(Float32, f"/segmenter/debug/processing_time/{name}_ms") for name in ("decode", "inference", "total")}
    latency = graph.listen(Float32, "/segmenter/debug/pipeline_latency_ms")
    node, points, labelled = labelling.start(model=str(tiny_model))
    debug = node._stream._debug
    graph.spin_until(lambda: debug._latency.get_subscription_count() > 0, "the listeners are known to the node")
    cloud = make_cloud_message(stamp=graph.probe.get_clock().now().nanoseconds)
    labelling.answer(points, labelled, cloud)
    graph.spin_until(lambda: all(times.values()) and bool(latency), "the times")
    assert 0 < times["decode"][0].data < times["total"][0].data and times["inference"][0].data > 0
    assert times["total"][0].data < latency[0].data < 20_000
    assert graph.call(SetBool, "/segmenter/set_enabled", SetBool.Request(data=False)).success
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    points.publish(cloud)
    graph.spin_until(lambda: node._stream.statistics.snapshot().skipped == 1, "a cloud that is not labelled")
    graph.spin_until(lambda: bool(reports) and "disabled" in labelling.report(reports)[1], "the report")
    assert len(labelled) == 1
    assert graph.call(SetBool, "/segmenter/set_enabled", SetBool.Request(data=True)).success
    labelling.answer(points, labelled, cloud)


def test_missing_model_is_an_error_not_a_dead_node(graph, labelling, tiny_model, make_cloud_message, tmp_path):
    node = graph.make(SegmenterNode, model=str(tmp_path / "nothing"), **labelling.FAST)
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    graph.spin_until(lambda: bool(reports), "a report")
    level, message, _ = labelling.report(reports)
    assert level == DiagnosticStatus.ERROR and str(tmp_path / "nothing") in message and "does not exist" in message
    # Given a model that exists, it starts after all.
    assert node.set_parameters([Parameter("model", value=str(tiny_model))])[0].successful
    labelling.answer(*labelling.connect(node), make_cloud_message())


def test_model_is_swapped_while_running(graph, labelling, tiny_model, make_model, make_cloud_message, tmp_path):
    node, points, labelled = labelling.start(model=str(tiny_model))
    infos = graph.listen(String, "/semantic_points/label_info", labelling.LATCHED)
    cloud = make_cloud_message()
    first = labelling.columns(labelling.answer(points, labelled, cloud))["label"].copy()
    assert node.set_parameters([Parameter("model", value=str(make_model("other", seed=7)))])[0].successful
    graph.spin_until(lambda: infos and json.loads(infos[-1].data)["model"] == "other", "the other model's description")
    assert (labelling.columns(labelling.answer(points, labelled, cloud))["label"] != first).any()
    # A folder without card is refused at once; one that breaks while loading leaves the old model at work.
    refused = node.set_parameters([Parameter("model", value=str(tmp_path))])[0]
    assert not refused.successful and "no card.json" in refused.reason
    broken = make_model("broken")
    (broken / "student.safetensors").write_bytes(b"not weights")
    before = node.get_parameter("model").value
    assert node.set_parameters([Parameter("model", value=str(broken))])[0].successful
    graph.spin_until(lambda: node.get_parameter("model").value == before, "the parameter goes back")
    labelling.answer(points, labelled, cloud)


def test_output_changes_while_running_and_nonsense_is_refused(graph, labelling, tiny_model, make_cloud_message):
    node, points, labelled = labelling.start(model=str(tiny_model))

    def set_one(name, value):
        return node.set_parameters([Parameter(name, value=value)])[0]

    for name, value, reason in (
        ("class_remap", "sofa:3", "names 'sofa', which the model does not know"),
        ("class_remap", "wall", "is not class:id"),
        ("label_field", "probability", "different"),
        ("output_profile", "ful", "did you mean 'full'"),
    ):
        result = set_one(name, value)
        assert not result.successful and reason in result.reason, result.reason
    assert set_one("output_profile", "autoware").successful
    assert labelling.answer(points, labelled, make_cloud_message()).point_step == 24
    assert set_one("output_profile", "full").successful and set_one("levelling", "fixed").successful and set_one("roll_deg", 5).successful
    assert "label" in [field.name for field in labelling.answer(points, labelled, make_cloud_message()).fields]
    assert node._stream.labeller.facts()["levelling"].startswith("fixed: tilt 5.0 deg")


def test_levelling_is_reported(graph, labelling, tiny_model, make_cloud_message):
    labelling.one(make_cloud_message(count=20_000), model=str(tiny_model))
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    graph.spin_until(lambda: bool(reports), "a report")
    rows = labelling.report(reports)[2]
    assert rows["levelling"].startswith("auto") and "tilt" in rows["levelling"]
    assert rows["backend"].startswith("torch") and rows["model"] == "tiny"


def test_backend_that_breaks_is_reported_and_the_node_lives(graph, labelling, tiny_model, make_cloud_message, monkeypatch):
    node, points, labelled = labelling.start(model=str(tiny_model))
    reports = graph.listen(DiagnosticArray, "/diagnostics")

    def break_down(*_):
        raise RuntimeError("device lost\nand more")

    with monkeypatch.context() as broken:
        broken.setattr(node._stream.labeller._segmenter, "segment", break_down)
        points.publish(make_cloud_message())
        graph.spin_until(lambda: node._stream.statistics.snapshot().failed == 1, "a failure")
    graph.spin_until(lambda: bool(reports) and labelling.report(reports)[2]["clouds failed"] == "1", "the report")
    level, message, _ = labelling.report(reports)
    assert level == DiagnosticStatus.ERROR and message == "no cloud gets through: RuntimeError: device lost and more"
    labelling.answer(points, labelled, make_cloud_message())


def test_diagnostics_go_on_without_a_simulated_clock(graph, labelling, tiny_model, make_cloud_message):
    node = graph.make(SegmenterNode, ["-p", "use_sim_time:=true"], model=str(tiny_model), **labelling.FAST)
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    points, labelled = labelling.connect(node)
    labelling.answer(points, labelled, make_cloud_message(stamp=5 * 10**9))
    graph.spin_until(lambda: bool(reports) and labelling.report(reports)[2]["clouds published"] == "1", "a report by wall time")
    clock = graph.publisher(Clock, "/clock")
    clock.publish(Clock(clock=Time(sec=5, nanosec=80_000_000)))
    graph.spin_until(lambda: node.get_clock().now().nanoseconds == 5_080_000_000, "the simulated time")
    labelling.answer(points, labelled, make_cloud_message(stamp=5 * 10**9))
    graph.spin_until(lambda: node._stream.statistics.snapshot().published == 2, "the counted answer")
    assert node._stream.statistics.snapshot().from_stamp_ms[2] == pytest.approx(80, abs=60)


def test_input_that_dies_is_reported(graph, labelling, tiny_model, make_cloud_message):
    node, points, labelled = labelling.start(model=str(tiny_model), stale_s=0.2)
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    labelling.answer(points, labelled, make_cloud_message())
    graph.spin_until(lambda: bool(reports) and "input is dead" in labelling.report(reports)[1], "the dead input")
    assert labelling.report(reports)[0] == DiagnosticStatus.ERROR
    graph.probe.destroy_publisher(points)
    graph.spin_until(lambda: "nobody publishes /points" in labelling.report(reports)[1], "the missing publisher")
    assert node._stream.statistics.snapshot().published == 1
