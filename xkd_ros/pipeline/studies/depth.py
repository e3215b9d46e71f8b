"""Study `depth`: what do more layers give, and what do they cost?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.pipeline.studies.cell import Cell, CellResult
from xkd_ros.pipeline.studies.machine import PeakMemory
from xkd_ros.pipeline.studies.paired import paired_difference
from xkd_ros.pipeline.studies.scale import Scale
from xkd_ros.pipeline.studies.study import REAL_ALL, by_seed, make_cell, mean_of
from xkd_ros.pipeline.studies.table import BAR_COLUMNS, StudyTable, bar_row
from xkd_ros.pipeline.studies.trial import Outcome, Trial, reduced
from xkd_ros.pipeline.studies.workshop import Workshop
from xkd_ros.runtime.segmenter import Segmenter

RIG = "ouster16"
_TIMED_SCANS, _WARM_UP = 40, 3
_PUBLISHED = {24: ("50.9", "15.41", "50.1"), 36: ("51.0", "12.17", "66.3"), 48: ("51.8", "9.84", "76.0")}


class DepthStudy:
    """Students of several depths, each distilled and fine-tuned by itself."""

    name = "depth"
    claim = "50.9, 51.0, 51.8 mIoU and 15.4, 12.2, 9.8 Hz for 24, 36, 48 layers (arXiv 2604.18831, Table 7)."
    protocol = (
        f"Rig {RIG}. Distilled, then fine-tuned on pseudo-labels, for equally many steps at every depth. Hz is one over the median time "
        "from a scan to its labels, preprocessing included, with all cores of the machine named in the cell; memory is the peak of "
        "fine-tuning (on a CPU: by how much the process grew). True labels are for evaluation only."
    )

    def cells(self, scale: Scale, teachers: Sequence[str]) -> list[Cell]:
        """List the cells, seed by seed."""
        return [
            make_cell(self.name, f"{depth:02d}-layers", seed, scale, depth=depth, teacher=teachers[0])
            for seed in range(scale.depth_seeds)
            for depth in scale.depths
        ]

    def run(self, cell: Cell, workshop: Workshop, trial: Trial) -> Outcome:
        """Fine-tune, evaluate, time."""
        p, steps = cell.parameters, workshop.scale.depth_steps
        backbone = workshop.backbone((RIG,), p["teacher"], cell.seed, workshop.network(p["depth"]), steps)
        frames, labels = workshop.frames(RIG, "train"), workshop.pseudo_labels(RIG, "train", p["teacher"])
        config = workshop.scale.finetune(cell.seed, steps)
        with PeakMemory(workshop.fabric.device).watched() as memory:
            student = trial.learn(config, frames, labels, labels.manifest.hash, backbone)
        evaluation = trial.evaluate(trial.segmenter(student), RIG)
        alone = trial.segmenter(student, os.cpu_count())
        metrics = {**reduced(evaluation), "memory_gb": memory.gigabytes, **time_scans(alone, workshop.frames(RIG, "val"))}
        return trial.outcome(evaluation, p["teacher"], metrics)

    def tables(self, results: Sequence[CellResult]) -> list[StudyTable]:
        """One row per depth."""
        depths = sorted({result.cell.parameters["depth"] for result in results})
        machines = sorted({str(result.machine.get("device", "")) for result in results})
        columns = ("layers", "mIoU %", "Hz", "training memory, GB", "published mIoU", "published Hz", "published memory, GB")
        scores = StudyTable(
            "mIoU % over twelve classes against true labels, all points, mean ± 95 %",
            columns,
            notes=(f"Hz and memory on {', '.join(machines)}. Published: width not stated, two A40." if machines else "",),
        )
        for depth in depths:
            miou, hz, memory = (by_seed(results, path, depth=depth) for path in (REAL_ALL, ("hz",), ("memory_gb",)))
            costs = ["-" if not values else f"{np.median(list(values.values())):.{digits}f}" for values, digits in ((hz, 1), (memory, 2))]
            scores.rows.append([str(depth), str(mean_of(miou)), *costs, *_PUBLISHED.get(depth, ("-",) * 3)])
        bars = StudyTable("Differences", BAR_COLUMNS)
        for depth in depths[1:]:
            deep, shallow = (by_seed(results, REAL_ALL, depth=each) for each in (depth, depths[0]))
            bars.rows.append(bar_row(f"{depth} minus {depths[0]} layers", paired_difference(deep, shallow), None))
        return [scores, bars]


def time_scans(segmenter: Segmenter, frames: FrameStore) -> dict[str, Any]:
    """Label some scans one by one; median milliseconds of network and whole, and scans per second."""
    rows = []
    for number in np.resize(frames.numbers(), _TIMED_SCANS + _WARM_UP).tolist():
        frame = frames.scan(number)
        rows.append(segmenter.segment(frame.points_m, frame.intensity, frame.levelled_from_lidar).stage_ms)
    network, total = (float(np.median([row[name] for row in rows[_WARM_UP:]])) for name in ("inference", "total"))
    return {"network_ms": round(network, 2), "total_ms": round(total, 2), "hz": round(1000 / total, 2)}
