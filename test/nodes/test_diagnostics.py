"""Diagnostics that tell the truth: each trouble is caused, over real DDS, and must be told with its reason, and only while it lasts."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import GetState
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2

from xkd_ros.core.card import IntensityConfig, ModelCard, load_card, save_card
from xkd_ros.nodes import verdict
from xkd_ros.nodes.frame_statistics import FrameSnapshot
from xkd_ros.nodes.segmenter import SegmenterNode
from xkd_ros.nodes.verdict import SegmenterState, Verdict
from xkd_ros.points.intensity import scale_problem

pytestmark = pytest.mark.dds

BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Reports:
    """The diagnostics of one segmenter, and waiting for what they say."""

    def __init__(self, graph, labelling):
        self._graph, self._labelling = graph, labelling
        self._messages = graph.listen(DiagnosticArray, "/diagnostics")

    @property
    def last(self):
        return self._labelling.report(self._messages)

    def wait(self, level, *words, meanwhile=lambda: None):
        """Do something again and again until a report has this level and these words."""
        end = time.monotonic() + 60
        while not (self._messages and self.last[0] == level and all(word in self.last[1] for word in words)):
            assert time.monotonic() < end, f"waited for {level!r} {words}, got {self.last[:2] if self._messages else 'no report'}"
            meanwhile()
            self._graph.spin_for(0.1)

    def feed(self, points, make, level, *words):
        """Send clouds until a report says so."""
        self.wait(level, *words, meanwhile=lambda: points.publish(make()))


@pytest.fixture
def reports(graph, labelling):
    return Reports(graph, labelling)


def with_card(folder, **changes) -> str:
    """Change the card of a model folder."""
    card = load_card(folder)
    save_card(ModelCard.model_validate({**card.model_dump(), **changes}), folder)
    return str(folder)


def test_publisher_that_cannot_be_heard_is_named_with_the_policy(graph, labelling, reports, tiny_model, make_cloud_message):
    node = graph.make(SegmenterNode, model=str(tiny_model), **labelling.FAST)
    driver = graph.publisher(PointCloud2, "/points", BEST_EFFORT, subscribers=0)
    reports.wait(DiagnosticStatus.ERROR, "/probe publishes /points with reliability best_effort, this node asks for reliable")
    assert "set the input reliability parameter of this node to best_effort" in reports.last[1]
    assert "best_effort" in reports.last[2]["middleware"]
    graph.probe.destroy_publisher(driver)
    reports.wait(DiagnosticStatus.WARN, "nobody publishes /points")
    points, labelled = labelling.connect(node)
    labelling.answer(points, labelled, make_cloud_message())
    reports.feed(points, make_cloud_message, DiagnosticStatus.OK, "Hz")


def test_publisher_of_another_type_is_named(graph, labelling, reports, tiny_model):
    graph.make(SegmenterNode, model=str(tiny_model), **labelling.FAST)
    with graph.stranger("camera") as camera:
        camera.create_publisher(Image, "/points", 1)
        words = "/camera publishes /points as sensor_msgs/msg/Image, this node reads sensor_msgs/msg/PointCloud2"
        reports.wait(DiagnosticStatus.ERROR, words)


@pytest.mark.parametrize("topic", ["/semantic_points", "/segmenter/static_points"])
def test_subscriber_that_hears_nothing_is_not_called_idle(graph, labelling, reports, tiny_model, make_cloud_message, topic):
    graph.make(SegmenterNode, model=str(tiny_model), **labelling.FAST)
    graph.probe.create_subscription(PointCloud2, topic, lambda _: None, LATCHED)
    points = graph.publisher(PointCloud2, "/points")
    words = f"/probe asks for durability transient_local on {topic}, this node offers volatile"
    reports.feed(points, make_cloud_message, DiagnosticStatus.WARN, words)


def test_hanging_backend_is_told_while_the_node_answers(graph, labelling, reports, tiny_model, make_cloud_message, monkeypatch):
    node, points, labelled = labelling.start(model=str(tiny_model), stale_s=0.5)
    labelling.answer(points, labelled, make_cloud_message())
    free = threading.Event()
    segment = node._stream.labeller._segmenter.segment

    def hang(*arguments):
        assert free.wait(120)
        return segment(*arguments)

    monkeypatch.setattr(node._stream.labeller._segmenter, "segment", hang)
    reports.feed(points, make_cloud_message, DiagnosticStatus.ERROR, "the backend hangs: one cloud has been in work for")
    assert graph.call(GetState, "/segmenter/get_state", GetState.Request()).current_state.label == "active"
    free.set()
    reports.feed(points, make_cloud_message, DiagnosticStatus.OK, "Hz")
    counts = labelling.settled(node)
    assert counts.failed == 0 and counts.published + counts.replaced == counts.arrived


def test_the_reason_told_is_the_newest_one(graph, labelling, reports, tiny_model, make_cloud_message):
    _, points, _ = labelling.start(model=str(tiny_model))

    def without(name):
        cloud = make_cloud_message()
        cloud.fields = [field for field in cloud.fields if field.name != name]
        return cloud

    for _ in range(5):
        points.publish(without("x"))
    reports.feed(points, lambda: without("x"), DiagnosticStatus.ERROR, "no cloud gets through", "no field 'x'")
    reports.feed(points, lambda: without("z"), DiagnosticStatus.ERROR, "no cloud gets through", "no field 'z'")
    reports.feed(points, make_cloud_message, DiagnosticStatus.OK, "Hz")


def test_wrong_scale_of_intensity_is_told(graph, labelling, reports, make_model, make_cloud_message):
    model = with_card(make_model("dim"), intensity=IntensityConfig(low=0, high=1, mean=0.3, std=0.2).model_dump())
    _, points, _ = labelling.start(model=model, intensity="card")
    reports.feed(points, make_cloud_message, DiagnosticStatus.WARN, "is another scale than 0 .. 1 of the model", "set intensity to online")
    assert reports.last[2]["intensity mean/std of the model"] == "0.3 / 0.2"


def test_scale_of_intensity_learnt_online_is_no_trouble(graph, labelling, reports, make_model, make_cloud_message):
    model = with_card(make_model("dimmer"), intensity=IntensityConfig(low=0, high=1, mean=0.3, std=0.2).model_dump())
    _, points, _ = labelling.start(model=model)
    reports.feed(points, make_cloud_message, DiagnosticStatus.OK, "Hz")


def test_unusual_entropy_is_told(graph, labelling, reports, make_model, make_cloud_message):
    model = with_card(make_model("sure"), metrics={"entropy": {"mean": 0.1}})  # a random network is not that sure of anything
    _, points, _ = labelling.start(model=model)
    reports.feed(points, make_cloud_message, DiagnosticStatus.WARN, "the model is unsure here", "in training 0.10")
    assert float(reports.last[2]["mean entropy"]) > 0.25 and reports.last[2]["mean entropy in training"] == "0.100"


def test_clouds_without_a_measurement_are_told(graph, labelling, reports, tiny_model, make_cloud_message):
    _, points, labelled = labelling.start(model=str(tiny_model))

    def blind():
        cloud = make_cloud_message()
        data = np.frombuffer(bytes(cloud.data), np.uint8).reshape(-1, cloud.point_step).copy()
        data[:, :12] = np.frombuffer(np.full(3, np.nan, np.float32).tobytes(), np.uint8)
        cloud.data = data.tobytes()
        return cloud

    reports.feed(points, blind, DiagnosticStatus.WARN, "every point is unknown")
    assert set(labelling.columns(labelled[-1])["label"]) == {255}


def test_slow_lidar_does_not_hide_that_every_cloud_fails(monkeypatch):
    seconds = iter(range(100))
    monkeypatch.setattr(verdict.time, "monotonic", lambda: next(seconds))
    state = SegmenterState("active", "", True, 1, "/points", 0.0, 10.0, subscribers=1)

    def counted(arrived, published):
        counts = {"failed": arrived - published, "rejected": 0, "replaced": 0, "skipped": 0, "lost_in_transport": 0}
        return FrameSnapshot(arrived, published, **counts, reasons={}, rate_in_hz=0.5, rate_out_hz=0, from_arrival_ms=None,
                             from_stamp_ms=None, since_arrival_s=1.0, points=9, last_reason="broken")  # fmt: skip

    judge = Verdict().judge
    # A cloud every other second: the seconds between are about the same trouble.
    levels = [judge(state, counted(1 + second // 2, 0)) for second in range(10)]
    assert set(levels) == {(DiagnosticStatus.ERROR, "no cloud gets through: broken")}
    # From now on every cloud gets through; what is over is forgotten after three seconds.
    levels = [judge(state, counted(6 + second // 2, 1 + second // 2))[0] for second in range(6)]
    assert levels[0] == DiagnosticStatus.WARN and levels[-1] == DiagnosticStatus.OK
    # Counters that begin again belong to a node that was configured anew.
    assert judge(state, counted(1, 1))[0] == DiagnosticStatus.OK


def judge_at_once(target_hz=0.0, rate_hz=10.0, size_bytes=100_000, **counts):
    """Judge a node that labels for somebody, by its counters since the start."""
    every = {"arrived": 0, "published": 0, "failed": 0, "rejected": 0, "replaced": 0, "skipped": 0, "lost_in_transport": 0, **counts}
    frames = FrameSnapshot(**every, reasons={}, rate_in_hz=rate_hz, rate_out_hz=rate_hz, from_arrival_ms=None, from_stamp_ms=None,
                           since_arrival_s=0.1, points=9, size_bytes=size_bytes)  # fmt: skip
    return Verdict().judge(SegmenterState("active", "", True, 1, "/points", target_hz, 10.0, subscribers=1), frames)


def test_clouds_lost_on_the_way_are_told_with_what_helps():
    level, sentence = judge_at_once(arrived=90, lost_in_transport=10)
    assert level == DiagnosticStatus.WARN and sentence.startswith("10 of the last 100 clouds were lost on the way here; this process")
    assert "fastdds_large_clouds.xml" in judge_at_once(arrived=90, lost_in_transport=10, size_bytes=1_000_000)[1]
    assert judge_at_once(arrived=96, lost_in_transport=4) == (DiagnosticStatus.OK, "10.0 Hz")


def test_fewer_clouds_than_wanted_are_told():
    level, sentence = judge_at_once(target_hz=20.0, arrived=100, published=50, replaced=50)
    assert level == DiagnosticStatus.WARN and sentence.startswith("10.0 Hz out of 20.0 Hz wanted (50 of 100 clouds replaced by newer ones")
    assert judge_at_once(target_hz=11.0, arrived=100)[0] == DiagnosticStatus.OK


@pytest.mark.parametrize(("unit", "fits"), [(1.0, True), (1.3, True), (1 / 255, False), (256.0, False)])
def test_scales(unit, fits):
    card = IntensityConfig(low=0, high=255, mean=50, std=35)
    values = np.random.default_rng(0).gamma(2.0, 25.0, 5000).clip(0, 255).astype(np.float32) * np.float32(unit)
    assert (scale_problem(values, card) == "") is fits
    assert scale_problem(values, IntensityConfig(per_scan=True)) == ""
    assert scale_problem(np.full(5, np.nan, np.float32), card) == ""


def test_failed_transition_is_told_with_its_reason_and_can_be_tried_again(graph, labelling, reports, tiny_model, make_cloud_message):
    node = graph.make(SegmenterNode, model=str(tiny_model), autostart=False, **labelling.FAST)
    foreign = node.create_publisher(Image, "semantic_points", 1)  # takes the name of the output with another type
    node.trigger_configure()
    reports.wait(DiagnosticStatus.ERROR, "on_configure failed: unexpected RCLError")
    node.destroy_publisher(foreign)
    graph.spin_until(lambda: graph.probe.count_publishers("/semantic_points") == 0, "the end of the foreign topic")
    node.trigger_configure()
    node.trigger_activate()
    points, labelled = labelling.connect(node)
    labelling.answer(points, labelled, make_cloud_message())
    reports.feed(points, make_cloud_message, DiagnosticStatus.OK, "Hz")
