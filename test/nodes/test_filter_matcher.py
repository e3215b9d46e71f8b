"""The policies of message_filters over clocks that jump back; where it is not installed a stand-in does what it does with equal stamps."""

from __future__ import annotations

import importlib.util
import sys
import threading
from types import SimpleNamespace

import pytest
from sensor_msgs.msg import CompressedImage, PointCloud2

from xkd_ros.msgs.header import stamp_ns
from xkd_ros.nodes.filter_matcher import FilterMatcher
from xkd_ros.nodes.synchronizer import SynchronizerNode
from xkd_ros.pairing.statistics import PairingStatistics

SECOND = 10**9
INSTALLED = importlib.util.find_spec("message_filters") is not None
needs_filters = pytest.mark.skipif(not INSTALLED, reason="message_filters is not installed: apt install ros-jazzy-message-filters")


class Input:
    def __init__(self):
        self._callbacks = []

    def registerCallback(self, callback, *more):
        self._callbacks.append((callback, more))

    def send(self, *messages):
        for callback, more in self._callbacks:
            callback(*messages, *more)


class EqualStamps(Input):
    """Queues by stamp; a full one loses its smallest."""

    def __init__(self, inputs, size):
        super().__init__()
        self.lock, self.queues, self._size = threading.Lock(), [{} for _ in inputs], size
        for each, queue in zip(inputs, self.queues):
            each.registerCallback(self._add, queue)

    def _add(self, message, queue, *_):
        with self.lock:
            queue[stamp_ns(message)] = message
            while len(queue) > self._size:
                del queue[min(queue)]
            for stamp in set.intersection(*(set(queue) for queue in self.queues)):
                self.send(*(queue.pop(stamp) for queue in self.queues))


def make_stamped(kind, stamp):
    message = kind()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, SECOND)
    return message


@pytest.mark.parametrize(
    ("installed", "max_dt_s"),
    [(False, None), pytest.param(True, None, marks=needs_filters), pytest.param(True, 0.05, marks=needs_filters)],
    ids=["stand-in", "exact", "approximate"],
)
def test_every_lap_of_a_looping_bag_gives_all_its_pairs(installed, max_dt_s):
    filters = importlib.import_module("message_filters") if installed else SimpleNamespace(TimeSynchronizer=EqualStamps)
    scans, images = inputs = Input(), Input()
    statistics, pairs = PairingStatistics(), []
    matcher = FilterMatcher(filters, inputs, 20, max_dt_s, statistics, lambda *pair: pairs.append([stamp_ns(each) for each in pair]))
    lap = [100 * SECOND + number * SECOND // 10 for number in range(60)]
    for _ in range(3):
        for stamp in lap:  # three images for each scan: two of them wait, for nothing
            for part in range(3):
                images.send(make_stamped(CompressedImage, stamp + part * SECOND // 30))
            scans.send(make_stamped(PointCloud2, stamp))
        assert matcher.waiting == [0, 19], "full, but for the image of the last pair"
    assert pairs == [[stamp, stamp] for stamp in lap] * 3
    assert (statistics.scans, statistics.pairs, statistics.resets) == (180, 180, 2)
    assert set(statistics.offsets_ns) == {0}


def test_what_came_from_the_new_side_of_a_jump_is_kept():
    scans, left, right = inputs = Input(), Input(), Input()
    statistics, pairs = PairingStatistics(), []
    matcher = FilterMatcher(SimpleNamespace(TimeSynchronizer=EqualStamps), inputs, 5, None, statistics, lambda *pair: pairs.append(pair))
    for each in inputs:
        each.send(make_stamped(PointCloud2, 100 * SECOND))
    left.send(make_stamped(PointCloud2, 101 * SECOND))
    # The streams jump one after the other; half a second back is a message out of order.
    for each in (left, scans, right):
        each.send(make_stamped(PointCloud2, 50 * SECOND))
        scans.send(make_stamped(PointCloud2, 50 * SECOND - SECOND // 2))
    assert len(pairs) == 2 and statistics.resets == 1
    assert matcher.waiting == [1, 0, 0]


class Subscriber(Input):
    def __init__(self, node, kind, topic, qos_profile):
        super().__init__()
        node.create_subscription(kind, topic, self.send, qos_profile)


@pytest.mark.dds
@pytest.mark.parametrize(
    ("installed", "policy"),
    [(False, "exact"), pytest.param(True, "exact", marks=needs_filters), pytest.param(True, "approximate", marks=needs_filters)],
    ids=["stand-in", "exact", "approximate"],
)
def test_synchronizer_goes_on_when_the_clock_jumps_back(graph, monkeypatch, installed, policy):
    if not installed:
        filters = SimpleNamespace(Subscriber=Subscriber, TimeSynchronizer=EqualStamps)
        monkeypatch.setitem(sys.modules, "message_filters", filters)
    node = graph.make(SynchronizerNode, images="/cam/compressed", policy=policy, input_reliability="reliable", max_waiting=3)
    clouds, images = graph.listen(PointCloud2, "/synced/points"), graph.listen(CompressedImage, "/synced/camera/image/compressed")
    points, camera = graph.publisher(PointCloud2, "/points"), graph.publisher(CompressedImage, "/cam/compressed", subscribers=2)
    graph.spin_until(lambda: points.get_subscription_count() > 0 and node._matcher is not None, "the matcher")
    for count, second in enumerate([*range(10, 16), *range(10, 16)], 1):
        camera.publish(make_stamped(CompressedImage, second * SECOND))
        points.publish(make_stamped(PointCloud2, second * SECOND))
        graph.spin_until(lambda: len(clouds) == len(images) == count, f"pair {count}")  # noqa: B023
        camera.publish(make_stamped(CompressedImage, second * SECOND + 4 * SECOND // 10))
    assert [stamp_ns(image) for image in images] == [stamp_ns(cloud) for cloud in clouds]
    assert node.statistics.pairs == 12 and node.statistics.resets >= 1
