"""Filtered topics over DDS: what moves is gone, the rest is there byte for byte, and nobody pays who does not listen."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2

from xkd_ros.core.card import ModelCard
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.labels import INDOOR12
from xkd_ros.core.types import Segmentation
from xkd_ros.nodes.output_layout import make_layout
from xkd_ros.nodes.segmenter_parameters import SEGMENTER

pytestmark = pytest.mark.dds
NAMES = INDOOR12.names
CARD = ModelCard(name="any")


def filters(**values):
    defaults = {name: spec.default for name, spec in SEGMENTER.specs.items()}
    return make_layout(SimpleNamespace(**{**defaults, **values}), CARD).filters


def test_filters_by_class_probability_and_number():
    labels = np.array([0, 1, 10, 255, 1, 7, 10, 1], np.uint8)
    sure = np.array([0.9, 0.2, 0.9, 0.0, 0.8, 0.4, 0.1, 0.7], np.float32)
    answer = Segmentation(labels, sure, np.zeros(8, np.float32))

    def chosen(topic, **values):
        return np.flatnonzero(filters(**values)[topic].choose(answer)).tolist()

    assert chosen("~/static_points") == [0, 1, 4, 5, 7] and chosen("~/ground") == [1, 4, 7]
    assert chosen("~/static_points", static_without="person, table,wall") == [1, 4, 7]
    assert chosen("~/ground", ground_classes="") == [] and chosen("~/static_points", static_without="") == [0, 1, 2, 4, 5, 6, 7]
    assert chosen("~/static_points", filtered_min_probability=0.5) == [0, 4, 7]
    assert chosen("~/static_points", filtered_every=2) == [0, 4, 7] and chosen("~/ground", filtered_every=100) == [1]
    with pytest.raises(ConfigError, match="ground_classes names 'grass'"):
        filters(ground_classes="grass")


def test_topics_carry_the_chosen_points(graph, labelling, tiny_model, make_cloud_message):
    node, points, labelled = labelling.start(model=str(tiny_model))
    static, ground = graph.listen(PointCloud2, "/segmenter/static_points"), graph.listen(PointCloud2, "/segmenter/ground")
    for topic in ("/segmenter/static_points", "/segmenter/ground"):
        graph.spin_until(lambda topic=topic: graph.probe.count_publishers(topic) > 0, topic)
    # The random model names what it will: leave out its commonest class.
    whole = labelling.columns(labelling.answer(points, labelled, make_cloud_message()))
    common = NAMES[int(np.bincount(whole["label"], minlength=256)[:12].argmax())]
    node.set_parameters([Parameter("static_without", value=common), Parameter("ground_classes", value=common)])
    cloud = labelling.answer(points, labelled, make_cloud_message(stamp=2_000))
    graph.spin_until(lambda: all(heard and heard[-1].header == cloud.header for heard in (static, ground)), "both topics")
    whole, label = labelling.columns(cloud), NAMES.index(common)
    assert (labelling.columns(static[-1]) == whole[(whole["label"] != label) & (whole["label"] != 255)]).all()
    assert (labelling.columns(ground[-1]) == whole[whole["label"] == label]).all() and ground[-1].width > 100
    assert static[-1].height == 1 and static[-1].point_step == cloud.point_step
    assert not node.set_parameters([Parameter("static_without", value="ghost")])[0].successful


def test_a_filtered_topic_alone_is_reason_to_label(graph, tiny_model, make_cloud_message, labelling):
    from xkd_ros.nodes.segmenter import SegmenterNode

    node = graph.make(SegmenterNode, **{**labelling.FAST, "model": str(tiny_model)})
    static = graph.listen(PointCloud2, "/segmenter/static_points")
    points = graph.publisher(PointCloud2, "/points")
    graph.spin_until(lambda: node._stream.subscribers == 1, "the listener is known to the node")
    points.publish(make_cloud_message())
    graph.spin_until(lambda: len(static) == 1, "static points")
    # NaN and zeros of the input, which are no measurements, are not among them.
    assert static[0].width <= 3998 and np.isfinite(labelling.columns(static[0])["x"]).all()
