"""Tables of a report: headline figures, splits, classes, teacher beside student; against real labels and against pseudo-labels."""

from __future__ import annotations

import numpy as np

from xkd_ros.core.labels import STRUCT4, LabelSet
from xkd_ros.evaluate.evaluation import Evaluation
from xkd_ros.evaluate.page import Cell, Page
from xkd_ros.evaluate.scores import Counts, LabelScores, coarse
from xkd_ros.metrics.confusion import Confusion
from xkd_ros.metrics.unit_quality import Agreement, UnitReport

REAL, PSEUDO = "real labels", "pseudo-labels"
_SCORES = ("mIoU", "mAcc", "oAcc")
_AGREEMENT: dict[Agreement, str] = {
    "probability": "how probable the claimed class is to the student, as a share of its most probable class there, in percent",
    "argmax": "share of their points, in percent, that the student gives the claimed class",
}
_COARSE_SCORES = tuple(f"{name}, {len(STRUCT4)} classes" for name in _SCORES)


def scores_by_label(evaluation: Evaluation) -> dict[str, LabelScores]:
    """Name the scores that an evaluation has."""
    both = {REAL: evaluation.real, PSEUDO: evaluation.pseudo}
    return {label: scores for label, scores in both.items() if scores is not None}


def add_headline(page: Page, evaluation: Evaluation) -> None:
    """Add the few figures that answer "how good?"."""
    tiles: list[tuple[str, str]] = []
    for label, scores in scores_by_label(evaluation).items():
        structural = coarse(scores.all, scores.label_set)
        named = {f"mIoU, {len(scores.label_set)} classes, {label}": scores.all.confusion}
        named |= {} if structural is None else {f"mIoU, {len(STRUCT4)} classes, {label}": structural}
        if label == REAL:
            named |= {f"mIoU in view, {label}": scores.in_view.confusion, f"mIoU out of view, {label}": scores.out_of_view.confusion}
        tiles += [(_percent(confusion.miou), caption) for caption, confusion in named.items()]
        if scores.reliability.ece is not None:
            tiles.append((_percent(scores.reliability.ece), f"calibration error, {label}"))
    page.text(f"Measured {evaluation.where}.")
    page.tiles(tiles)


def add_tables(page: Page, evaluation: Evaluation) -> list[str]:
    """Add every table.

    Returns:
        Kinds of labels that there are no tables for.
    """
    page.heading("How good")
    page.text(
        "In percent, at raw-scan resolution; points without a label are left out, mIoU and mAcc are means over the classes that occur. "
        "A point is in view when a camera of its frame sees it: only such points can a teacher name from this frame.",
        "soft",
    )
    found = scores_by_label(evaluation)
    for label, scores in found.items():
        page.heading(f"Against {label}: {len(scores.frames)} scans", 3)
        _splits(page, scores.label_set, "points", scores.rows(), lead=1)
        _classes(page, scores)
    if evaluation.teacher is not None:
        page.heading("Teacher and student against real labels", 3)
        page.text("Both at the points that carry a pseudo-label.", "soft")
        rows = {"pseudo-labels": evaluation.teacher.teacher, "student": evaluation.teacher.student}
        _splits(page, evaluation.teacher.label_set, "labels", rows)
    return [label for label in (REAL, PSEUDO) if label not in found]


def add_units(page: Page, report: UnitReport, label_set: LabelSet) -> None:
    """Add what the student thinks of the units that it learnt from, by kind of image teacher."""
    page.heading("Label quality of the units")
    page.text(
        f"Units are sets of points of which an image teacher claims one class. Agreement: {_AGREEMENT[report.agreement]}; no label "
        "decides. Units that the student drops no longer count in training.",
        "soft",
    )
    for origin, rows in report.origins.items():
        cells: list[list[Cell]] = [
            [label_set.names[row.label], row.units, row.points, 100 * row.score, 100 * row.dropped / row.units] for row in rows
        ]
        colours = [label_set.colours[row.label] for row in rows]
        page.table([f"units from {origin}", "units", "points", "agreement", "dropped"], cells, bars=(3, 4), swatches=colours)


def _splits(page: Page, label_set: LabelSet, what: str, rows: dict[str, Counts], lead: int = 0) -> None:
    cells: list[list[Cell]] = []
    has_coarse = False
    for name, counts in rows.items():
        confusion, structural = counts.confusion, coarse(counts, label_set)
        has_coarse = structural is not None
        cells.append([name, int(confusion.counts.sum()), *_figures(confusion), *(_figures(structural) if structural else ())])
    page.table([what, "number", *_SCORES, *(_COARSE_SCORES if has_coarse else ())], cells, bars=(2, 5), lead=lead)


def _classes(page: Page, scores: LabelScores) -> None:
    whole = scores.all.confusion
    columns = {"share of points": _shares(whole), "IoU": whole.iou, "accuracy": whole.accuracy}
    columns |= {"IoU in view": scores.in_view.confusion.iou, "IoU out of view": scores.out_of_view.confusion.iou}
    _class_table(page, scores.label_set, columns)
    structural = coarse(scores.all, scores.label_set)
    if structural is not None:
        inside, outside = (coarse(counts, scores.label_set) for counts in (scores.in_view, scores.out_of_view))
        columns = {"share of points": _shares(structural), "IoU": structural.iou, "accuracy": structural.accuracy}
        columns |= {"IoU in view": inside.iou, "IoU out of view": outside.iou} if inside and outside else {}
        _class_table(page, STRUCT4, columns)


def _class_table(page: Page, label_set: LabelSet, columns: dict[str, np.ndarray]) -> None:
    rows: list[list[Cell]] = [[name, *(_cell(values[index]) for values in columns.values())] for index, name in enumerate(label_set.names)]
    page.table(["class", *columns], rows, bars=(2, 4, 5), swatches=label_set.colours)


def _shares(confusion: Confusion) -> np.ndarray:
    return confusion.counts.sum(1) / max(confusion.counts.sum(), 1)


def _figures(confusion: Confusion) -> list[Cell]:
    return [_cell(confusion.miou), _cell(confusion.macc), _cell(confusion.oacc)]


def _cell(value: float) -> float | None:
    return None if np.isnan(value) else 100 * float(value)


def _percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.1f}"
