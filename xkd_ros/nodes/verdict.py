"""Level and sentence of the segmenter's report: judged by what came, failed and left, not by the last good cloud.

In: counters and what the node knows beside them. Out: a level and one sentence. Next: `diagnostics`, which sends them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus

from xkd_ros.nodes.frame_statistics import FrameSnapshot

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
WINDOW_S = 3.0
"""What happened longer ago is over; shorter, a slow lidar would look well in every second without a cloud."""
ENTROPY_MARGIN = 0.15
"""Between buildings of the training the means of scans differ by about this much; above it lies another kind of place or sensor."""

_LOSS_SHARE = 0.05
# Loss of best-effort clouds begins below half a megabyte with the default shared-memory segment of Fast DDS. Smaller ones are lost when
# this process does not take one before the next comes.
_FITS_BYTES = 400_000
_BUSY_HINT = "this process did not get the CPU in time to take them, or a network lost them"
_PROFILE_HINT = "start the publisher of the clouds with FASTRTPS_DEFAULT_PROFILES_FILE set to config/fastdds_large_clouds.xml of xkd_ros"


@dataclass(frozen=True)
class SegmenterState:
    """What the node knows beside its frames.

    Attributes:
        lifecycle: Label of the lifecycle state.
        problem: Why there is no model; empty when there is one.
        enabled, subscribers: Whether labels are wanted.
        publishers: Number of publishers on the input topic.
        input_topic: Resolved name.
        target_hz, stale_s: Limits from the parameters.
        complaints: What is wrong with an input or the backend though clouds go through.
        deaf_to, unheard_by: Publishers and subscribers that do not fit this node, in words; empty when all do.
        in_work_s: Age of the cloud in work.
        usual_entropy: Mean entropy on the ground of the model's training; None where the card has none.
        facts: Further rows of the report.
    """

    lifecycle: str
    problem: str
    enabled: bool
    publishers: int
    input_topic: str
    target_hz: float
    stale_s: float
    complaints: tuple[str, ...] = ()
    subscribers: int = 0
    deaf_to: str = ""
    unheard_by: str = ""
    in_work_s: float = 0.0
    usual_entropy: float | None = None
    facts: Mapping[str, str] = field(default_factory=lambda: {"clouds in work": "0"})


class Verdict:
    """Remembers the counters of the last seconds."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, FrameSnapshot]] = deque()

    def judge(self, state: SegmenterState, now: FrameSnapshot) -> tuple[bytes, str]:
        """Compare with a few seconds ago and decide.

        Returns:
            Level and one sentence.
        """
        moment = time.monotonic()
        if self._past and self._past[-1][1].arrived > now.arrived:  # cleaned up and configured anew: counted from zero again
            self._past.clear()
        self._past.append((moment, now))
        while len(self._past) > 1 and moment - self._past[1][0] >= WINDOW_S:
            self._past.popleft()
        before = self._past[0][1] if moment - self._past[0][0] >= WINDOW_S else None
        if state.problem:
            return ERROR, state.problem
        if state.lifecycle != "active":
            return OK, f"{state.lifecycle}: no labels until the node is activated"
        if now.since_arrival_s is None or now.since_arrival_s > state.stale_s:
            return _silent(state, now)
        if not state.enabled:
            return OK, "disabled by the parameter 'enabled' or ~/set_enabled"
        if not state.subscribers:
            return (WARN, state.unheard_by) if state.unheard_by else (OK, "idle: nobody subscribes to the labelled cloud")
        return _working(state, now, before)


def _silent(state: SegmenterState, now: FrameSnapshot) -> tuple[bytes, str]:
    if state.deaf_to:
        return ERROR, state.deaf_to
    if not state.publishers:
        return WARN, f"nobody publishes {state.input_topic}: remap 'points' to the topic of the lidar"
    if now.since_arrival_s is None:
        return WARN, f"no cloud has arrived on {state.input_topic}"
    return ERROR, f"input is dead: no cloud on {state.input_topic} for {now.since_arrival_s:.1f} s"


def _working(state: SegmenterState, now: FrameSnapshot, before: FrameSnapshot | None) -> tuple[bytes, str]:
    def since(name: str) -> int:
        return getattr(now, name) - (getattr(before, name) if before else 0)

    lost = since("rejected") + since("failed")
    if state.in_work_s > state.stale_s:
        return ERROR, f"the backend hangs: one cloud has been in work for {state.in_work_s:.1f} s"
    if lost:
        if since("published") == 0:
            return ERROR, f"no cloud gets through: {now.last_reason}"
        return WARN, f"some clouds do not get through: {now.last_reason}"
    sent = since("arrived") + since("lost_in_transport")
    if sent and since("lost_in_transport") > _LOSS_SHARE * sent:
        hint = _BUSY_HINT if now.size_bytes < _FITS_BYTES else f"{_PROFILE_HINT}; or {_BUSY_HINT}"
        return WARN, f"{since('lost_in_transport')} of the last {sent} clouds were lost on the way here; {hint}"
    warnings = [*state.complaints, *_about_labels(state, now), *filter(None, (state.deaf_to, state.unheard_by))]
    if warnings:
        return WARN, "; ".join(warnings)
    latency = f", p95 {now.from_arrival_ms[1]:.0f} ms" if now.from_arrival_ms else ""
    if state.target_hz and now.rate_out_hz < 0.9 * state.target_hz:
        share = f"{since('replaced')} of {since('arrived')} clouds replaced by newer ones; a lower lowest_share makes room"
        return WARN, f"{now.rate_out_hz:.1f} Hz out of {state.target_hz:.1f} Hz wanted ({share}){latency}"
    return OK, f"{now.rate_out_hz:.1f} Hz{latency}"


def _about_labels(state: SegmenterState, now: FrameSnapshot) -> list[str]:
    """Say what the labels themselves give away: nothing to label, or a model that is unsure."""
    if now.from_arrival_ms is None or now.points == 0:
        return []
    if now.mean_entropy is None:
        return ["every point is unknown: no cloud of the last seconds holds a measurement that the model could label"]
    if state.usual_entropy is not None and now.mean_entropy > state.usual_entropy + ENTROPY_MARGIN:
        where = f"mean entropy {now.mean_entropy:.2f}, in training {state.usual_entropy:.2f}"
        return [f"the model is unsure here ({where}): another kind of place, sensor or unit of length than it learnt from"]
    return []
