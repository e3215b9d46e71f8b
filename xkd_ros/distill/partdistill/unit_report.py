"""What the student thinks of the units, kept beside its weights: a report on the quality of the teacher's labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from xkd_ros.bags.array_file import open_array
from xkd_ros.core.files import atomic_path, write_atomic
from xkd_ros.distill.partdistill.unit_samples import UnitCount
from xkd_ros.distill.partdistill.units import Origin, Units
from xkd_ros.metrics.unit_quality import REPORT_NAME, Agreement, ClassQuality, UnitReport

SCORES_NAME = "unit_scores.npy"
SCORE = np.dtype([("frame", "<i4"), ("unit", "<i4"), ("score", "<f4"), ("weight", "<f4")])
"""One row per unit of the training frames: frame number, place in its `FrameUnits`, how far the student agrees, and what it counts."""


def write_unit_report(
    folder: Path, units: Units, count: UnitCount, scores: np.ndarray, weights: np.ndarray, agreement: Agreement
) -> UnitReport:
    """Write scores and report.

    Args:
        folder: Gets `SCORES_NAME` and `REPORT_NAME`, each whole or not at all.
        units: By frame number.
        count: Their numbers.
        scores: (U,) float32 agreement.
        weights: (U,) float32, 0 for units that are left out.
        agreement: What the scores are.
    """
    rows = np.empty(count.units, SCORE)
    rows["score"], rows["weight"] = scores, weights
    origin, label, size = (np.empty(count.units, np.int64) for _ in range(3))
    for frame in count.frames.tolist():
        found, span = units[frame], count.span(frame)
        rows["frame"][span], rows["unit"][span] = frame, np.arange(len(found))
        origin[span], label[span], size[span] = found.origin, found.label, found.sizes
    quality: dict[str, Any] = {}
    for kind in Origin:
        chosen = [(name, np.flatnonzero((origin == kind) & (label == name))) for name in np.unique(label[origin == kind]).tolist()]
        if chosen:
            quality[kind.name.lower()] = tuple(
                ClassQuality(
                    label=name,
                    units=len(place),
                    points=int(size[place].sum()),
                    score=round(float(scores[place].mean()), 4),
                    dropped=int((weights[place] == 0).sum()),
                )
                for name, place in chosen
            )
    report = UnitReport(agreement=agreement, origins=quality)
    with atomic_path(folder / SCORES_NAME) as temporary:
        np.save(temporary, rows, allow_pickle=False)
    write_atomic(folder / REPORT_NAME, report.model_dump_json(indent=1) + "\n")
    return report


def load_unit_scores(folder: Path) -> np.ndarray:
    """Read the (U,) rows of `SCORE`.

    Raises:
        BagError: missing or damaged.
    """
    return open_array(folder / SCORES_NAME, SCORE, (-1,), "train again")
