"""`xkd validate`: one table of how good a model is, on simulated buildings it never saw and on really labelled scans."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Any

from rich.progress import Progress
from rich.table import Table

from xkd_ros.core.card import save_card
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.files import write_atomic
from xkd_ros.core.labels import INDOOR12, INDOOR12_TO_STRUCT4, STRUCT4
from xkd_ros.evaluate.scores import EntropyTable
from xkd_ros.evaluate.validation import LabelledScan, Score, load_labelled_bag, score, score_variants
from xkd_ros.metrics.entropy import EntropyHistogram
from xkd_ros.pipeline.progress import console, make_progress
from xkd_ros.pipeline.walks import read_seeds
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.worlds.simulated_rig import load_simulated_rig
from xkd_ros.worlds.walkthrough import Walkthrough

RIGS = ("ouster16", "vlp32", "xt32_handheld", "dual_ouster16_horizontal")
_SIMULATED = "simulated, "
_WALK_S = 2.0
_EVERY = 5


def run_validation(
    model: Path,
    bag: Path | None,
    labels: Path | None,
    seeds: str,
    json: Path | None,
    remember_entropy: bool = False,
    headings: int = 1,
    rig: Path | None = None,
) -> None:
    """Score and print.

    Args:
        model: Model folder.
        bag, labels: Really labelled scans; see `load_labelled_bag`.
        seeds: "first-last" building seeds, or "" for none.
        json: File for the figures.
        remember_entropy: Keep the entropy on the simulated buildings in the model's card, as what is usual on the ground of training.
        headings: As for `Segmenter.headings`.
        rig: Mounting of the lidar of the really labelled scans, where the recording does not hold it.
    Raises:
        ConfigError: seeds that are no range, only one of bag and labels, or nothing simulated to remember.
        BagError, ModelError: named in one line.
    """
    if (bag is None) != (labels is None):
        raise ConfigError("really labelled scans need both --bag and --labels")
    if not seeds and bag is None:
        raise ConfigError("nothing to score on: give --seeds of simulated buildings, or --bag and --labels")
    if remember_entropy and not seeds:
        raise ConfigError("--remember-entropy needs simulated buildings: give --seeds")
    real = [] if bag is None or labels is None else load_labelled_bag(bag, labels, rig)
    segmenter = Segmenter.load(model)
    segmenter.headings = headings
    results: dict[str, Score] = {}
    with make_progress() as display:
        if seeds:
            for sensor, scans in _simulated(read_seeds(seeds), display).items():
                task = display.add_task(f"labelling {sensor}", total=len(scans), note="")
                results[f"{_SIMULATED}{sensor}"] = score(segmenter.segment, display.track(scans, task_id=task))
        if real:
            task = display.add_task("labelling real scans", total=None, note="")
            results.update({f"real, {name}": result for name, result in score_variants(segmenter.segment, real).items()})
            display.remove_task(task)
    entropy = sum((result.entropy for name, result in results.items() if name.startswith(_SIMULATED)), EntropyHistogram())
    summaries: dict[str, Any] = {name: result.summary() for name, result in results.items()}
    console.print(_table("four structural classes", STRUCT4.names, {name: rows["struct4"] for name, rows in summaries.items()}))
    console.print(_table("twelve indoor classes", INDOOR12.names, {name: rows["indoor12"] for name, rows in summaries.items()}))
    if seeds:
        console.print(f"mean entropy on simulated buildings: {entropy.mean:.3f}")
    if remember_entropy:
        table = EntropyTable.of(entropy).model_dump(mode="json")
        save_card(segmenter.card.model_copy(update={"metrics": {**segmenter.card.metrics, "entropy": table}}), model)
    if json is not None:
        facts = {"model": segmenter.card.name, "card": segmenter.card.hash, "backend": segmenter.backend_name, "scores": summaries}
        write_atomic(json, json_module.dumps(facts, indent=1) + "\n")


def _simulated(seeds: range, display: Progress) -> dict[str, list[LabelledScan]]:
    """Walk every rig through each building for two seconds and keep every fifth scan; only the lidar is simulated."""
    scans: dict[str, list[LabelledScan]] = {rig: [] for rig in RIGS}
    task = display.add_task("simulating validation buildings", total=len(seeds) * len(RIGS), note="")
    for seed in seeds:
        for rig in RIGS:
            walk = Walkthrough(seed, load_simulated_rig(rig), _WALK_S, None)
            for index in range(0, walk.scans, _EVERY):
                scan, truth = walk.scan(index, 0)
                scans[rig].append(LabelledScan(scan, truth, INDOOR12_TO_STRUCT4[truth]))
            display.advance(task)
    return scans


def _table(title: str, names: tuple[str, ...], rows: dict[str, Any]) -> Table:
    table = Table(title=f"{title}: IoU in percent")
    for column in ("scans", "mIoU", *names):
        table.add_column(column, justify="left" if column == "scans" else "right")
    for name, row in rows.items():
        table.add_row(name, *("-" if value is None else f"{value:.1f}" for value in (row["miou"], *row["iou"])))
    return table
