"""The lifecycle from outside, round after round: nothing stays behind; and what processes leave when they are told to go."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import weakref
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, PointCloud2

from xkd_ros.bags.reader import Bag
from xkd_ros.nodes import model_loader
from xkd_ros.nodes.labeller import Labeller
from xkd_ros.nodes.segmenter import SegmenterNode
from xkd_ros.pipeline.doctor.ros import find_leaked_segments

pytestmark = pytest.mark.dds

WARM_UP, ROUNDS = 3, 20


class Segmenter:
    """A segmenter steered through its services."""

    def __init__(self, graph, labelling, model, **parameters):
        self._graph = graph
        self.node = graph.make(SegmenterNode, model=str(model), autostart=False, **{**labelling.FAST, **parameters})

    def change(self, transition):
        request = ChangeState.Request()
        request.transition.id = transition
        return self._graph.call(ChangeState, "/segmenter/change_state", request).success

    @property
    def state(self):
        return self._graph.call(GetState, "/segmenter/get_state", GetState.Request()).current_state.label


def threads() -> Counter[str]:
    """Count the threads of this process by name."""
    found: Counter[str] = Counter()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it ended since it was listed
            found[(task / "comm").read_text().strip()] += 1
    return found


def files() -> int:
    """Count the open file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def resident_mb() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_twenty_rounds_leave_nothing_behind(graph, labelling, tiny_model, make_cloud_message, backend):
    segmenter = Segmenter(graph, labelling, tiny_model, backend=backend)
    labelled = graph.listen(PointCloud2, "/semantic_points")
    points = graph.publisher(PointCloud2, "/points", subscribers=0)
    cloud = make_cloud_message()
    seen = []
    for number in range(WARM_UP + ROUNDS):
        assert segmenter.change(Transition.TRANSITION_CONFIGURE) and segmenter.change(Transition.TRANSITION_ACTIVATE)
        graph.spin_until(lambda: segmenter.node._stream.subscribers and points.get_subscription_count(), "the connections")
        labelling.answer(points, labelled, cloud)
        assert segmenter.change(Transition.TRANSITION_DEACTIVATE) and segmenter.change(Transition.TRANSITION_CLEANUP)
        graph.spin_until(lambda: graph.probe.count_publishers("/semantic_points") == 0, "the end of the output topic")
        labelled.clear()
        if number >= WARM_UP - 1:
            seen.append((threads(), files(), resident_mb(), len(gc.get_objects())))
    first, last = seen[0], seen[-1]
    assert last[0] <= first[0], "threads"
    assert last[1] <= first[1], "file descriptors"
    assert last[3] < first[3] + 200 * ROUNDS, "Python objects"
    # A leaked model, cloud or topic would show 20 times; freed memory may stay with the allocator.
    assert last[2] < first[2] + 20, "memory"


def test_wrong_order_is_refused_and_harms_nothing(graph, labelling, tiny_model, make_cloud_message):
    segmenter = Segmenter(graph, labelling, tiny_model)
    for transition in (Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP, 250):
        assert not segmenter.change(transition) and segmenter.state == "unconfigured"
    assert segmenter.change(Transition.TRANSITION_CONFIGURE)
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_DEACTIVATE):
        assert not segmenter.change(transition) and segmenter.state == "inactive"
    assert segmenter.change(Transition.TRANSITION_ACTIVATE) and not segmenter.change(Transition.TRANSITION_CLEANUP)
    points, labelled = labelling.connect(segmenter.node)
    labelling.answer(points, labelled, make_cloud_message())


def test_configure_without_a_model_fails_and_succeeds_with_one(graph, labelling, tiny_model, tmp_path):
    segmenter = Segmenter(graph, labelling, tmp_path / "nothing")
    for _ in range(2):
        assert not segmenter.change(Transition.TRANSITION_CONFIGURE) and segmenter.state == "unconfigured"
    assert segmenter.node.set_parameters([Parameter("model", value=str(tiny_model))])[0].successful
    assert segmenter.change(Transition.TRANSITION_CONFIGURE) and segmenter.state == "inactive"


@pytest.mark.parametrize("until", [0, 1, 2], ids=["unconfigured", "inactive", "active"])
def test_shutdown_from_every_state(graph, labelling, tiny_model, until):
    segmenter = Segmenter(graph, labelling, tiny_model)
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)[:until]:
        assert segmenter.change(transition)
    shutdowns = ("UNCONFIGURED", "INACTIVE", "ACTIVE")
    assert segmenter.change(getattr(Transition, f"TRANSITION_{shutdowns[until]}_SHUTDOWN"))
    assert segmenter.state == "finalized" and graph.probe.count_subscribers("/points") == 0
    graph.spin_until(lambda: graph.probe.count_publishers("/semantic_points") == 0, "the end of the output topic")


def test_node_that_ends_while_its_model_is_loaded(graph, labelling, tiny_model, monkeypatch):
    began, ended, faults = threading.Event(), threading.Event(), []
    load = model_loader.load_labeller

    def slowly(values):
        began.set()
        assert ended.wait(120)
        return load(values)

    monkeypatch.setattr(model_loader, "load_labeller", slowly)
    monkeypatch.setattr(threading, "excepthook", faults.append)
    node = graph.make(SegmenterNode, model=str(tiny_model), **labelling.FAST)
    graph.spin_until(began.is_set, "the model is being loaded")
    loading = next(thread for thread in threading.enumerate() if thread.name == "model loader")
    graph.end(node)
    ended.set()
    loading.join(120)
    assert not loading.is_alive() and faults == []


def test_manager_that_is_quicker_than_autostart(graph, labelling, tiny_model, make_cloud_message):
    node = graph.make(SegmenterNode, model=str(tiny_model), **labelling.FAST)
    # Before the executor has looked at the loaded model, a manager configures: one of the two does the work, the other steps back.
    node.trigger_configure()
    points, labelled = graph.publisher(PointCloud2, "/points", subscribers=0), graph.listen(PointCloud2, "/semantic_points")
    graph.spin_until(lambda: not node._starting, "the end of the automatic start")
    assert graph.call(GetState, "/segmenter/get_state", GetState.Request()).current_state.label == "inactive"
    node.trigger_activate()
    graph.spin_until(lambda: node._stream.subscribers and points.get_subscription_count(), "the connections")
    labelling.answer(points, labelled, make_cloud_message())


def test_deactivated_under_load_every_cloud_is_accounted_for(graph, labelling, make_model, make_cloud_message):
    segmenter = Segmenter(graph, labelling, make_model("loaded", depth=16))
    assert segmenter.change(Transition.TRANSITION_CONFIGURE)
    cloud, sent = make_cloud_message(count=9000), 0
    for _ in range(3):
        assert segmenter.change(Transition.TRANSITION_ACTIVATE)
        points, labelled = labelling.connect(segmenter.node)
        stream = segmenter.node._stream
        while stream.pending < 2:  # one in work, one waiting
            points.publish(cloud)
            sent += 1
            graph.spin_for(0.005)
        stream.stop(timeout_s=60)
        assert segmenter.change(Transition.TRANSITION_DEACTIVATE)
        counts = stream.statistics.snapshot()
        assert counts.arrived == counts.published + counts.replaced + counts.skipped <= sent
        assert counts.skipped > 0 and counts.failed == 0
        graph.probe.destroy_publisher(points)
        graph.spin_until(lambda answers=labelled: len(answers) > 0, "what was in work is still published")


def test_cleanup_while_a_cloud_is_in_work_keeps_neither_thread_nor_model(graph, labelling, tiny_model, make_cloud_message, monkeypatch):
    node, points, _ = labelling.start(model=str(tiny_model))
    begun, free = threading.Event(), threading.Event()
    label = Labeller.label

    def slowly(*arguments):
        begun.set()
        assert free.wait(120)
        return label(*arguments)

    monkeypatch.setattr(Labeller, "label", slowly)
    points.publish(make_cloud_message())
    graph.spin_until(begun.is_set, "the cloud is in work")
    worker, model = node._stream._worker._thread, weakref.ref(node._stream.labeller)
    node.trigger_deactivate()
    node.trigger_cleanup()
    free.set()
    worker.join(30)
    gc.collect()
    assert not worker.is_alive() and model() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_recording_is_whole_or_absent_after_a_signal(graph, tmp_path, slowness, number):
    target = tmp_path / "pairs"
    settings = ("-p", "images:=/cam/compressed", "-p", f"record:={target}", "-p", "input_reliability:=reliable")
    before = set(find_leaked_segments())
    process = graph.process("xkd_ros.nodes.synchronizer", "--ros-args", *settings, "-p", "output_depth:=50")
    pairs = graph.listen(PointCloud2, "/synced/points")
    points, camera = graph.publisher(PointCloud2, "/points"), graph.publisher(CompressedImage, "/cam/compressed")
    stamps = iter(range(1, 10_000))

    def five_pairs():
        stamp = next(stamps)
        for publisher, kind in ((points, PointCloud2), (camera, CompressedImage)):
            message = kind()
            message.header.stamp.sec = stamp
            publisher.publish(message)
        graph.spin_for(0.05)
        return len(pairs) >= 5

    graph.spin_until(five_pairs, "five pairs")
    started = time.monotonic()
    process.send_signal(number)
    code = process.wait(60)
    took_s = time.monotonic() - started
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL and not target.exists()
        for segment in set(find_leaked_segments()) - before:  # a killed process leaves its shared memory: do not fill the machine's
            segment.unlink(missing_ok=True)
        return
    assert code == 0 and took_s < 2.0 * slowness
    with Bag(target) as bag:
        counts = {name: info.count for name, info in bag.topics.items()}
        assert counts["/points"] == counts["/cam/compressed"] >= len(pairs) >= 5
        assert sum(1 for _ in bag.records(["/points"])) == counts["/points"]
    assert [path.name for path in tmp_path.iterdir()] == ["pairs"]
