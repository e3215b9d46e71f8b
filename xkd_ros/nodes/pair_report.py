"""What the synchronizer says about its pairs: `~/statistics` as JSON and a line on /diagnostics, each second."""

from __future__ import annotations

import copy
import json
import time
from collections import deque

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from std_msgs.msg import String

from xkd_ros.nodes.diagnostic_topic import DiagnosticTopic
from xkd_ros.pairing.statistics import PairingStatistics

_WINDOW_S = 5.0


class PairReport:
    """Compares the counts with those of five seconds ago, so that old trouble is forgotten and new trouble seen."""

    def __init__(self, node: Node) -> None:
        self._diagnostics = DiagnosticTopic(node, "pairing")
        self._statistics = node.create_publisher(String, "~/statistics", 10)
        self._past: deque[tuple[float, PairingStatistics]] = deque()

    def publish(self, now: PairingStatistics, notes: list[str]) -> None:
        """Report.

        Args:
            now: Counts since the start.
            notes: Sentences about what keeps data from coming or from being heard, such as QoS that does not fit; empty when all is well.
        """
        moment = time.monotonic()
        self._past.append((moment, copy.deepcopy(now)))
        while len(self._past) > 1 and moment - self._past[1][0] >= _WINDOW_S:
            self._past.popleft()
        span_s, before = moment - self._past[0][0], self._past[0][1]
        recent = _difference(now, before)
        rate_hz = recent.pairs / span_s if span_s else 0.0
        complaint = "; ".join(filter(None, (*notes, recent.explain() if span_s else "")))
        level = DiagnosticStatus.WARN if notes or (span_s >= 1 and not recent.pairs) else DiagnosticStatus.OK
        rows = {
            "scans": now.scans,
            "images": now.images,
            "pairs": now.pairs,
            "pairs_per_s": round(rate_hz, 3),
            "dt_ms_p50": now.dt_ms(50),
            "dt_ms_p95": now.dt_ms(95),
            "unmatched_scans": dict(now.unmatched_scans),
            "unmatched_images": dict(now.unmatched_images),
            "clock_resets": now.resets,
            "explanation": complaint,
        }
        self._statistics.publish(String(data=json.dumps(rows)))
        self._diagnostics.publish(level, complaint if level != DiagnosticStatus.OK else f"{rate_hz:.1f} pairs/s", rows)


def _difference(now: PairingStatistics, before: PairingStatistics) -> PairingStatistics:
    """Count what happened between two moments."""
    return PairingStatistics(
        scans=now.scans - before.scans,
        pairs=now.pairs - before.pairs,
        images=[new - old for new, old in zip(now.images, before.images)],
        unmatched_scans=now.unmatched_scans - before.unmatched_scans,
        unmatched_images=now.unmatched_images - before.unmatched_images,
        resets=now.resets - before.resets,
        offsets_ns=now.offsets_ns,
        nearest_ns=now.nearest_ns,
    )
