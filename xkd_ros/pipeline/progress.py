"""The one look of progress on a terminal: what, how far, how fast, how long still."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from xkd_ros.core.progress import Report

_FILE_WIDTH = 160
# Tables of twelve classes do not fit the 80 columns that are assumed of a file or a pipe.
console = Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=_FILE_WIDTH)


def make_progress() -> Progress:
    """Build a progress display; use it as a context manager."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def show_count(display: Progress, task: TaskID) -> Report:
    """Return what shows how much of some work is done; a hidden task is shown when something is left to do."""

    def show(done: int, total: int, facts: Mapping[str, float]) -> None:
        display.update(task, completed=done, total=total, note="", visible=True if done < total else None)

    return show


def show_training(display: Progress, task: TaskID, samples: str) -> Report:
    """Return what shows the progress of a training, whose samples are of this kind."""

    def show(done: int, total: int, facts: Mapping[str, float]) -> None:
        note = f"loss {facts['loss']:.3f} lr {facts['lr']:.1e} {facts['samples_per_s']:.1f} {samples}/s"
        display.update(task, completed=done, total=total, note=note)

    return show
