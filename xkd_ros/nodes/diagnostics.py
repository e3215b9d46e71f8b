"""What /diagnostics says about the segmenter: counts of frames that came, failed and left, not only of the last good one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from xkd_ros.nodes.frame_statistics import FrameSnapshot

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
# Loss of best-effort clouds begins below half a megabyte with the default shared-memory segment of Fast DDS.
_LOSS_SHARE = 0.05
_PROFILE_HINT = "start the publisher of the clouds with FASTRTPS_DEFAULT_PROFILES_FILE set to config/fastdds_large_clouds.xml of xkd_ros"
# A header stamp this far from the node's clock belongs to another clock: a replayed bag without use_sim_time.
_OTHER_CLOCK_MS = 600_000.0


@dataclass(frozen=True)
class SegmenterState:
    """What the node knows beside its frames.

    Attributes:
        lifecycle: Label of the lifecycle state.
        problem: Why there is no model; empty when there is one.
        enabled, subscribers: Whether labels are wanted.
        publishers: Number of publishers on the input topic.
        input_topic: Resolved name.
        unfused: Why the last scan was labelled without temporal fusion that was asked for; empty when it was not.
        note: Last word about incompatible QoS; empty when all is well.
        target_hz, stale_s: Limits from the parameters.
        facts: Further rows of the report.
    """

    lifecycle: str
    problem: str
    enabled: bool
    subscribers: int
    publishers: int
    input_topic: str
    note: str
    unfused: str
    target_hz: float
    stale_s: float
    facts: Mapping[str, str]


class Verdict:
    """Level and sentence of the report."""

    def __init__(self) -> None:
        self._before: FrameSnapshot | None = None

    def judge(self, state: SegmenterState, now: FrameSnapshot) -> tuple[bytes, str]:
        """Compare with the last report and decide.

        Returns:
            Level and one sentence.
        """
        before, self._before = self._before, now
        if state.problem:
            return ERROR, state.problem
        if state.lifecycle != "active":
            return OK, f"{state.lifecycle}: no labels until the node is activated"
        if now.since_arrival_s is None or now.since_arrival_s > state.stale_s:
            return self._silent(state, now)
        if not state.enabled:
            return OK, "disabled by the parameter 'enabled' or ~/set_enabled"
        if not state.subscribers:
            return OK, "idle: nobody subscribes to the labelled cloud"
        return self._working(state, now, before)

    def _silent(self, state: SegmenterState, now: FrameSnapshot) -> tuple[bytes, str]:
        if state.note:
            return ERROR, state.note
        if not state.publishers:
            return WARN, f"nobody publishes {state.input_topic}: remap 'points' to the topic of the lidar"
        if now.since_arrival_s is None:
            return WARN, f"no cloud has arrived on {state.input_topic}"
        return ERROR, f"input is dead: no cloud on {state.input_topic} for {now.since_arrival_s:.1f} s"

    def _working(self, state: SegmenterState, now: FrameSnapshot, before: FrameSnapshot | None) -> tuple[bytes, str]:
        def since(name: str) -> int:
            return getattr(now, name) - (getattr(before, name) if before else 0)

        newest_reason = next(iter(now.reasons), "")
        if since("published") == 0 and since("rejected") + since("failed"):
            return ERROR, f"no cloud gets through: {newest_reason}"
        if since("rejected") + since("failed"):
            return WARN, f"some clouds do not get through: {newest_reason}"
        sent = since("arrived") + since("lost_in_transport")
        if sent and since("lost_in_transport") > _LOSS_SHARE * sent:
            return (
                WARN,
                f"{since('lost_in_transport')} of the last {sent} clouds were lost on the way here; {_PROFILE_HINT}",
            )
        latency = f", p95 {now.from_arrival_ms[1]:.0f} ms" if now.from_arrival_ms else ""
        if state.target_hz and now.rate_out_hz < 0.9 * state.target_hz:
            share = f"{since('replaced')} of {since('arrived')} clouds replaced by newer ones"
            return WARN, f"{now.rate_out_hz:.1f} Hz out of {state.target_hz:.1f} Hz wanted ({share}){latency}"
        if state.unfused:
            return WARN, f"{now.rate_out_hz:.1f} Hz, labels are not fused: {state.unfused}"
        return OK, f"{now.rate_out_hz:.1f} Hz{latency}"


class DiagnosticsReport:
    """Publishes the report once a second."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
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
            **{f"reason: {reason}": count for reason, count in list(frames.reasons.items())[:10]},
            **state.facts,
        }
        if state.note:
            rows["middleware"] = state.note
        status = DiagnosticStatus(
            level=level,
            name=f"{self._node.get_fully_qualified_name().strip('/')}: labelling",
            hardware_id=str(state.facts.get("model", "")),
            message=sentence,
            values=[KeyValue(key=key, value=str(value)) for key, value in rows.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)


def _triple(percentiles: tuple[float, float, float] | None) -> str:
    return "none" if percentiles is None else " / ".join(f"{value:.1f}" for value in percentiles)


def _stamp_latency(percentiles: tuple[float, float, float] | None) -> str:
    if percentiles is not None and abs(percentiles[0]) > _OTHER_CLOCK_MS:
        return f"stamps are {percentiles[0] / 1e3:.0f} s off this node's clock; replaying a bag: use /clock and use_sim_time"
    return _triple(percentiles)
