"""A ROS graph of its own for each test: real nodes, real Fast DDS, a domain that nobody else uses, deadlines instead of sleeps."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'xkd_ros[ros]', or source a ROS 2 workspace")

from builtin_interfaces.msg import Time  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from sensor_msgs.msg import PointCloud2, PointField  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from xkd_ros.core.types import Scan  # noqa: E402
from xkd_ros.msgs.build import make_cloud  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
# Domains above 101 use ports that the kernel also gives to others; the process number keeps two test runs apart.
_DOMAINS = (2 + (os.getpid() * 17 + number * 5) % 99 for number in itertools.count())
DEADLINE_S = 120.0
CLOUD_TYPES = {
    "sensor_msgs/msg/PointCloud2": PointCloud2,
    "sensor_msgs/msg/PointField": PointField,
    "std_msgs/msg/Header": Header,
    "builtin_interfaces/msg/Time": Time,
}

RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Graph:
    """Nodes of one test in one executor that the test itself spins."""

    types = CLOUD_TYPES

    def __init__(self) -> None:
        self.domain = next(_DOMAINS)
        self.context = Context()
        rclpy.init(context=self.context, domain_id=self.domain)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.nodes: list[Node] = []
        self.processes: list[subprocess.Popen[str]] = []
        self.probe = self.add(Node("probe", context=self.context))

    def add(self, node: Node) -> Any:
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def make(self, node_class: type[Node], arguments: Sequence[str] = (), **parameters: Any) -> Any:
        """Start a node of ours in this graph, with ROS arguments such as remappings."""
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        cli_args = ["--ros-args", *arguments]
        return self.add(node_class(context=self.context, cli_args=cli_args, parameter_overrides=overrides))

    @contextmanager
    def stranger(self, name: str) -> Iterator[Node]:
        """Give a node of another participant: one cannot carry two types on a topic, two can."""
        context = Context()
        rclpy.init(context=context, domain_id=self.domain)
        node = Node(name, context=context)
        try:
            yield node
        finally:
            node.destroy_node()
            rclpy.shutdown(context=context)

    def end(self, node: Node) -> None:
        """Take a node out of this graph, before the test ends or with it."""
        if hasattr(node, "close"):
            node.close()
        self.nodes.remove(node)
        self.executor.remove_node(node)
        node.destroy_node()

    def spin_until(self, condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
        """Serve callbacks until a condition holds; fail with `what` when it does not in time."""
        end = time.monotonic() + deadline_s
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"not within {deadline_s} s: {what}")
            self.executor.spin_once(timeout_sec=0.02)

    def spin_for(self, seconds: float) -> None:
        """Serve callbacks for a while: only to see that something does NOT happen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def listen(self, message_type: Any, topic: str, qos: QoSProfile = RELIABLE, raw: bool = False) -> list[Any]:
        """Collect the messages of a topic, or their bytes."""
        received: list[Any] = []
        self.probe.create_subscription(message_type, topic, received.append, qos, raw=raw)
        return received

    def publisher(self, message_type: Any, topic: str, qos: QoSProfile = RELIABLE, subscribers: int = 1) -> Any:
        """Make a publisher and wait for its listeners."""
        publisher = self.probe.create_publisher(message_type, topic, qos)
        if subscribers:
            self.spin_until(lambda: publisher.get_subscription_count() >= subscribers, f"{subscribers} subscribers on {topic}")
        return publisher

    def call(self, service_type: Any, name: str, request: Any) -> Any:
        """Call a service and wait for the answer."""
        client = self.probe.create_client(service_type, name)
        self.spin_until(client.service_is_ready, f"service {name}")
        future = client.call_async(request)
        self.spin_until(future.done, f"answer of {name}")
        self.probe.destroy_client(client)
        return future.result()

    def environment(self) -> dict[str, str]:
        """Environment of a child process in the same graph."""
        profile = ROOT / "config" / "fastdds_large_clouds.xml"
        return {
            **os.environ,
            "ROS_DOMAIN_ID": str(self.domain),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),  # where a sourced ROS 2 is
            "PYTHONUNBUFFERED": "1",
            "FASTRTPS_DEFAULT_PROFILES_FILE": str(profile),
        }

    def process(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """Start one of our nodes as a process of its own."""
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            if process.stdout:
                process.stdout.close()
        for node in list(self.nodes):
            self.end(node)
        self.executor.shutdown()
        rclpy.shutdown(context=self.context)


@pytest.fixture(autouse=True)
def _stay_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")


@pytest.fixture
def slowness() -> float:
    """How much slower this machine is now than an idle one: 1 or more, for bars in seconds on machines that are shared."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-S", "-c", "import json, logging"], check=True)
    return max(1.0, (time.monotonic() - started) / 0.1)


@pytest.fixture
def graph() -> Iterator[Graph]:
    graph = Graph()
    yield graph
    graph.close()


class Labelling:
    """A segmenter in a graph, fed and heard by the probe."""

    FAST: ClassVar = {"backend": "torch", "num_threads": 1, "input_reliability": "reliable", "input_depth": 50, "output_depth": 50}
    LATCHED = LATCHED

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def start(self, **parameters: Any) -> tuple[Any, Any, list[PointCloud2]]:
        """Start a segmenter; return it, a publisher it hears, and the list of what it answers."""
        from xkd_ros.nodes.segmenter import SegmenterNode

        node = self._graph.make(SegmenterNode, **{**self.FAST, **parameters})
        return node, *self.connect(node)

    def connect(self, node: Any) -> tuple[Any, list[PointCloud2]]:
        """Make a publisher that the node hears and a listener that it knows."""
        labelled = self._graph.listen(PointCloud2, "/semantic_points")
        points = self._graph.publisher(PointCloud2, "/points")
        self._graph.spin_until(lambda: node._stream is not None and node._stream.subscribers > 0, "the listener is known to the node")
        return points, labelled

    def answer(self, points: Any, labelled: list[PointCloud2], cloud: PointCloud2) -> PointCloud2:
        """Send a cloud and return the answer."""
        count = len(labelled)
        points.publish(cloud)
        self._graph.spin_until(lambda: len(labelled) > count, "a labelled cloud")
        return labelled[-1]

    def settled(self, node: Any) -> Any:
        """Wait until no cloud is in work, and return the counters."""
        self._graph.spin_until(lambda: node._stream.pending == 0, "the end of the work")
        return node._stream.statistics.snapshot()

    def one(self, cloud: PointCloud2, **parameters: Any) -> PointCloud2:
        """Start a segmenter, send one cloud, and return what comes out."""
        _, points, labelled = self.start(**parameters)
        return self.answer(points, labelled, cloud)

    @staticmethod
    def columns(cloud: PointCloud2) -> np.ndarray:
        """Fields of a cloud as a structured array, (N,)."""
        codes = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
        names, formats = [field.name for field in cloud.fields], [codes[field.datatype] for field in cloud.fields]
        offsets = [field.offset for field in cloud.fields]
        kind = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": cloud.point_step})
        return np.frombuffer(cloud.data, kind)

    @staticmethod
    def report(messages: list[Any]) -> tuple[bytes, str, dict[str, str]]:
        """Level, sentence and rows of the last /diagnostics; no level before the first."""
        if not messages:
            return b"", "", {}
        status = messages[-1].status[0]
        return status.level, status.message, {row.key: row.value for row in status.values}


@pytest.fixture
def labelling(graph: Graph) -> Labelling:
    return Labelling(graph)


@pytest.fixture
def trainer(graph: Graph, tmp_path: Path) -> Any:
    """A trainer that is not started yet."""
    from trainers import Trainer

    return Trainer(graph, tmp_path)


@pytest.fixture
def bag(tmp_path: Path) -> str:
    """The path of a recording, for a program that does not open it."""
    (tmp_path / "bag").mkdir()
    return str(tmp_path / "bag")


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a model folder with a random student: real network, real weights file, real card."""
    from xkd_ros.core.card import ModelCard, NetworkConfig
    from xkd_ros.nets.checkpoint import save_student
    from xkd_ros.nets.student import seeded_student

    def make(name: str = "tiny", depth: int = 2, seed: int = 0) -> Path:
        folder = tmp_path_factory.mktemp(name) / name
        network = NetworkConfig(depth=depth, width=16)
        save_student(seeded_student(network, seed), ModelCard(name=name, network=network), folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_model(make_model: Callable[..., Path]) -> Path:
    """Folder of a small random model."""
    return make_model()


@pytest.fixture
def make_cloud_message() -> Callable[..., PointCloud2]:
    """Make a PointCloud2 of a room: x y z, intensity, ring, with two non-returns at the start (NaN, zeros)."""

    def make(stamp: int = 1_000, count: int = 4000, seed: int = 0, frame: str = "lidar") -> PointCloud2:
        rng = np.random.default_rng(seed)
        points = rng.uniform((-4, -3, -1.2), (4, 3, 1.6), (count, 3)).astype(np.float32)
        face = rng.integers(0, 6, count)
        for number, (axis, value) in enumerate(((0, -4), (0, 4), (1, -3), (1, 3), (2, -1.2), (2, 1.6))):
            points[face == number, axis] = value
        if count > 1:
            points[0], points[1] = np.nan, 0.0
        scan = Scan(points, rng.uniform(0, 255, count).astype(np.float32), stamp, frame, rng.integers(0, 16, count).astype(np.uint16))
        return make_cloud(scan, CLOUD_TYPES)

    return make
