"""Faults, caused for real: backends that break at work, sensors that die and return, clocks that jump, layouts that change."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock as RclpyClock
from rclpy.clock import ClockType
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, PointCloud2, PointField
from std_msgs.msg import String

from xkd_ros.bags.writer import BagWriter
from xkd_ros.msgs.header import stamp_ns
from xkd_ros.nodes import callbacks
from xkd_ros.nodes.callbacks import guarded
from xkd_ros.nodes.replayer import ReplayerNode
from xkd_ros.nodes.segmenter import SegmenterNode
from xkd_ros.nodes.synchronizer import SynchronizerNode
from xkd_ros.nodes.thinning import Thinning

pytestmark = pytest.mark.dds

SECOND = 10**9


def raise_memory_error(_):
    raise MemoryError


def raise_runtime_error(_):
    raise RuntimeError("device lost")


def answer_nan(net_input):
    return np.full((len(net_input), 12), np.nan, np.float32)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(raise_memory_error, "MemoryError"), (raise_runtime_error, "device lost"), (answer_nan, "gave no finite answer")],
    ids=["memory", "raises", "nan"],
)
def test_backend_that_keeps_failing_gives_way_to_another(graph, labelling, tiny_model, make_cloud_message, monkeypatch, fault, reason):
    node, points, labelled = labelling.start(model=str(tiny_model), backend="auto")
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    labelling.answer(points, labelled, make_cloud_message())
    segmenter = node._stream.labeller._segmenter
    first = segmenter.backend_name
    monkeypatch.setattr(segmenter._backend._backend, "infer", fault)
    for number in range(2):
        points.publish(make_cloud_message(seed=number))
        graph.spin_until(lambda: node._stream.statistics.snapshot().failed == number + 1, "a counted failure")  # noqa: B023
    # The third failure in a row is the backend's: this very cloud is labelled by another one.
    cloud = make_cloud_message(seed=9)
    answer = labelling.columns(labelling.answer(points, labelled, cloud))
    assert segmenter.backend_name != first and set(np.unique(answer["label"][2:])) <= set(range(12))
    counts = labelling.settled(node)
    assert (counts.arrived, counts.published, counts.failed) == (4, 2, 2)

    def told():
        points.publish(cloud)
        graph.spin_for(0.1)
        level, message, _ = labelling.report(reports)
        return level == DiagnosticStatus.WARN and f"backend {first} kept failing" in message and reason in message

    graph.spin_until(told, "the change of the backend")
    assert labelling.report(reports)[2]["backend"] == segmenter.backend_name


def test_one_bad_scan_does_not_cost_the_backend(graph, labelling, tiny_model, make_cloud_message, monkeypatch):
    node, points, labelled = labelling.start(model=str(tiny_model), backend="auto")
    segmenter = node._stream.labeller._segmenter
    first = segmenter.backend_name
    for number in range(4):  # two failures, a good scan, two failures, a good scan ...
        with monkeypatch.context() as broken:
            broken.setattr(segmenter._backend._backend, "infer", raise_memory_error)
            for _ in range(2):
                before = node._stream.statistics.snapshot().failed
                points.publish(make_cloud_message(seed=number))
                graph.spin_until(lambda: node._stream.statistics.snapshot().failed > before, "a failure")  # noqa: B023
        labelling.answer(points, labelled, make_cloud_message(seed=number))
    assert segmenter.backend_name == first and segmenter.trouble == ""


def test_chosen_backend_that_fails_is_an_error_until_it_works_again(graph, labelling, tiny_model, make_cloud_message, monkeypatch):
    node, points, labelled = labelling.start(model=str(tiny_model), backend="torch")
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    with monkeypatch.context() as broken:
        broken.setattr(node._stream.labeller._segmenter._backend._backend, "infer", answer_nan)

        def told():
            points.publish(make_cloud_message())
            graph.spin_for(0.1)
            words = "no cloud gets through: ModelError: backend torch gave no finite answer"
            return bool(reports) and words in labelling.report(reports)[1]

        graph.spin_until(told, "the error")
        assert labelling.report(reports)[0] == DiagnosticStatus.ERROR and not labelled
    labelling.answer(points, labelled, make_cloud_message())


@pytest.mark.parametrize(("fixed_s", "per_share_s"), [(0.02, 0.2), (0.05, 0.08), (0.0, 0.15)])
def test_thinning_settles_below_the_period_and_ends_with_the_overload(fixed_s, per_share_s):
    thinning = Thinning()
    for _ in range(60):
        thinning.update(fixed_s + per_share_s * thinning.share, 0.1, 0.2)
    assert fixed_s + per_share_s * thinning.share < 0.1 and 0.2 < thinning.share < 1
    for _ in range(60):
        thinning.update(fixed_s + per_share_s * thinning.share, 1.0, 0.2)
    assert thinning.share == 1
    assert thinning.update(9.0, 0.1, 1.0) == 1, "switched off"
    assert thinning.update(9.0, 0.0, 0.2) == 1, "no period known"
    for _ in range(30):
        thinning.update(9.0, 0.1, 0.2)
    assert thinning.share == 0.2


def test_overload_thins_and_says_so_and_recovers(graph, labelling, make_model, make_cloud_message):
    node, points, labelled = labelling.start(model=str(make_model("thick", depth=24)), lowest_share=0.25)
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    cloud = make_cloud_message(count=4000)

    def feed(seconds, share):
        points.publish(cloud)
        graph.spin_for(seconds)
        return share(node._stream.labeller.share)

    graph.spin_until(lambda: feed(0.01, lambda share: share < 0.5), "a thinned scan")
    shown = "voxels labelled directly"
    graph.spin_until(lambda: feed(0.01, lambda _: labelling.report(reports)[2].get(shown, "100 %") != "100 %"), "the report of it")
    answer = labelling.columns(labelling.answer(points, labelled, cloud))
    assert (answer["label"][2:] < 12).all(), "every measurement has a label all the same"
    # From now on each cloud comes three times as long after the answer as the answer took: no overload, however busy the machine.
    for _ in range(60):
        begun = time.monotonic()
        labelling.answer(points, labelled, cloud)
        graph.spin_for(3 * (time.monotonic() - begun))
        if node._stream.labeller.share == 1:
            break
    assert node._stream.labeller.share == 1


def test_layout_may_change_from_one_message_to_the_next(graph, labelling, tiny_model, make_cloud_message):
    _, points, labelled = labelling.start(model=str(tiny_model), intensity="off", levelling="off")
    plain = make_cloud_message()
    values = labelling.columns(plain)
    count = len(values)

    def relaid(dtype, fields, bigendian=False, height=1, row_padding=0):
        table = np.zeros(count, dtype)
        for name in dtype.names:
            table[name] = values[name]
        width = count // height
        rows = np.zeros((height, width * dtype.itemsize + row_padding), np.uint8)
        rows[:, : width * dtype.itemsize] = np.frombuffer(table.tobytes(), np.uint8).reshape(height, -1)
        described = [PointField(name=name, offset=dtype.fields[name][1], datatype=code, count=1) for name, code in fields]
        return PointCloud2(
            header=plain.header, height=height, width=width, fields=described, is_bigendian=bigendian,
            point_step=dtype.itemsize, row_step=rows.shape[1], data=rows.tobytes(),
        )  # fmt: skip

    order = [("x", 7), ("y", 7), ("z", 7)]
    doubles = relaid(np.dtype([("z", "<f8"), ("y", "<f8"), ("x", "<f8"), ("ring", "<u2")]), [("x", 8), ("y", 8), ("z", 8), ("ring", 4)])
    motorola = relaid(np.dtype([("x", ">f4"), ("y", ">f4"), ("z", ">f4")]), order, bigendian=True)
    odd = np.dtype({"names": ["x", "y", "z"], "formats": ["<f4"] * 3, "offsets": [3, 7, 11], "itemsize": 29})
    image_like = relaid(odd, order, height=8, row_padding=5)
    expected = labelling.columns(labelling.answer(points, labelled, plain))["label"].copy()
    for cloud in (doubles, motorola, image_like, plain, doubles):
        answer = labelling.answer(points, labelled, cloud)
        assert (answer.height, answer.width) == (cloud.height, cloud.width)
        step, bytes_ = answer.point_step, np.frombuffer(answer.data, np.uint8).reshape(answer.height, answer.row_step)
        label = next(field for field in answer.fields if field.name == "label")
        cells = bytes_[:, : answer.width * step].reshape(-1, step)[:, label.offset : label.offset + 4]
        found = np.ascontiguousarray(cells).view(">u4" if answer.is_bigendian else "<u4")[:, 0]
        np.testing.assert_array_equal(found, expected)


def test_lidar_that_dies_and_returns(graph, labelling, tiny_model, make_cloud_message):
    node, points, labelled = labelling.start(model=str(tiny_model), stale_s=0.3)
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    for number in range(5):
        labelling.answer(points, labelled, make_cloud_message(stamp=number))
    graph.probe.destroy_publisher(points)
    graph.spin_until(lambda: bool(reports) and "nobody publishes /points" in labelling.report(reports)[1], "the dead lidar")
    # It returns with a clock that begins at zero and sequence numbers that begin at one: nothing was lost, nothing is refused.
    points = graph.publisher(PointCloud2, "/points")
    for number in range(3):
        assert stamp_ns(labelling.answer(points, labelled, make_cloud_message(stamp=number))) == number
    counts = labelling.settled(node)
    assert (counts.arrived, counts.published, counts.lost_in_transport, counts.failed) == (8, 8, 0, 0)


def test_stamps_that_jump_are_labelled_as_they_come(graph, labelling, tiny_model, make_cloud_message):
    node, points, labelled = labelling.start(model=str(tiny_model))
    now = graph.probe.get_clock().now().nanoseconds
    for stamp in (now, now + 3600 * SECOND, 0, now - 86_400 * SECOND, 2**31 * SECOND - 1, now):
        assert stamp_ns(labelling.answer(points, labelled, make_cloud_message(stamp=stamp))) == stamp
    counts = labelling.settled(node)
    assert counts.published == 6 and counts.failed == counts.rejected == 0


def test_simulated_time_with_a_looping_bag(graph, labelling, tiny_model, make_cloud_message, typestore, tmp_path):
    from xkd_ros.core.types import Scan
    from xkd_ros.msgs.build import make_cloud

    rng = np.random.default_rng(0)
    stamps = [100 * SECOND + number * SECOND // 10 for number in range(5)]
    with BagWriter(tmp_path / "bag") as writer:
        for stamp in stamps:
            scan = Scan(rng.uniform(-3, 3, (800, 3)).astype(np.float32), stamp_ns=stamp, frame_id="lidar")
            writer.write("/points", make_cloud(scan, typestore.types), stamp)
    node = graph.make(SegmenterNode, ["-p", "use_sim_time:=true"], model=str(tiny_model), **labelling.FAST)
    labelled = graph.listen(PointCloud2, "/semantic_points")
    graph.spin_until(lambda: node._stream is not None and node._stream.subscribers > 0, "the listener is known to the node")
    clock = graph.listen(Clock, "/clock")
    played = {"bag": str(tmp_path / "bag"), "stamps": "original", "clock_hz": 100.0, "loop": True, "reliability": "reliable"}
    replayer = graph.make(ReplayerNode, wait_for="/points:1", rate=2.0, **played)
    graph.spin_until(lambda: [stamp_ns(cloud) for cloud in labelled].count(stamps[-1]) >= 3, "three laps")
    times = [message.clock.sec * SECOND + message.clock.nanosec for message in clock]
    assert min(np.diff(times)) < 0, "time went back"
    assert {stamp_ns(cloud) for cloud in labelled} == set(stamps)
    graph.end(replayer)
    counts = labelling.settled(node)
    assert counts.failed == counts.rejected == 0 and counts.published + counts.replaced == counts.arrived >= 15
    # Latency is of the simulated clock, and a lap's end makes no outlier of hours.
    assert max(abs(value) for value in counts.from_stamp_ms) < 60_000


def test_clock_that_is_set_back_does_not_silence_what_is_logged_now_and_then(graph, monkeypatch, capfd):
    now_s = {ClockType.SYSTEM_TIME: 1_700_000_000, ClockType.STEADY_TIME: 100}
    monkeypatch.setattr(RclpyClock, "now", lambda clock: SimpleNamespace(nanoseconds=now_s[clock.clock_type] * SECOND))
    fail = guarded(graph.probe, lambda: 1 / 0, "nothing divided")
    logged = []
    for steady_s, system_s in ((0, 0), (4, 4), (2, -3600)):
        now_s[ClockType.STEADY_TIME] += steady_s
        now_s[ClockType.SYSTEM_TIME] += system_s
        fail()
        logged.append(capfd.readouterr().err.count("nothing divided"))
    assert logged == [1, 0, 1]
    sources = Path(callbacks.__file__).parent.glob("*.py")
    assert [path.name for path in sources if "throttle_duration_sec" in path.read_text()] == ["callbacks.py"]


def test_camera_that_dies_and_returns(graph):
    graph.make(SynchronizerNode, images="/cam/compressed", input_reliability="reliable", deadline_s=0.05)
    clouds, statistics = graph.listen(PointCloud2, "/synced/points"), graph.listen(String, "/synchronizer/statistics")
    reports = graph.listen(DiagnosticArray, "/diagnostics")
    points = graph.publisher(PointCloud2, "/points")
    stamps = iter(range(1, 10_000))

    def send(camera):
        stamp = next(stamps)
        for publisher, kind in ((camera, CompressedImage), (points, PointCloud2)):
            if publisher is not None:
                message = kind()
                message.header.stamp.sec = stamp
                publisher.publish(message)
        graph.spin_for(0.05)

    def until(condition, what, camera):
        def done():
            send(camera)
            return condition()

        graph.spin_until(done, what)

    camera = graph.publisher(CompressedImage, "/cam/compressed")
    until(lambda: len(clouds) >= 3, "pairs", camera)
    graph.probe.destroy_publisher(camera)
    until(lambda: bool(reports) and "no image has arrived on camera 0" in reports[-1].status[0].message, "the dead camera", None)
    assert reports[-1].status[0].level == DiagnosticStatus.WARN
    assert sum(json.loads(statistics[-1].data)["unmatched_scans"].values()) > 0
    count = len(clouds)
    camera = graph.publisher(CompressedImage, "/cam/compressed")
    until(lambda: len(clouds) > count + 3 and reports[-1].status[0].level == DiagnosticStatus.OK, "pairs again", camera)


def test_every_cloud_is_accounted_for_while_models_are_swapped(graph, labelling, tiny_model, make_model, make_cloud_message):
    node, points, labelled = labelling.start(model=str(tiny_model))
    infos = graph.listen(String, "/semantic_points/label_info", labelling.LATCHED)
    models = [str(tiny_model), str(make_model("second", seed=5))]
    sent = 0
    for number in range(4):
        wanted = models[(number + 1) % 2]
        count = len(infos)
        assert node.set_parameters([Parameter("model", value=wanted)])[0].successful
        while len(infos) <= count:
            points.publish(make_cloud_message(stamp=sent, seed=sent % 5, count=1500))
            sent += 1
            graph.spin_for(0.01)
        assert node.get_parameter("model").value == wanted

    def accounted():
        counts = node._stream.statistics.snapshot()
        return counts.arrived == sent == counts.published + counts.replaced

    graph.spin_until(accounted, "every cloud published or replaced")
    graph.spin_until(lambda: len(labelled) == node._stream.statistics.snapshot().published, "what was published arrives")
    stamps = [stamp_ns(cloud) for cloud in labelled]
    assert stamps == sorted(set(stamps)) and stamps[-1] == sent - 1
