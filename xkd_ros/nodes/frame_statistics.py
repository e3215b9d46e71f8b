"""Counts of frames that arrived, left and did not leave, with the reason, and the times of those that left.

Frames in equals frames out plus every counted reason plus what is still in work: nothing vanishes.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

_WINDOW_S = 10.0
_LARGEST_WINDOW = 2000
_NEWEST = 9


class SequenceGaps:
    """Frames that a publisher sent and the middleware did not deliver, from the publisher's sequence numbers."""

    def __init__(self) -> None:
        self._last: int | None = None

    def missed_before(self, sequence_number: int | None, publishers: int) -> int:
        """Count the numbers left out since the last call.

        Args:
            sequence_number: Of the frame at hand; None where the middleware gives none.
            publishers: Number of publishers on the topic; with several the numbers of one cannot be told from another's.
        """
        if sequence_number is None or publishers > 1:
            self._last = None
            return 0
        last, self._last = self._last, sequence_number
        # A smaller number is a restarted publisher.
        return max(0, sequence_number - last - 1) if last is not None else 0


@dataclass(frozen=True)
class FrameSnapshot:
    """The state of a stream at one moment.

    Attributes:
        arrived, published, failed, replaced, skipped, lost_in_transport: Frames since the node was configured.
        rejected: Frames whose content was refused.
        reasons: How often each reason for `rejected` and `failed` occurred.
        last_reason: The newest of them; empty when there is none.
        rate_in_hz, rate_out_hz: Over the last ten seconds.
        from_arrival_ms, from_stamp_ms: Percentiles (50, 95, 99) of the last ten seconds; None without frames.
        stage_ms: Median per stage.
        since_arrival_s: Age of the newest frame; None before the first.
        points, size_bytes: Size of the newest frame.
        mean_entropy: Over the labelled points of the last ten seconds; None where no point got a label.
    """

    arrived: int
    published: int
    failed: int
    rejected: int
    replaced: int
    skipped: int
    lost_in_transport: int
    reasons: dict[str, int]
    rate_in_hz: float
    rate_out_hz: float
    from_arrival_ms: tuple[float, float, float] | None
    from_stamp_ms: tuple[float, float, float] | None
    stage_ms: dict[str, float] = field(default_factory=dict)
    since_arrival_s: float | None = None
    points: int = 0
    size_bytes: int = 0
    mean_entropy: float | None = None
    last_reason: str = ""


class FrameStatistics:
    """Thread-safe counters of one stream of frames."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._arrivals: deque[float] = deque(maxlen=_LARGEST_WINDOW)
        self._done: deque[tuple[float, float, float, dict[str, float], float]] = deque(maxlen=_LARGEST_WINDOW)
        self._points, self._size_bytes = 0, 0
        self._last_reason = ""

    def count(self, what: str, number: int = 1) -> None:
        """Add to `replaced`, `skipped` or `lost_in_transport`."""
        with self._lock:
            self._counts[what] += number

    def arrive(self, points: int = 0, size_bytes: int = 0) -> None:
        """Count a frame that came in."""
        with self._lock:
            self._counts["arrived"] += 1
            self._arrivals.append(time.monotonic())
            self._points, self._size_bytes = points, size_bytes

    def fail(self, what: str, reason: str) -> None:
        """Count a frame as `rejected` (its content) or `failed` (our side), with the reason."""
        with self._lock:
            self._counts[what] += 1
            self._last_reason = reason
            # A hostile sender could make every reason different.
            if reason in self._reasons or len(self._reasons) < 50:
                self._reasons[reason] += 1

    def leave(self, from_arrival_ms: float, from_stamp_ms: float, stage_ms: dict[str, float], entropy: float) -> None:
        """Count a frame that was published, with its times and its mean entropy, NaN where no point got a label."""
        with self._lock:
            self._counts["published"] += 1
            self._done.append((time.monotonic(), from_arrival_ms, from_stamp_ms, stage_ms, entropy))

    def period_s(self) -> float:
        """Median time between the last clouds that arrived; 0 before there are some."""
        with self._lock:
            newest = [self._arrivals[number] for number in range(max(0, len(self._arrivals) - _NEWEST), len(self._arrivals))]
        return float(np.median(np.diff(newest))) if len(newest) == _NEWEST else 0.0

    def snapshot(self) -> FrameSnapshot:
        """Read everything at once."""
        now = time.monotonic()
        with self._lock:
            counts, reasons = dict(self._counts), dict(self._reasons.most_common())
            arrivals = [moment for moment in self._arrivals if now - moment <= _WINDOW_S]
            done = [row for row in self._done if now - row[0] <= _WINDOW_S]
            newest = self._arrivals[-1] if self._arrivals else None
            points, size_bytes, last_reason = self._points, self._size_bytes, self._last_reason
        entropies = [row[4] for row in done if np.isfinite(row[4])]
        stages: dict[str, list[float]] = {}
        for row in done:
            for stage, milliseconds in row[3].items():
                stages.setdefault(stage, []).append(milliseconds)
        names = ("arrived", "published", "failed", "rejected", "replaced", "skipped", "lost_in_transport")
        return FrameSnapshot(
            **{name: counts.get(name, 0) for name in names},
            reasons=reasons,
            rate_in_hz=_rate(arrivals),
            rate_out_hz=_rate([row[0] for row in done]),
            from_arrival_ms=_percentiles([row[1] for row in done]),
            from_stamp_ms=_percentiles([row[2] for row in done]),
            stage_ms={stage: float(np.median(values)) for stage, values in stages.items()},
            since_arrival_s=None if newest is None else now - newest,
            points=points,
            size_bytes=size_bytes,
            mean_entropy=float(np.mean(entropies)) if entropies else None,
            last_reason=last_reason,
        )


def _rate(moments: list[float]) -> float:
    """Frames per second between the first and the last moment."""
    if len(moments) < 2 or moments[-1] <= moments[0]:
        return 0.0
    return (len(moments) - 1) / (moments[-1] - moments[0])


def _percentiles(values: list[float]) -> tuple[float, float, float] | None:
    if not values:
        return None
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    return float(p50), float(p95), float(p99)
