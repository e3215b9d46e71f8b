"""All bars of all studies on one page, from the committed cells alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from xkd_ros.core.errors import ConfigError
from xkd_ros.pipeline.studies.results import Results
from xkd_ros.pipeline.studies.scale import FULL, SMALL
from xkd_ros.pipeline.studies.study import Study
from xkd_ros.pipeline.studies.table import BAR_COLUMNS, StudyTable

BARS_NAME = "bars.md"


def folder_of(study: str, scale: str) -> str:
    """Name the folder of a study's cells."""
    return study if scale == FULL.name else f"{study}-{scale}"


def write_bars(studies: Mapping[str, Study], teachers: Sequence[str], out: Path) -> str:
    """Write the page.

    Args:
        studies: By name.
        teachers: Names; cells of others do not count.
        out: Folder of all studies.
    """
    found: list[list[str]] = []
    notes: list[str] = []
    for study in studies.values():
        for scale in (SMALL, FULL):
            folder = folder_of(study.name, scale.name)
            cells = study.cells(scale, teachers)
            try:
                results = Results(out / folder).of(cells)
            except ConfigError as error:  # a study done with another teacher is no reason to hide the others
                notes.append(f"{folder} is left out: {error}")
                continue
            rows = [row for part in study.tables(results) if part.columns[1:] == BAR_COLUMNS[1:] for row in part.rows] if results else []
            found += [[f"[{folder}]({folder}.md)", *row, f"{len(results)} of {len(cells)}"] for row in rows]
    introduction = (
        "# What the studies show so far\n\nWritten by `xkd study` from the cells beside it. A bar is judged by the mean of paired "
        "differences over at least five seeds.\n\n"
    )
    return introduction + StudyTable("Bars", ("study", *BAR_COLUMNS, "cells"), found, tuple(notes)).markdown()
