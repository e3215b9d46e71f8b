"""What the trainer says about itself: `~/progress` as JSON, latched, and a line on /diagnostics each second."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from std_msgs.msg import String

from xkd_ros.nodes.diagnostic_topic import DiagnosticTopic
from xkd_ros.nodes.qos import LATCHED


@dataclass(frozen=True)
class TrainerState:
    """How it stands.

    Attributes:
        state: idle, collecting, training, adapting, stopping, stopped, done or failed.
        message: One line for people.
        stage: The last line of progress of `xkd learn` or `xkd adapt`.
        pairs: Collected so far, None when nothing is collected.
        quiet_s: Time since the child said anything.
        stale_s: From when on that is worth a warning.
        facts: Further rows: paths.
    """

    state: str
    message: str
    stage: dict[str, Any]
    pairs: int | None
    quiet_s: float
    stale_s: float
    facts: dict[str, str]

    def content(self) -> dict[str, Any]:
        """Return what `~/progress` carries."""
        pairs = {} if self.pairs is None else {"pairs": self.pairs}
        return {"state": self.state, "message": self.message, **self.stage, **pairs, **self.facts}

    def judge(self) -> tuple[bytes, str]:
        """Return level and sentence for /diagnostics."""
        if self.state == "failed":
            return DiagnosticStatus.ERROR, self.message
        if self.state in ("training", "adapting") and self.quiet_s > self.stale_s:
            return DiagnosticStatus.WARN, f"{self.state}: the child has not said anything for {self.quiet_s:.0f} s; last: {self.message}"
        if self.state == "collecting" and not self.pairs:
            return DiagnosticStatus.WARN, f"collecting: {self.message}"
        return DiagnosticStatus.OK, f"{self.state}: {self.message}"


class TrainingReporter:
    """Publishes both."""

    def __init__(self, node: Node) -> None:
        self._progress = node.create_publisher(String, "~/progress", LATCHED)
        self._diagnostics = DiagnosticTopic(node, "training")
        self._said = ""

    def publish_progress(self, state: TrainerState) -> None:
        """Send `~/progress` if it is not what was sent last."""
        text = json.dumps(state.content(), allow_nan=False)
        if text != self._said:
            self._said = text
            self._progress.publish(String(data=text))

    def publish_diagnostics(self, state: TrainerState) -> None:
        """Send /diagnostics."""
        level, sentence = state.judge()
        self._diagnostics.publish(level, sentence, {**state.content(), "seconds since the last word": f"{state.quiet_s:.1f}"})
