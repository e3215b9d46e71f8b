"""Models and parameters that change while others are still being loaded or at work: what the parameters say is what runs."""

from __future__ import annotations

import json
import threading

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter
from std_msgs.msg import String

from xkd_ros.core.card import ModelCard, NetworkConfig
from xkd_ros.core.labels import STRUCT4
from xkd_ros.nets.checkpoint import save_student
from xkd_ros.nets.student import seeded_student
from xkd_ros.nodes import model_loader
from xkd_ros.nodes.segmenter import SegmenterNode

pytestmark = pytest.mark.dds


class Hold:
    """Loads of models that wait until the test lets them go."""

    def __init__(self, load):
        self._load, self._free = load, threading.Event()
        self.begun = []

    def __call__(self, values):
        self.begun.append(values.model)
        assert self._free.wait(120)
        return self._load(values)

    def let_go(self):
        self._free.set()


@pytest.fixture
def hold(monkeypatch):
    """Make loads wait from now on; call it."""

    def begin():
        held = Hold(model_loader.load_labeller)
        monkeypatch.setattr(model_loader, "load_labeller", held)
        return held

    return begin


@pytest.fixture
def broken(make_model):
    folder = make_model("broken")
    (folder / "student.safetensors").write_bytes(b"not weights")
    return folder


@pytest.fixture
def four(tmp_path):
    """A model of other classes, none of them a person."""
    network = NetworkConfig(depth=2, width=16, classes=len(STRUCT4))
    save_student(seeded_student(network, 0), ModelCard(name="four", network=network, labels=STRUCT4), tmp_path / "four")
    return tmp_path / "four"


def put(node, **values):
    return node.set_parameters_atomically([Parameter(name, value=value) for name, value in values.items()])


def running(node):
    return node._stream.labeller.card.name


def test_parameters_set_while_the_first_model_loads(graph, labelling, tiny_model, make_cloud_message, hold):
    held = hold()
    node = graph.make(SegmenterNode, model=str(tiny_model), **labelling.FAST)
    graph.spin_until(lambda: held.begun, "the load")
    assert put(node, enabled=False, output_profile="autoware", lowest_share=0.5).successful
    held.let_go()
    points, labelled = labelling.connect(node)
    points.publish(make_cloud_message())
    graph.spin_until(lambda: node._stream.statistics.snapshot().skipped == 1, "the cloud is left out")
    assert put(node, enabled=True).successful and node._stream.lowest_share == 0.5
    assert labelling.answer(points, labelled, make_cloud_message()).point_step == 24 and len(labelled) == 1


def test_parameters_set_while_another_model_loads(graph, labelling, tiny_model, make_model, make_cloud_message, hold):
    node, points, labelled = labelling.start(model=str(tiny_model))
    infos = graph.listen(String, "/semantic_points/label_info", labelling.LATCHED)
    held = hold()
    assert put(node, model=str(make_model("other", seed=7))).successful
    graph.spin_until(lambda: held.begun, "the load")
    assert put(node, output_profile="autoware").successful
    held.let_go()
    graph.spin_until(lambda: infos and json.loads(infos[-1].data)["model"] == "other", "the other model")
    assert json.loads(infos[-1].data)["field"] == "class_id"
    assert labelling.answer(points, labelled, make_cloud_message()).point_step == 24


def test_nothing_is_heard_of_a_request_that_a_newer_one_follows(graph, labelling, tiny_model, make_model, broken, hold):
    node, _, _ = labelling.start(model=str(tiny_model))
    held = hold()
    good = make_model("good", seed=3)
    assert put(node, model=str(broken)).successful
    graph.spin_until(lambda: held.begun, "the load")
    assert put(node, model=str(good)).successful
    held.let_go()
    graph.spin_until(lambda: running(node) == "good", "the newer one")
    assert not node._loader.busy and node.get_parameter("model").value == str(good)


def test_nothing_is_heard_of_a_request_from_before_a_cleanup(graph, labelling, tiny_model, make_model, hold):
    node, _, _ = labelling.start(model=str(tiny_model))
    held = hold()
    assert put(node, model=str(make_model("late", seed=3))).successful
    graph.spin_until(lambda: held.begun, "the load")
    node.trigger_deactivate()
    node.trigger_cleanup()
    assert put(node, model=str(tiny_model)).successful
    held.let_go()
    node.trigger_configure()
    graph.spin_until(lambda: not node._loader.busy, "the end of the load")
    graph.spin_for(0.1)
    assert running(node) == "tiny" and node.get_parameter("model").value == str(tiny_model)


def test_model_asked_for_after_a_manager_was_quicker_than_autostart(graph, labelling, tiny_model, make_model, hold, monkeypatch):
    load, held = model_loader.load_labeller, hold()
    node = graph.make(SegmenterNode, model=str(tiny_model), **labelling.FAST)
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    graph.spin_until(lambda: held.begun, "the load of the automatic start")
    monkeypatch.setattr(model_loader, "load_labeller", load)
    node.trigger_configure()
    node.trigger_activate()
    graph.spin_until(lambda: labelling.report(reports)[2].get("lifecycle state") == "active", "the report of it", 10)
    assert put(node, model=str(make_model("next", seed=3))).successful
    held.let_go()
    graph.spin_until(lambda: running(node) == "next", "the other model", 30)


@pytest.mark.parametrize("layout", [{"output_profile": "autoware"}, {"class_remap": "non-structural:9"}], ids=["fits", "does not fit"])
def test_what_came_with_a_model_that_does_not_load(graph, labelling, tiny_model, four, make_cloud_message, layout):
    node, points, labelled = labelling.start(model=str(tiny_model))
    (four / "student.safetensors").write_bytes(b"not weights")
    assert put(node, model=str(four), **layout).successful
    graph.spin_until(lambda: node.get_parameter("model").value == str(tiny_model), "the parameter goes back")
    profile = node.get_parameter("output_profile").value
    assert profile == layout.get("output_profile", "full") and node.get_parameter("class_remap").value == ""
    assert (labelling.answer(points, labelled, make_cloud_message()).point_step == 24) == (profile == "autoware")


def test_model_of_other_classes_takes_the_defaults_and_what_fits_it(graph, labelling, tiny_model, four, make_cloud_message):
    node, points, labelled = labelling.start(model=str(four))
    labelling.answer(points, labelled, make_cloud_message())
    assert "names 'person'" in put(node, static_without="person, wall").reason
    assert put(node, model=str(tiny_model), static_without="person", class_remap="person:7, wall:3").successful
    graph.spin_until(lambda: running(node) == "tiny", "the other model")
    labels = labelling.columns(labelling.answer(points, labelled, make_cloud_message()))["label"]
    assert set(labels.tolist()) <= {7, 3, 255}


def test_any_parameter_may_put_right_what_kept_the_node_from_starting(graph, labelling, tiny_model, make_cloud_message):
    node = graph.make(SegmenterNode, model=str(tiny_model), static_without="dog", **labelling.FAST)
    graph.spin_until(lambda: "names 'dog'" in node._problem, "the problem")
    assert put(node, static_without="person").successful
    labelling.answer(*labelling.connect(node), make_cloud_message())


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("model", "~nobody-of-this-name/site", "there is no model"),
        ("class_remap", "wall:²", "is not class:id"),
        ("class_remap", "²:3", "names '²'"),
    ],
)
def test_what_cannot_be_read_is_refused_and_the_node_lives(graph, labelling, tiny_model, make_cloud_message, name, value, reason):
    node, points, labelled = labelling.start(model=str(tiny_model))
    result = put(node, **{name: value})
    assert not result.successful and reason in result.reason
    labelling.answer(points, labelled, make_cloud_message())


def test_check_that_fails_refuses_and_the_node_lives(graph, labelling, tiny_model, make_cloud_message, monkeypatch):
    node, points, labelled = labelling.start(model=str(tiny_model))

    def fail(folder):
        raise ZeroDivisionError("by chance")

    monkeypatch.setattr("xkd_ros.nodes.segmenter.load_card", fail)
    result = put(node, model="indoor-24x64")
    assert not result.successful and "unexpected ZeroDivisionError: by chance" in result.reason
    labelling.answer(points, labelled, make_cloud_message())


def test_cloud_that_is_in_work_at_a_deactivation_has_the_labeller_for_itself(graph, labelling, tiny_model, make_cloud_message, monkeypatch):
    node, points, _ = labelling.start(model=str(tiny_model))
    labeller, free = node._stream.labeller, threading.Semaphore(0)
    label, inside, most = labeller.label, [], []

    def slowly(*arguments):
        inside.append(1)
        most.append(len(inside))
        assert free.acquire(timeout=120)
        inside.pop()
        return label(*arguments)

    monkeypatch.setattr(labeller, "label", slowly)
    points.publish(make_cloud_message())
    graph.spin_until(lambda: inside, "the cloud is in work")
    node.trigger_deactivate()
    node.trigger_activate()
    graph.spin_until(lambda: points.get_subscription_count() > 0, "the new subscription")
    points.publish(make_cloud_message())
    graph.spin_until(lambda: node._stream.pending == 2, "the next cloud waits")
    for _ in range(2):
        free.release()
    counts = labelling.settled(node)
    assert most == [1, 1] and counts.arrived == counts.published == 2


def test_cloud_that_comes_out_after_a_deactivation_is_not_called_published(graph, labelling, tiny_model, make_cloud_message, monkeypatch):
    node, points, _ = labelling.start(model=str(tiny_model))
    labeller, begun, free = node._stream.labeller, threading.Event(), threading.Event()
    label = labeller.label

    def slowly(*arguments):
        begun.set()
        assert free.wait(120)
        return label(*arguments)

    monkeypatch.setattr(labeller, "label", slowly)
    points.publish(make_cloud_message())
    graph.spin_until(begun.is_set, "the cloud is in work")
    node.trigger_deactivate()
    free.set()
    counts = labelling.settled(node)
    assert (counts.arrived, counts.published, counts.skipped) == (1, 0, 1)


def test_settings_change_between_scans_not_within_one(tiny_model, labelling, make_cloud_message, monkeypatch):
    node, _, _ = labelling.start(model=str(tiny_model))
    labeller = node._stream.labeller
    level = labeller._level

    def change_meanwhile(scan):
        monkeypatch.setattr(labeller, "_level", level)
        assert put(node, levelling="fixed", roll_deg=20.0, class_remap="wall:1, floor:1").successful
        return level(scan)

    monkeypatch.setattr(labeller, "_level", change_meanwhile)
    # Labelled in this thread: parameters are set while the scan is in work.
    first, _, _ = labeller.label(make_cloud_message())
    labels = set(labelling.columns(first)["label"].tolist())
    assert labels != {1} and "fixed" not in labeller.facts()["levelling"]
    second, _, _ = labeller.label(make_cloud_message())
    assert set(labelling.columns(second)["label"].tolist()) <= {1, 255}
    assert labeller.facts()["levelling"].startswith("fixed: tilt 20.0 deg")
