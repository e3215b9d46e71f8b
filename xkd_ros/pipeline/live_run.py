"""Play a recording through the real nodes and read afterwards what came out and when."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from xkd_ros.bags.reader import Bag
from xkd_ros.core.errors import XkdError
from xkd_ros.core.rig import load_rig
from xkd_ros.msgs.header import stamp_ns
from xkd_ros.pipeline.graph import Graph
from xkd_ros.pipeline.progress import make_progress

READY_FILE = "ready"
_DRAIN_S = 3.0
_READY_S = 120.0
_ROUNDING_NS = 3
_REASONS = {
    "transport": "clouds lost in transport",
    "replaced_by_newer": "clouds replaced by newer",
    "not_needed": "clouds not needed",
    "rejected": "clouds rejected",
    "failed": "clouds failed",
}


@dataclass(frozen=True, eq=False)
class LiveRun:
    """What one playback gave.

    Attributes:
        scans_in: Scans that were sent.
        stamps_ns: (S,) header stamps of the labelled clouds, in order of arrival; shifted to the present by the replayer.
        received_ns: (S,) when they came in.
        recorded_ns: (S,) header stamps of the same clouds in the recording.
        due_ns: (S,) when the replayer sent each cloud: as long after its stamp as in the recording, divided by the rate.
        stage_ms: Times per stage as the segmenter published them.
        dropped: Scans that did not come out, by reason; `unexplained` must be 0.
        pairs: Scan-image pairs of the synchronizer.
        report: The segmenter's last diagnostics.
    """

    scans_in: int
    stamps_ns: np.ndarray
    received_ns: np.ndarray
    recorded_ns: np.ndarray
    due_ns: np.ndarray
    stage_ms: dict[str, list[float]]
    dropped: dict[str, int]
    pairs: int
    report: dict[str, str] = field(default_factory=dict)

    @property
    def hz(self) -> float:
        """Labelled clouds per second between the first and the last."""
        if len(self.received_ns) < 2:
            return 0.0
        return float((len(self.received_ns) - 1) / ((self.received_ns[-1] - self.received_ns[0]) * 1e-9))

    @property
    def latency_ms(self) -> np.ndarray:
        """(S,) from the sending of a cloud to the arrival of its labels in another process.

        A spinning lidar sends a cloud a tenth of a second after its stamp, when the turn is complete; that time is not counted.
        """
        return (self.received_ns - self.due_ns) * 1e-6


def run_live(
    bag: Path,
    model: Path,
    folder: Path,
    rig: Path | None = None,
    rate: float = 1.0,
    keep_labels: bool = True,
    topics: str = "",
    segmenter: dict[str, object] | None = None,
) -> LiveRun:
    """Replayer → segmenter (and synchronizer when a rig is given) → recorder, each a process, reliable QoS end to end.

    Args:
        bag: Recording.
        model: Model folder.
        folder: Logs, and below `labels/` the labels of each cloud.
        rig: Rig YAML for the synchronizer.
        rate: Speed of playback.
        keep_labels: Keep labels, not only times.
        topics: Play only these.
        segmenter: Further parameters of the segmenter.
    Raises:
        XkdError: a node died; its last words are quoted.
    """
    with Bag(bag) as recording:
        points_topic = recording.find_points_topic()
        scans_in, seconds = recording.topics[points_topic].count, recording.duration_s / rate
    labels = folder / "labels"
    (labels / READY_FILE).unlink(missing_ok=True)
    with Graph(folder / "logs") as graph:
        graph.start("recorder", {"out": labels, "keep_labels": keep_labels})
        settings = {"model": model, "input_reliability": "reliable", **(segmenter or {})}
        graph.start("segmenter", settings, {"points": points_topic})
        if rig is not None:
            graph.start("synchronizer", {"rig": rig, "input_reliability": "reliable"}, {"points": points_topic})
        wait_for = f"{points_topic}:1"
        if rig is not None:
            images = [f"{camera.topic}:1" for camera in load_rig(rig).cameras]
            wait_for = ",".join([f"{points_topic}:2", *images])
        play = {"bag": bag, "rate": rate, "reliability": "reliable", "wait_for": wait_for, "wait_timeout_s": _READY_S, "topics": topics}
        # Clouds that come before the segmenter knows of its listener would not be labelled.
        graph.wait_for_file(labels / READY_FILE, _READY_S)
        graph.start("replayer", {key: value for key, value in play.items() if value != ""})
        with make_progress() as display:
            task = display.add_task("labelling live", total=scans_in, note="")
            done = 0

            def tick() -> None:
                nonlocal done
                done = len(list(labels.glob("*.npz")))
                display.update(task, completed=done, note="" if done or not keep_labels else "starting the nodes")

            graph.wait("replayer", _READY_S + seconds + 60, tick)
            quiet = time.monotonic()
            while time.monotonic() - quiet < _DRAIN_S:
                before = done
                time.sleep(0.25)
                tick()
                quiet = time.monotonic() if done != before else quiet
            display.update(task, completed=done)
        graph.stop("recorder")
        graph.check()
    return _read(labels / "recording.json", _scan_times(bag, points_topic), rate)


def match_stamps(stamps_ns: np.ndarray, recorded_ns: np.ndarray, rate: float = 1.0) -> np.ndarray:
    """Undo what the replayer does to stamps: find the recorded stamp of each labelled cloud.

    Args:
        stamps_ns: (S,) stamps, moved to the present, their distances divided by the rate.
        recorded_ns: (R,) stamps in the recording, ascending.
        rate: Of the playback.
    Returns:
        (S,) recorded stamps.
    Raises:
        XkdError: no shift brings the two together.
    """
    if not len(stamps_ns):
        return stamps_ns
    played = np.round((recorded_ns - recorded_ns[0]) / rate).astype(np.int64)
    for first in played:
        shifted = stamps_ns - stamps_ns[0] + first
        after = np.clip(np.searchsorted(played, shifted - _ROUNDING_NS), 0, len(played) - 1)
        if (np.abs(played[after] - shifted) <= _ROUNDING_NS).all():
            matched: np.ndarray = recorded_ns[after]
            return matched
    raise XkdError("the stamps of the labelled clouds do not fit the recording; was another publisher on the topic?")


def _scan_times(bag: Path, topic: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (R,) header stamps and (R,) times of recording of the clouds of a topic."""
    with Bag(bag) as recording:
        times = [(stamp_ns(record.message()), record.stamp_ns) for record in recording.records([topic])]
    stamps, recorded = np.array(times, np.int64).reshape(-1, 2).T
    return np.where(stamps == 0, recorded, stamps), recorded


def _read(path: Path, times: tuple[np.ndarray, np.ndarray], rate: float) -> LiveRun:
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise XkdError(f"the recorder left no readable {path}: {error}") from error
    arrivals = np.array(facts["arrivals"], np.int64).reshape(-1, 2)
    stamps, scans_in = arrivals[:, 0], len(times[0])
    recorded = match_stamps(stamps, times[0], rate)
    delay_of = dict(zip(times[0].tolist(), (times[1] - times[0]).tolist()))
    delays = np.array([delay_of[stamp] for stamp in recorded.tolist()], np.int64)
    report: dict[str, str] = next(
        (rows for name, rows in facts["reports"].items() if name.endswith(": labelling") and "segmenter" in name), {}
    )
    dropped = {name: int(report.get(row, 0)) for name, row in _REASONS.items()}
    dropped["unexplained"] = scans_in - len(arrivals) - sum(dropped.values())
    due = stamps + (delays / rate).astype(np.int64)
    return LiveRun(scans_in, stamps, arrivals[:, 1], recorded, due, facts["stage_ms"], dropped, facts["pairs"], report)
