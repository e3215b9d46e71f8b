"""Paired differences class by class: where a gain comes from, and which classes pay for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xkd_ros.core.labels import INDOOR12
from xkd_ros.pipeline.studies.cell import CellResult
from xkd_ros.pipeline.studies.paired import paired_difference
from xkd_ros.pipeline.studies.study import by_seed_of
from xkd_ros.pipeline.studies.table import StudyTable, signed

Parameters = dict[str, Any]


def class_table(results: Sequence[CellResult], rows: Sequence[tuple[str, Parameters, Parameters]]) -> StudyTable:
    """Compare kinds of cells over each of the twelve classes, all points, against true labels.

    Args:
        results: Finished cells.
        rows: Words, parameters of the cells, parameters of those that are subtracted.
    """
    table = StudyTable("The same class by class, IoU, mean ± 95 % over the same seeds", ("difference", *INDOOR12.names))
    for words, more, less in rows:
        found = [paired_difference(*(_by_seed(results, index, kind) for kind in (more, less))) for index in range(len(INDOOR12))]
        table.rows.append([words, *map(signed, found)])
    return table


def _by_seed(results: Sequence[CellResult], index: int, parameters: Parameters) -> dict[int, float]:
    def iou(metrics: dict[str, Any]) -> float | None:
        values = metrics.get("real", {}).get("all points", {}).get("iou")
        return None if values is None else values[index]

    return by_seed_of(results, iou, **parameters)
