"""`xkd bench node`: how many labelled clouds a second leave the real node, and how late, with player and listener in other processes."""

from __future__ import annotations

import json as json_module
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from xkd_ros.bags.reader import Bag
from xkd_ros.core.card import load_card
from xkd_ros.core.files import write_atomic
from xkd_ros.pipeline.live_run import LiveRun, run_live
from xkd_ros.pipeline.progress import console
from xkd_ros.pipeline.simulation import run_simulation
from xkd_ros.pipeline.walks import Walk

SEED, RIG = 75, "ouster16"
# Faster than any backend on a small machine, so that the node is never idle.
_FULL_SPEED = 4.0


def run_bench_node(model: Path, bag: Path | None, seconds: float, json: Path | None) -> dict[str, Any]:
    """Play a recording at the sensor's rate and at four times it; print rate, latency, drops and times per stage.

    Args:
        model: Model folder.
        bag: Recording; None simulates a walk with the demo's rig.
        seconds: Length of that walk.
        json: File for the figures.
    Raises:
        XkdError: a part failed; its last words are quoted.
    """
    card = load_card(model)
    with tempfile.TemporaryDirectory(prefix="xkd_bench_") as folder:
        work = Path(folder)
        if bag is None:
            bag = work / "walk"
            run_simulation(Walk(RIG, SEED, seconds, 1), bag)
        with Bag(bag) as recording:
            topic = recording.find_points_topic()
        runs = {
            "sensor rate": run_live(bag, model, work / "paced", rate=1.0, keep_labels=False, topics=topic),
            "full speed": run_live(bag, model, work / "full", rate=_FULL_SPEED, keep_labels=False, topics=topic),
        }
    facts = {
        "model": card.name,
        "network": card.network.model_dump(),
        "cores": os.cpu_count(),
        "bag": RIG if bag.parent == work else bag.name,
        "runs": {name: _figures(run) for name, run in runs.items()},
    }
    console.print(_table(facts))
    if json is not None:
        write_atomic(json, json_module.dumps(facts, indent=1) + "\n")
    return facts


def _figures(run: LiveRun) -> dict[str, Any]:
    latency = run.latency_ms
    percentiles = [round(float(value), 1) for value in np.percentile(latency, [50, 95, 99])] if len(latency) else [None] * 3
    return {
        "scans_in": run.scans_in,
        "scans_out": len(run.stamps_ns),
        "dropped": run.dropped,
        "hz": round(run.hz, 2),
        "latency_ms": dict(zip(("p50", "p95", "p99"), percentiles)),
        "stage_ms": {stage: round(float(np.median(values)), 2) for stage, values in run.stage_ms.items() if values},
        "backend": run.report.get("backend", ""),
    }


def _table(facts: dict[str, Any]) -> Table:
    table = Table(title=f"whole node, {facts['model']}, {facts['cores']} cores, {facts['bag']}")
    table.add_column("")
    rows: dict[str, list[str]] = {}
    for name, figures in facts["runs"].items():
        table.add_column(name, justify="right")
        rows.setdefault("scans in / out", []).append(f"{figures['scans_in']} / {figures['scans_out']}")
        rows.setdefault("labelled clouds per second", []).append(f"{figures['hz']}")
        rows.setdefault("latency p50 / p95 / p99 ms", []).append(" / ".join(map(str, figures["latency_ms"].values())))
        dropped = ", ".join(f"{reason} {count}" for reason, count in figures["dropped"].items() if count)
        rows.setdefault("dropped", []).append(dropped or "none")
        rows.setdefault("backend", []).append(figures["backend"])
        for stage, value in figures["stage_ms"].items():
            rows.setdefault(f"  {stage} ms", []).append(f"{value}")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table
