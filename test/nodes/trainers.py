"""A trainer node in the graph of a test, with a small program in the place of `xkd`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CompressedImage, PointCloud2
from std_msgs.msg import String
from std_srvs.srv import Trigger

from xkd_ros.nodes.qos import LATCHED
from xkd_ros.nodes.trainer import TrainerNode

LEARNER = (sys.executable, "-S", str(Path(__file__).with_name("learner.py")))


class Trainer:
    """A trainer in a graph, heard by the probe."""

    def __init__(self, graph, folder):
        self.graph, self.folder = graph, folder
        self.progress, self.reports = [], []

    def start(self, arguments=(), program=LEARNER, **parameters):
        defaults = {"work": str(self.folder / "work"), "model_out": str(self.folder / "model")}
        self.node = self.graph.make(lambda **rest: TrainerNode(program, **rest), arguments, **{**defaults, **parameters})
        self.progress = self.graph.listen(String, "/trainer/progress", LATCHED)
        self.reports = self.graph.listen(DiagnosticArray, "/diagnostics")
        return self.node

    def call(self, name):
        answer = self.graph.call(Trigger, f"/trainer/{name}", Trigger.Request())
        return answer.success, answer.message

    def said(self):
        return json.loads(self.progress[-1].data) if self.progress else {}

    def wait(self, state, **values):
        def reached():
            said = self.said()
            return said.get("state") == state and all(said.get(name, -1) >= value for name, value in values.items())

        self.graph.spin_until(reached, f"{state} {values}, now {self.said()}")
        return self.said()

    def level(self):
        """Level and sentence of the next report."""
        self.reports.clear()
        own = lambda: [s for m in self.reports for s in m.status if s.name.endswith("trainer: training")]  # noqa: E731
        self.graph.spin_until(lambda: bool(own()), "a report")
        return own()[-1].level, own()[-1].message


def command_line(trainer, number=0):
    """The command of a start: the lines of the log that begin with a dollar sign."""
    lines = (trainer.folder / "work" / "learn.log").read_text().splitlines()
    return [line for line in lines if line.startswith("$ ")][number]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def send_pairs(graph, points, camera, first, count):
    for number in range(first, first + count):
        for publisher, kind in ((points, PointCloud2), (camera, CompressedImage)):
            message = kind()
            message.header.stamp.sec = number
            publisher.publish(message)
        graph.spin_for(0.02)
