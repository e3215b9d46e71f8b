"""`xkd bench growth`: how the time for a scan grows with its points, from 16 beams to 128 (BENCH A, growth)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from xkd_ros.core.types import Scan
from xkd_ros.pipeline.bench.timing import interleaved_ms, write_figures
from xkd_ros.pipeline.progress import console, make_progress
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.worlds.simulated_rig import load_simulated_rig
from xkd_ros.worlds.walkthrough import SCAN_PERIOD_S, Walkthrough

LARGEST_SLOPE = 1.1
"""Of log time against log points."""
_LIDAR, _BEAMS, _COLUMNS = "os0_128", 128, 1024
# Every n-th beam and column of the largest sensor: what smaller ones of its family see from the same place.
_STRIDES = ((8, 2), (8, 1), (4, 1), (2, 1), (1, 1))
_BUILDING, _MOMENTS_S = 60, (0, 20, 40)


def run_bench_growth(model: Path, backend: str, threads: int | None, json: Path | None) -> dict[str, Any]:
    """Time whole scans of one sensor family: levelling, preprocessing, network, answer.

    Args:
        model: Model folder.
        backend: See `Segmenter.load`.
        threads: CPU threads; None takes all.
        json: File for the figures.
    Raises:
        ModelError: an unusable model or backend.
    """
    segmenter = Segmenter.load(model, backend, threads)
    clouds = list(large_scans())
    rows = []
    with make_progress() as display:
        task = display.add_task("timing scans", total=len(_STRIDES), note="")
        for beams, columns in _STRIDES:
            thinned = [every(scan, beams, columns) for scan in clouds]
            display.update(task, note=f"{_BEAMS // beams} beams")
            ms = interleaved_ms({str(number): partial(segmenter.segment, *scan) for number, scan in enumerate(thinned)})
            stages = segmenter.segment(*thinned[0]).stage_ms
            rows.append(
                {
                    "beams": _BEAMS // beams,
                    "columns": _COLUMNS // columns,
                    "points": len(thinned[0][0]),
                    "voxels": round(float(np.mean([len(segmenter.prepare(*scan)) for scan in thinned]))),
                    "ms": round(float(np.mean(list(ms.values()))), 1),
                    "stage_ms": {name: round(value, 1) for name, value in stages.items()},
                }
            )
            display.advance(task)
    name, used = segmenter.card.name, segmenter.backend_name
    facts = {"model": name, "backend": used, "threads": threads or "all", "rows": rows, "slope": slope(rows)}
    table = Table(title=f"{name} on {used}: {_LIDAR} thinned, building {_BUILDING}")
    for column in ("beams", "columns", "points", "voxels", "ms"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("beams", "columns", "points", "voxels", "ms")))
    console.print(table)
    console.print(f"log-log slope of time against points: {facts['slope']:.2f} (bar: at most {LARGEST_SLOPE})")
    write_figures(facts, json)
    return facts


def slope(rows: list[dict[str, Any]]) -> float:
    """Fit log ms against log points by least squares; 1 is linear growth."""
    points, ms = (np.log([row[name] for row in rows]) for name in ("points", "ms"))
    return round(float(np.polyfit(points, ms, 1)[0]), 3)


def large_scans() -> list[Scan]:
    """Scan one building by 128 beams from a few places."""
    rig = load_simulated_rig("ouster16")
    rig = replace(rig, simulation=rig.simulation.model_copy(update={"lidar": _LIDAR}), rig=rig.rig.model_copy(update={"cameras": []}))
    walk = Walkthrough(_BUILDING, rig, max(_MOMENTS_S) / 10 + 1)
    return [walk.scan(moment, keep_empty=True)[0] for moment in _MOMENTS_S]


def every(scan: Scan, beams: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Keep each n-th beam and column; points (M, 3) and intensity (M,)."""
    assert scan.intensity is not None and scan.ring is not None and scan.time_s is not None  # every simulated sensor measures them
    column = np.rint(scan.time_s / SCAN_PERIOD_S * _COLUMNS).astype(int)
    chosen = (scan.ring % beams == 0) & (column % columns == 0)
    return scan.points_m[chosen], scan.intensity[chosen]
