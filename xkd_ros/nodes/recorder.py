"""Recorder node: keeps every labelled cloud with the moment it came in, and the segmenter's last report; for demo and bench."""

from __future__ import annotations

import json
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float32

from xkd_ros.core.files import atomic_path, write_atomic
from xkd_ros.msgs.header import stamp_ns
from xkd_ros.msgs.layout import CloudLayout
from xkd_ros.nodes.debug_topics import STAGES
from xkd_ros.nodes.parameters import ParameterSpec, ParameterTable
from xkd_ros.nodes.running import run_node

USAGE = """\
recorder: keeps what /semantic_points carried, when it came in, and the segmenter's own report; used by `xkd demo` and `xkd bench node`.

Subscribes:  semantic_points, synced/points, /diagnostics, segmenter/debug/processing_time/*_ms
Writes:      <out>/<stamp_ns>.npz (label, probability) and, at the end, <out>/recording.json

Example:
  xkd_recorder --ros-args -p out:=recording"""

RECORDER = ParameterTable(
    "recorder",
    [
        ParameterSpec("out", "recording", "Folder to write.", fixed=True),
        ParameterSpec("keep_labels", True, "Write the labels of every cloud; without, only times are kept.", fixed=True),
        ParameterSpec("segmenter", "segmenter", "Name of the node whose times and report are kept.", fixed=True),
    ],
)


class Recorder(Node):
    """Writes what it hears; everything else is worked out by who reads the files."""

    def __init__(self) -> None:
        super().__init__("recorder")
        RECORDER.declare(self)
        values = RECORDER.values(self)
        self._out = Path(values.out)
        self._out.mkdir(parents=True, exist_ok=True)
        self._keep_labels = bool(values.keep_labels)
        self._arrivals: list[tuple[int, int]] = []
        self._pairs = 0
        self._reports: dict[str, dict[str, str]] = {}
        self._stage_ms: dict[str, list[float]] = {stage: [] for stage in STAGES}
        self.finished = threading.Event()
        self.create_subscription(PointCloud2, "semantic_points", self._on_cloud, QoSProfile(depth=200))
        self.create_subscription(PointCloud2, "synced/points", self._on_pair, QoSProfile(depth=200))
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, QoSProfile(depth=50))
        for stage in STAGES:
            topic = f"{values.segmenter}/debug/processing_time/{stage}_ms"
            self.create_subscription(Float32, topic, partial(self._on_time, stage), 50)

        self._ready = self.create_timer(0.1, self._announce, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _announce(self) -> None:
        """Leave a file named `ready` once somebody publishes the labelled cloud."""
        if self.count_publishers("semantic_points"):
            write_atomic(self._out / "ready", "")
            self._ready.cancel()

    def _on_cloud(self, message: PointCloud2) -> None:
        received = time.time_ns()
        self._arrivals.append((stamp_ns(message), received))
        if not self._keep_labels:
            return
        try:
            layout = CloudLayout.read(message)
            fields = {name: layout.find(name) for name in ("label", "probability")}
            arrays = {name: np.asarray(layout.values(field)).ravel() for name, field in fields.items() if field is not None}
            with atomic_path(self._out / f"{stamp_ns(message)}.npz") as path, open(path, "wb") as file:
                np.savez(file, label=arrays["label"].astype(np.uint8), probability=arrays["probability"].astype(np.float16))
        except Exception as error:  # no exception leaves a callback
            self.get_logger().error(f"cloud of {stamp_ns(message)} ns not kept: {error}")

    def _on_pair(self, _: PointCloud2) -> None:
        self._pairs += 1

    def _on_time(self, stage: str, message: Float32) -> None:
        self._stage_ms[stage].append(message.data)

    def _on_report(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._reports[status.name] = {"message": status.message, **{row.key: row.value for row in status.values}}

    def close(self) -> bool:
        """Write the summary; always done in time."""
        facts: dict[str, Any] = {"arrivals": self._arrivals, "pairs": self._pairs, "reports": self._reports, "stage_ms": self._stage_ms}
        write_atomic(self._out / "recording.json", json.dumps(facts))
        return True


def main() -> None:
    """Run the node."""
    sys.exit(run_node(Recorder, RECORDER, USAGE))


if __name__ == "__main__":
    main()
