"""Progress of a study: which cell of how many, how long still, and the step it is at."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.progress import Progress, TaskID

from xkd_ros.core.progress import Report
from xkd_ros.pipeline.progress import make_progress

_FORMATS = {"loss": "loss {:.3f}", "samples_per_s": "{:.1f} scans/s"}


class StudyProgress:
    """Two lines on the terminal.

    Args:
        cells: Cells of the study.
        seconds: Of the cells that are done, which tell how long the others take.
    """

    def __init__(self, cells: int, seconds: Sequence[float] = ()) -> None:
        self._cells, self._seconds = cells, list(seconds)
        self._display: Progress | None = None
        self._cell, self._step = TaskID(0), TaskID(0)

    @contextmanager
    def shown(self) -> Iterator[StudyProgress]:
        """Show the display."""
        with make_progress() as display:
            self._cell = display.add_task("study", total=self._cells, completed=len(self._seconds), note="")
            self._step = display.add_task("", total=None, note="", visible=False)
            self._display = display
            try:
                yield self
            finally:
                self._display = None

    def begin(self, name: str) -> None:
        """Begin a cell."""
        if self._display:
            self._display.update(self._cell, description=f"cell {name}", note=self._rest())

    def end(self, seconds: float) -> None:
        """End a cell."""
        self._seconds.append(seconds)
        if self._display:
            self._display.update(self._cell, completed=len(self._seconds), note=self._rest())
            self._display.update(self._step, visible=False)

    def say(self, text: str) -> None:
        """Print a line above the display."""
        if self._display:
            self._display.console.print(text, highlight=False)

    @contextmanager
    def step(self, title: str) -> Iterator[Report]:
        """Show a step of the current cell; gives what to call with (done, total, facts)."""
        if self._display:
            self._display.reset(self._step, description=f"  {title}", total=None, note="", visible=True)

        def report(done: int, total: int, facts: Mapping[str, float]) -> None:
            if self._display:
                note = ", ".join(text.format(facts[name]) for name, text in _FORMATS.items() if name in facts)
                self._display.update(self._step, completed=done, total=total, note=note)

        yield report

    def _rest(self) -> str:
        """Say how long the cells that are left take, by those that are done; what cells share is not in it."""
        if not self._seconds:
            return ""
        left_s = (self._cells - len(self._seconds)) * sum(self._seconds) / len(self._seconds)
        return f"the rest takes about {time.strftime('%H:%M:%S', time.gmtime(left_s)) if left_s < 86_400 else f'{left_s / 3600:.0f} h'}"
