"""Study `temporal`: what does it give to remember what earlier scans said, and whom does it harm?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from xkd_ros.bags.frame import Frame
from xkd_ros.core.labels import INDOOR12
from xkd_ros.core.share import find_model
from xkd_ros.core.types import Segmentation
from xkd_ros.evaluate.evaluation import Evaluation
from xkd_ros.evaluate.frame_evaluation import evaluate_frames
from xkd_ros.evaluate.scores import coarse
from xkd_ros.pipeline.studies.cell import Cell, CellResult
from xkd_ros.pipeline.studies.paired import paired_difference, spread
from xkd_ros.pipeline.studies.scale import Scale
from xkd_ros.pipeline.studies.study import by_seed, make_cell, mean_of
from xkd_ros.pipeline.studies.table import BAR_COLUMNS, StudyTable, bar_row
from xkd_ros.pipeline.studies.trial import Outcome, Trial
from xkd_ros.pipeline.studies.workshop import Workshop
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.runtime.temporal import FusionConfig, TemporalFusion

RIG, MODEL = "ouster16", "indoor-24x64"
GROUPS = 5
SCANS_PER_FRAME = 5
"""Scans of a walk for each validation frame of the scale: 100 at the size for 2 cores."""
PERSON = INDOOR12.names.index("person")
STRUCTURES = 3
"""Of the four structural classes: wall (columns too), floor, ceiling."""
LEAST_REMOVED_PERCENT, PERSON_BAR, LARGEST_ECE_PERCENT = 15.0, -0.5, 5.0
SIDES = ("alone", "fused")
_FIGURES = {
    "mIoU, 12 classes": "miou",
    "mIoU, 4 classes": "struct4_miou",
    "structure error": "structure_error",
    "IoU of person": "person",
    "calibration error (15 bins)": "ece",
}


class TemporalStudy:
    """One model on consecutive scans, each labelled alone and fused with those before it."""

    name = "temporal"
    claim = "None is published: adjacent frames overlap strongly and stay unused, fusing them is future work (arXiv 2604.18831)."
    protocol = (
        f"Rig {RIG}, model {MODEL} as it comes with the package; nothing is trained. Every scan of a walk at 10 Hz, deskewed, with the "
        "simulated odometry, which drifts, never the true pose; walks begin with nothing remembered. A seed is a group of buildings that "
        f"no other seed has, {GROUPS} groups in all, and both sides label the same scans: intervals are over buildings, not over "
        "trainings. Structure error: share of the points that truly are wall, floor or ceiling (columns are wall) and are labelled as "
        "something else in the four structural classes; the removed share of 100 minus the mIoU of the four classes is reported beside "
        "it. The form and the constants of the fusion were chosen on these buildings; see docs/temporal_fusion.md."
    )

    def cells(self, scale: Scale, teachers: Sequence[str]) -> list[Cell]:
        """List the cells: one per group of buildings."""
        groups = [list(scale.val_buildings[first::GROUPS]) for first in range(min(GROUPS, len(scale.val_buildings)))]
        facts = {"model": MODEL, "scans": SCANS_PER_FRAME * scale.val_frames, "fusion": FusionConfig().model_dump(mode="json")}
        return [make_cell(self.name, "walks", seed, scale, buildings=buildings, **facts) for seed, buildings in enumerate(groups)]

    def run(self, cell: Cell, workshop: Workshop, trial: Trial) -> Outcome:
        """Label every scan alone and fused."""
        frames = workshop.drives(RIG, cell.parameters["buildings"], cell.parameters["scans"])
        backend = "torch" if workshop.fabric.device.type == "cuda" else "numba"
        segmenter = Segmenter.load(find_model(cell.parameters["model"]), backend)
        walkers = {"alone": _Walker(segmenter, None), "fused": _Walker(segmenter, TemporalFusion(segmenter.card.labels.names))}
        metrics: dict[str, Any] = {}
        for side, walker in walkers.items():
            with workshop.progress.step(f"labelling {side}") as report:
                evaluation = evaluate_frames(
                    walker, frames, frames.numbers(), None, segmenter.card.labels, report, model=MODEL, before=walker.begin
                )
            metrics[side] = _figures(evaluation)
        inputs = {"frames": evaluation.frames_hash, "model": segmenter.card.hash}
        return Outcome(evaluation.class_hash, inputs, {**metrics, **walkers["fused"].costs()})

    def tables(self, results: Sequence[CellResult]) -> list[StudyTable]:
        """Set both sides beside each other."""
        scores = StudyTable("Labels of every scan against true labels, all points, %, mean ± 95 %", ("figure", *SIDES, "fused minus alone"))
        for figure, key in _FIGURES.items():
            sides = [by_seed(results, (side, key)) for side in SIDES]
            scores.rows.append([figure, *(str(mean_of(values)) for values in sides), str(paired_difference(sides[1], sides[0]))])
        classes = StudyTable("IoU % by class, mean ± 95 %", ("class", *SIDES, "fused minus alone"))
        for name in INDOOR12.names:
            sides = [by_seed(results, (side, "iou", name)) for side in SIDES]
            classes.rows.append([name, *(str(mean_of(values)) for values in sides), str(paired_difference(sides[1], sides[0]))])
        bars = StudyTable("Bars", ("fused against alone", *BAR_COLUMNS[1:]))
        for what, key, full, bar in (
            ("structure error removed, %", "structure_error", 0.0, LEAST_REMOVED_PERCENT),
            ("error of the 4-class mIoU removed, %", "struct4_miou", 100.0, None),
        ):
            bars.rows.append(bar_row(what, spread(list(_removed(results, key, full).values())), bar))
        person = [by_seed(results, (side, "person")) for side in SIDES]
        bars.rows.append(bar_row("IoU of person, points", paired_difference(person[1], person[0]), PERSON_BAR))
        spare = spread([LARGEST_ECE_PERCENT - value for value in by_seed(results, ("fused", "ece")).values()])
        bars.rows.append(bar_row(f"{LARGEST_ECE_PERCENT:g} % minus the calibration error, fused", spare, 0.0))
        columns = ("ms a scan, median", "sampled points a scan", "points whose place was known, %", "voxels kept")
        cost = StudyTable("Cost of the fusion", columns)
        taken, points, known, voxels = (by_seed(results, (key,)) for key in ("fusion_ms", "points", "known_percent", "voxels"))
        cost.rows.append([_median(taken, 2), _median(points, 0), str(mean_of(known)), _median(voxels, 0)])
        return [scores, bars, classes, cost]


class _Walker:
    """Labels the scans of recordings in order."""

    def __init__(self, segmenter: Segmenter, fusion: TemporalFusion | None) -> None:
        self._segmenter, self._fusion = segmenter, fusion
        self._frame: Frame | None = None
        self._rows: list[tuple[float, int, float, int]] = []

    def begin(self, frame: Frame) -> None:
        """Say where the next scan is from."""
        if self._fusion is not None and self._frame is not None and frame.source != self._frame.source:
            self._fusion.reset()
        self._frame = frame

    def __call__(self, points_m: np.ndarray, intensity: np.ndarray | None, rotation: np.ndarray | None) -> Segmentation:
        assert self._frame is not None
        fusion, frame = self._fusion, self._frame
        if fusion is None:
            return self._segmenter.segment(points_m, intensity, rotation)
        fuse = partial(fusion, world_from_lidar=frame.world_from_lidar, stamp_ns=frame.stamp_ns)
        result = self._segmenter.segment(points_m, intensity, rotation, fuse)
        self._rows.append((result.stage_ms["fusion"], fusion.points, fusion.fused_share, fusion.voxels))
        return result

    def costs(self) -> dict[str, float]:
        """Summarise what fusing took and met."""
        milliseconds, points, shares, voxels = (np.array(column, float) for column in zip(*self._rows))
        return {
            "fusion_ms": round(float(np.median(milliseconds)), 3),
            "points": round(float(points.mean()), 1),
            "known_percent": round(100 * float(shares.mean()), 2),
            "voxels": float(voxels.max()),
        }


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    """Keep what the tables need, in percent."""
    real, row = evaluation.real, evaluation.summary()["real"]["all points"]
    assert real is not None  # simulated walks have true labels
    structural = coarse(real.all, evaluation.label_set)
    assert structural is not None
    counts = structural.counts[:STRUCTURES]
    found = int(np.trace(counts[:, :STRUCTURES]))
    return {
        "points": row["points"],
        "miou": row["miou"],
        "struct4_miou": row["struct4"]["miou"],
        "structure_error": round(100 - 100 * found / max(1, int(counts.sum())), 3),
        "person": row["iou"][PERSON],
        "ece": None if real.reliability.ece is None else round(100 * real.reliability.ece, 3),
        "iou": dict(zip(INDOOR12.names, row["iou"])),
    }


def _removed(results: Sequence[CellResult], key: str, full: float) -> dict[int, float]:
    """Share of the distance to a perfect score that fusing removes, in percent, by seed."""
    alone, fused = (by_seed(results, (side, key)) for side in SIDES)
    return {seed: 100 * (1 - (full - fused[seed]) / (full - alone[seed])) for seed in alone.keys() & fused.keys() if full != alone[seed]}


def _median(values: dict[int, float], digits: int) -> str:
    return f"{np.median(list(values.values())):.{digits}f}" if values else "-"
