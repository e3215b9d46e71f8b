"""What /diagnostics says about the segmenter: the verdict, and every counter behind it as a row, once a second."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node

from xkd_ros.nodes.diagnostic_topic import DiagnosticTopic
from xkd_ros.nodes.frame_statistics import FrameSnapshot
from xkd_ros.nodes.verdict import SegmenterState, Verdict

# A header stamp this far from the node's clock belongs to another clock: a replayed bag without use_sim_time.
_OTHER_CLOCK_MS = 600_000.0


class DiagnosticsReport:
    """Publishes the report once a second."""

    def __init__(self, node: Node) -> None:
        self._topic = DiagnosticTopic(node, "labelling")
        self._verdict = Verdict()

    def publish(self, state: SegmenterState, frames: FrameSnapshot) -> None:
        """Judge and send."""
        level, sentence = self._verdict.judge(state, frames)
        rows: dict[str, Any] = {
            "lifecycle state": state.lifecycle,
            "clouds arrived": frames.arrived,
            "clouds published": frames.published,
            "clouds rejected": frames.rejected,
            "clouds failed": frames.failed,
            "clouds replaced by newer": frames.replaced,
            "clouds not needed": frames.skipped,
            "clouds lost in transport": frames.lost_in_transport,
            "input rate Hz": f"{frames.rate_in_hz:.2f}",
            "output rate Hz": f"{frames.rate_out_hz:.2f}",
            "target rate Hz": f"{state.target_hz:g}" if state.target_hz else "none",
            "latency from arrival ms p50/p95/p99": _triple(frames.from_arrival_ms),
            "latency from stamp ms p50/p95/p99": _stamp_latency(frames.from_stamp_ms),
            **{f"{stage} ms (median)": f"{value:.2f}" for stage, value in frames.stage_ms.items()},
            "points of the last cloud": frames.points,
            "seconds since the last cloud": "never" if frames.since_arrival_s is None else f"{frames.since_arrival_s:.2f}",
            "mean entropy": "none" if frames.mean_entropy is None else f"{frames.mean_entropy:.3f}",
            "mean entropy in training": "not in the card" if state.usual_entropy is None else f"{state.usual_entropy:.3f}",
            **{f"reason: {reason}": count for reason, count in list(frames.reasons.items())[:10]},
            **state.facts,
        }
        rows |= {f"attention {number}": sentence for number, sentence in enumerate(state.complaints, 1)}
        if middleware := "; ".join(filter(None, (state.deaf_to, state.unheard_by))):
            rows["middleware"] = middleware
        self._topic.publish(level, sentence, rows, str(state.facts.get("model", "")))


def _triple(percentiles: tuple[float, float, float] | None) -> str:
    return "none" if percentiles is None else " / ".join(f"{value:.1f}" for value in percentiles)


def _stamp_latency(percentiles: tuple[float, float, float] | None) -> str:
    if percentiles is not None and abs(percentiles[0]) > _OTHER_CLOCK_MS:
        return f"stamps are {percentiles[0] / 1e3:.0f} s off this node's clock; replaying a bag: use /clock and use_sim_time"
    return _triple(percentiles)
