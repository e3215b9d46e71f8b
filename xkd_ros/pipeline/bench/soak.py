"""`xkd bench soak`: clouds at the sensor's rate for an hour; does the segmenter's process grow, or its labels come later and later?"""

from __future__ import annotations

import json as json_module
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.table import Table

from xkd_ros.bags.reader import Bag
from xkd_ros.core.card import load_card
from xkd_ros.core.errors import XkdError
from xkd_ros.core.files import write_atomic
from xkd_ros.pipeline.bench.node import RIG, SEED
from xkd_ros.pipeline.graph import Graph
from xkd_ros.pipeline.live_run import READY_FILE
from xkd_ros.pipeline.progress import console, make_progress
from xkd_ros.pipeline.simulation import run_simulation
from xkd_ros.pipeline.walks import Walk

MEMORY_GROWTH = 0.02
WORK_DRIFT = 0.25
"""Of the processor time per cloud. The time by the clock is shown only: other programs change it more than any fault of ours."""
_WARM_UP = 0.2
_EVERY_S = 1.0
_WALK_S = 5.0
_READY_S = 180.0
_TIMES = (("work_ms", "processor ms per cloud"), ("total_ms", "ms by the clock"))
T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """The segmenter's process at one moment: `taken_ns` by the wall clock, `cpu_s` since it began."""

    taken_ns: int
    resident_bytes: int
    files: int
    threads: int
    cpu_s: float


def run_soak(model: Path, minutes: float, bag: Path | None, json: Path | None) -> bool:
    """Loop a recording through the segmenter and compare the first third after the warm-up with the last.

    Args:
        model: Model folder.
        minutes: How long.
        bag: Recording; None simulates a walk of some seconds with the demo's rig.
        json: File for the figures.
    Returns:
        Whether memory, descriptors, threads and times stayed, and every cloud was accounted for.
    Raises:
        XkdError: a part failed; its last words are quoted.
    """
    card = load_card(model)
    with tempfile.TemporaryDirectory(prefix="xkd_soak_") as folder:
        work = Path(folder)
        if bag is None:
            bag = work / "walk"
            run_simulation(Walk(RIG, SEED, _WALK_S, 1), bag)
        samples, recording = _run(model, bag, work, 60 * minutes)
    facts = {"model": card.name, "minutes": minutes, "cores": os.cpu_count(), **judge(samples, recording)}
    console.print(_table(facts))
    if json is not None:
        write_atomic(json, json_module.dumps(facts, indent=1) + "\n")
    return not facts["missed"]


def _run(model: Path, bag: Path, work: Path, seconds: float) -> tuple[list[Sample], dict[str, Any]]:
    with Bag(bag) as recording:
        topic = recording.find_points_topic()
    out = work / "heard"
    samples = []
    with Graph(work / "logs") as graph, make_progress() as display:
        graph.start("recorder", {"out": out, "keep_labels": False})
        graph.start("segmenter", {"model": model, "input_reliability": "reliable"}, {"points": topic})
        graph.wait_for_file(out / READY_FILE, _READY_S)
        play = {"bag": bag, "loop": True, "reliability": "reliable", "wait_for": f"{topic}:1", "topics": topic}
        graph.start("replayer", play)
        task = display.add_task("soaking", total=seconds, note="")
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < seconds:
            time.sleep(_EVERY_S)
            graph.check()
            samples.append(_look(graph.pid("segmenter")))
            display.update(task, completed=passed, note=f"{samples[-1].resident_bytes / 1e6:.0f} MB, {samples[-1].threads} threads")
        graph.stop("replayer")
        time.sleep(2 * _EVERY_S)  # the next report of the segmenter counts everything
        graph.stop("recorder")
    try:
        return samples, json_module.loads((out / "recording.json").read_text())
    except (OSError, ValueError) as error:
        raise XkdError(f"the recorder left no readable recording: {error}") from error


def _look(pid: int) -> Sample:
    process = Path(f"/proc/{pid}")
    try:
        pages = int((process / "statm").read_text().split()[1])
        ticks = sum(map(int, (process / "stat").read_text().rpartition(")")[2].split()[11:13]))
        files, threads = (len(os.listdir(process / name)) for name in ("fd", "task"))
        cpu_s = ticks / os.sysconf("SC_CLK_TCK")
        return Sample(time.time_ns(), pages * os.sysconf("SC_PAGE_SIZE"), files, threads, cpu_s)
    except OSError as error:
        raise XkdError(f"the segmenter's process {pid} cannot be looked at: {error.strerror}") from error


def judge(samples: list[Sample], recording: dict[str, Any]) -> dict[str, Any]:
    """Compare the first third after the warm-up with the last.

    Args:
        samples: Of the process, in order.
        recording: What the recorder node wrote.
    Returns:
        The figures; `missed` names the bars that were not met.
    Raises:
        XkdError: too short to compare, or the segmenter did not report.
    """
    report = next((rows for name, rows in recording["reports"].items() if name.endswith(": labelling")), None)
    total_ms = np.array(recording["stage_ms"]["total"])
    if report is None or min(len(samples), len(total_ms)) < 15:
        raise XkdError(f"only {len(total_ms)} clouds in {len(samples)} looks: too short a soak to compare its ends")
    early, late = _ends(samples)
    first, last = (np.median([[sample.resident_bytes, sample.files, sample.threads] for sample in part], axis=0) for part in (early, late))
    growth = float(last[0] / first[0] - 1)
    heard_ns = np.array(recording["arrivals"], np.int64).reshape(-1, 2)[:, 1]
    work_ms = [_work_ms(part, heard_ns) for part in (early, late)]
    drift = work_ms[1] / work_ms[0] - 1
    outcomes = ("published", "rejected", "failed", "replaced by newer", "not needed")
    counts = {name: int(report[f"clouds {name}"]) for name in outcomes}
    unexplained = int(report["clouds arrived"]) - sum(counts.values()) - int(report["clouds in work"])
    bars = {
        f"memory grew by {100 * growth:.1f} %": growth > MEMORY_GROWTH,
        "open files grew": last[1] > first[1],
        "threads grew": last[2] > first[2],
        f"clouds take {100 * drift:.0f} % more work": drift > WORK_DRIFT,
        "clouds failed": counts["failed"] + counts["rejected"] > 0,
        f"{unexplained} clouds unexplained": unexplained != 0,
    }
    return {
        "memory_mb": [round(float(value) / 1e6, 1) for value in (first[0], last[0])],
        "memory_growth": round(growth, 4),
        "files": [int(first[1]), int(last[1])],
        "threads": [int(first[2]), int(last[2])],
        "work_ms": [round(value, 1) for value in work_ms],
        "total_ms": [round(float(np.median(part)), 1) for part in _ends(total_ms.tolist())],
        "clouds": counts,
        "lost_in_transport": int(report["clouds lost in transport"]),
        "unexplained": unexplained,
        "backend": report["backend"],
        "missed": [bar for bar, broken in bars.items() if broken],
    }


def _ends(rows: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """Return the first and the last third, the warm-up left out."""
    rows = rows[int(_WARM_UP * len(rows)) :]
    third = max(2, len(rows) // 3)
    return rows[:third], rows[-third:]


def _work_ms(part: Sequence[Sample], heard_ns: np.ndarray) -> float:
    """Processor time per labelled cloud between the first and the last of some samples."""
    clouds = np.count_nonzero((heard_ns > part[0].taken_ns) & (heard_ns <= part[-1].taken_ns))
    if not clouds:
        raise XkdError("no cloud came out for a third of the soak: the segmenter is too slow for this recording")
    return 1e3 * (part[-1].cpu_s - part[0].cpu_s) / int(clouds)


def _table(facts: dict[str, Any]) -> Table:
    table = Table(title=f"soak of {facts['minutes']:g} minutes, {facts['model']} on {facts['backend']}, {facts['cores']} cores")
    for column in ("", "at first", "at last"):
        table.add_column(column, justify="left" if not column else "right")
    for name, label in (("memory_mb", "memory MB"), ("files", "open files"), ("threads", "threads"), *_TIMES):
        table.add_row(label, *map(str, facts[name]))
    for name, count in (facts["clouds"] | {"lost in transport": facts["lost_in_transport"], "unexplained": facts["unexplained"]}).items():
        table.add_row(f"clouds {name}", "", str(count))
    table.add_row("bars", "", "; ".join(facts["missed"]) or "met")
    return table
