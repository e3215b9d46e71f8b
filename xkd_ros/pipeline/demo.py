"""`xkd demo`: a building the model never saw, through real ROS 2 topics, scored against the truth, with pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from xkd_ros.bags.calibration import rig_from_bag
from xkd_ros.core.card import load_card
from xkd_ros.core.errors import BagError
from xkd_ros.core.files import write_atomic
from xkd_ros.core.labels import INDOOR12_TO_STRUCT4, LabelSet
from xkd_ros.core.rig import save_rig
from xkd_ros.core.types import UNKNOWN
from xkd_ros.metrics.confusion import Confusion, percent
from xkd_ros.pipeline.demo_pictures import draw_pictures, write_rerun
from xkd_ros.pipeline.live_run import LiveRun, run_live
from xkd_ros.pipeline.progress import console
from xkd_ros.pipeline.simulation import SimulatedTruth, load_truth, run_simulation
from xkd_ros.pipeline.walks import Walk, difference

_PICTURES = 4
_SUMMARY = "summary.json"


def run_demo(out: Path, model: Path, seed: int, rig: str, seconds: float) -> None:
    """Simulate (once), play, label live, score, draw.

    Writes `<out>/walk` (bag), `<out>/live` (logs, labels), `<out>/pictures`, `<out>/demo.rrd` and `<out>/summary.json`.

    Args:
        out: Folder; a walk of the same seed, rig and length in it is used again.
        model: Model folder.
        seed, rig, seconds: As for `simulate`.
    Raises:
        XkdError: a part failed; its last words are quoted.
    """
    card = load_card(model)
    walk = out / "walk"
    wanted = Walk(rig, seed, seconds, 1)
    if not walk.exists() or difference(wanted, walk):
        if walk.exists() and not (out / _SUMMARY).is_file():
            raise BagError(f"{walk} is no walk of a demo; choose another folder with -o, or remove it")
        run_simulation(wanted, walk, overwrite=True)
    rig_config = rig_from_bag(walk)
    save_rig(rig_config, out / "rig.yaml")
    live = out / "live"
    for old in live.glob("labels/*.npz"):
        old.unlink()
    run = run_live(walk, model, live, rig=out / "rig.yaml")
    original = run.recorded_ns
    truth = load_truth(walk)
    predicted = _load_labels(live / "labels", run)
    confusion = _score(predicted, truth, len(card.labels))
    summary = summarise(run, confusion, card.labels)
    summary.update(building=seed, rig=rig, model=card.name, card=card.hash, backend=run.report.get("backend", ""))
    write_atomic(out / _SUMMARY, json.dumps(summary, indent=1) + "\n")
    with console.status("drawing pictures"):
        chosen = (
            [int(stamp) for stamp in original[np.unique(np.linspace(0, len(original) - 1, _PICTURES).astype(int))]] if len(original) else []
        )
        drawn = draw_pictures(out / "pictures", walk, rig_config, chosen, predicted, truth, card.labels)
        viewer = write_rerun(out / "demo.rrd", walk, predicted, truth, card.labels)
    console.print(_table(summary, card.labels))
    console.print(f"pictures: {', '.join(map(str, drawn)) or 'none'}")
    console.print(
        f"3D viewer: {'.venv/bin/' if Path('.venv/bin/rerun').exists() else ''}rerun {viewer}" if viewer else "no rerun-sdk: no .rrd file"
    )
    console.print(f"figures: {out / _SUMMARY}")


def summarise(run: LiveRun, confusion: Confusion, labels: LabelSet) -> dict[str, Any]:
    """Collect the figures of a live run; keys as promised in the README."""
    latency = run.latency_ms
    structural = _collapse(confusion) if len(labels) == 12 else None
    return {
        "scans_in": run.scans_in,
        "scans_out": len(run.stamps_ns),
        "dropped": run.dropped,
        "pairs": run.pairs,
        "hz": round(run.hz, 2),
        "latency_ms_p50": round(float(np.percentile(latency, 50)), 1) if len(latency) else None,
        "latency_ms_p95": round(float(np.percentile(latency, 95)), 1) if len(latency) else None,
        "stage_ms": {stage: round(float(np.median(values)), 2) for stage, values in run.stage_ms.items() if values},
        "miou": percent(confusion.miou),
        "iou": {name: percent(value) for name, value in zip(labels.names, confusion.iou)},
        **({"miou_struct4": percent(structural.miou)} if structural else {}),
    }


def _collapse(confusion: Confusion) -> Confusion:
    result = Confusion(4)
    rows = INDOOR12_TO_STRUCT4[:12]
    columns = np.append(rows, 4)
    np.add.at(result.counts, (rows[:, None].astype(int), columns[None].astype(int)), confusion.counts)
    return result


def _load_labels(folder: Path, run: LiveRun) -> dict[int, np.ndarray]:
    predicted = {}
    for stamp, recorded in zip(run.stamps_ns.tolist(), run.recorded_ns.tolist()):
        path = folder / f"{stamp}.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as arrays:
                predicted[recorded] = arrays["label"]
    return predicted


def _score(predicted: dict[int, np.ndarray], truth: SimulatedTruth, classes: int) -> Confusion:
    confusion = Confusion(classes)
    for stamp, labels in predicted.items():
        true = truth.labels(stamp)
        confusion.add(np.where(true < classes, true, UNKNOWN), labels)
    return confusion


def _table(summary: dict[str, Any], labels: LabelSet) -> Table:
    table = Table(title=f"building {summary['building']}, never seen in training, labelled live by {summary['model']}", show_header=False)
    dropped = ", ".join(f"{name} {count}" for name, count in summary["dropped"].items() if count) or "none"
    table.add_row("scans in / out", f"{summary['scans_in']} / {summary['scans_out']}")
    table.add_row("dropped", dropped)
    table.add_row("camera pairs", str(summary["pairs"]))
    table.add_row("rate", f"{summary['hz']} Hz (the lidar's own is 10 Hz)")
    table.add_row("latency p50 / p95", f"{summary['latency_ms_p50']} / {summary['latency_ms_p95']} ms from cloud sent to labels received")
    table.add_row("per stage (median)", ", ".join(f"{name} {value} ms" for name, value in summary["stage_ms"].items()))
    table.add_row("mIoU 12 classes", f"{summary['miou']} %")
    if "miou_struct4" in summary:
        table.add_row("mIoU wall, floor, ceiling, other", f"{summary['miou_struct4']} %")
    for name in labels.names:
        value = summary["iou"][name]
        table.add_row(f"  {name}", "not in this walk" if value is None else f"{value} %")
    return table
