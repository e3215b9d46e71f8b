"""Study `rigs`: does one backbone for all rigs do as well as one for each?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xkd_ros.pipeline.studies.cell import Cell, CellResult
from xkd_ros.pipeline.studies.paired import paired_difference
from xkd_ros.pipeline.studies.scale import RIGS, Scale
from xkd_ros.pipeline.studies.study import REAL_ALL, by_seed, make_cell, mean_of
from xkd_ros.pipeline.studies.table import BAR_COLUMNS, StudyTable, bar_row
from xkd_ros.pipeline.studies.trial import Outcome, Trial, reduced
from xkd_ros.pipeline.studies.workshop import Workshop

ALL = "all"
_NAMES = {"ouster16": "TIERS", "vlp32": "M2DGR", "xt32_handheld": "ITC", "dual_ouster16": "NTU-VIRAL", ALL: "All Indoor"}
"""Our rig → the recordings it is modelled on."""
_PUBLISHED = {
    "dual_ouster16": {"dual_ouster16": 40.71, "ouster16": 34.12, "vlp32": 25.84},
    "ouster16": {"dual_ouster16": 33.34, "ouster16": 49.68, "vlp32": 27.24},
    "vlp32": {"dual_ouster16": 33.64, "ouster16": 34.71, "vlp32": 33.36},
    ALL: {"dual_ouster16": 39.38, "ouster16": 48.08, "vlp32": 34.8},
}
"""Distilled on → tested on → mIoU."""


class RigsStudy:
    """Linear probing of backbones distilled on one rig and on all, on every rig."""

    name = "rigs"
    claim = "In-domain is best; distilled on all indoor recordings together, two of three lose 1.3 to 1.6 mIoU (arXiv 2604.18831, Table 2)."
    protocol = (
        "A backbone is distilled on the frames of one rig, or of all rigs in as many passes over each frame; its linear probe learns from "
        "the pseudo-labels of the rig it is tested on. True labels are for evaluation only. Cells of the bar come first."
    )

    def cells(self, scale: Scale, teachers: Sequence[str]) -> list[Cell]:
        """List the cells: the diagonal and `all`, which the bar needs, before the others."""
        pairs = [(row, column) for column in RIGS for row in (column, ALL)]
        others = [(row, column) for row in RIGS for column in RIGS if row != column]
        return [
            make_cell(self.name, f"{row}-on-{column}", seed, scale, distilled_on=row, tested_on=column, teacher=teachers[0])
            for group in (pairs, others)
            for seed in range(scale.seeds)
            for row, column in group
        ]

    def run(self, cell: Cell, workshop: Workshop, trial: Trial) -> Outcome:
        """Probe and evaluate."""
        p = cell.parameters
        row = tuple(RIGS) if p["distilled_on"] == ALL else (p["distilled_on"],)
        backbone = workshop.backbone(row, p["teacher"], cell.seed, workshop.network())
        frames, labels = workshop.frames(p["tested_on"], "train"), workshop.pseudo_labels(p["tested_on"], "train", p["teacher"])
        student = trial.learn(workshop.scale.probe(cell.seed), frames, labels, labels.manifest.hash, backbone)
        evaluation = trial.evaluate(trial.segmenter(student), p["tested_on"])
        return trial.outcome(evaluation, p["teacher"], reduced(evaluation))

    def tables(self, results: Sequence[CellResult]) -> list[StudyTable]:
        """Lay out rows and columns as published."""
        columns = ("distilled on", *RIGS)
        ours = StudyTable("Linear probing, mIoU % over twelve classes against true labels, all points, mean ± 95 %", columns)
        notes = ("Against pseudo-labels in view of the camera, with classes that are not stated.",)
        theirs = StudyTable("Published, mIoU %", ("distilled on", *(f"{rig} ({_NAMES[rig]})" for rig in RIGS)), notes=notes)
        for row in (*RIGS, ALL):
            scores = [mean_of(by_seed(results, REAL_ALL, distilled_on=row, tested_on=column)) for column in RIGS]
            ours.rows.append([row, *map(str, scores)])
            if row in _PUBLISHED:
                published = [_PUBLISHED[row].get(column) for column in RIGS]
                theirs.rows.append([f"{row} ({_NAMES[row]})", *("-" if value is None else f"{value:.2f}" for value in published)])
        bars = StudyTable("All rigs minus the rig itself", BAR_COLUMNS)
        for column in RIGS:
            own, joint = (by_seed(results, REAL_ALL, distilled_on=row, tested_on=column) for row in (column, ALL))
            bars.rows.append(bar_row(f"tested on {column}", paired_difference(joint, own), None))
        diagonal, together = _mean(results, {rig: rig for rig in RIGS}), _mean(results, dict.fromkeys(RIGS, ALL))
        bars.rows.append(bar_row("mean of all four", paired_difference(together, diagonal), 0.0))
        known = [_PUBLISHED[ALL][rig] - _PUBLISHED[rig][rig] for rig in _PUBLISHED[ALL]]
        bars.rows.append(["published: mean of three", f"{np.mean(known):+.1f}", "-", "-", "-"])
        return [ours, theirs, bars]


def _mean(results: Sequence[CellResult], rows: dict[str, str]) -> dict[int, float]:
    """Average over columns, for the seeds that have them all; `rows` is tested on → distilled on."""
    found = [by_seed(results, REAL_ALL, distilled_on=row, tested_on=column) for column, row in rows.items()]
    seeds = set.intersection(*(set(values) for values in found))
    return {seed: float(np.mean([values[seed] for values in found])) for seed in sorted(seeds)}
