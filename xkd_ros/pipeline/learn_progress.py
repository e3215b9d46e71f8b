"""One display and one machine-readable file for all stages of a learning run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.progress import Progress, TaskID

from xkd_ros.pipeline.progress import make_progress

_EVERY_S = 0.5


class LearnProgress:
    """Stage, ETA, samples per second and loss, on the terminal and as lines of JSON (`--progress FILE`).

    Lines: {"stage", "stage_index", "stages", "done", "total", "eta_s", and loss or samples_per_s where known}; the last is
    {"stage": "done"}, with "outcome" where there is something to say, or {"error": one line}.
    """

    def __init__(self, stages: int, file: Path | None = None, quiet: bool = False) -> None:
        self._stages, self._file, self._quiet = stages, file, quiet
        self._display: Progress | None = None
        self._task: TaskID | None = None
        self._name, self._index, self._started, self._written = "", 0, 0.0, 0.0
        self._first: int | None = None
        self._outcome = ""

    @contextmanager
    def shown(self) -> Iterator[LearnProgress]:
        """Show the display; an error that passes through is written to the file as the last line."""
        with make_progress() as display:
            self._display = display
            self._task = display.add_task("", total=None, note="", visible=False)
            try:
                yield self
            except BaseException as error:
                self._write({"error": " ".join(str(error).split()) or type(error).__name__})
                raise
            finally:
                self._display = None
        self._write({"stage": "done", **({"outcome": self._outcome} if self._outcome else {})})

    def start(self, name: str, index: int) -> None:
        """Begin stage `index` (from 0)."""
        self._name, self._index, self._started, self._first = name, index, time.monotonic(), None
        if self._display and self._task is not None:
            title = f"{index + 1}/{self._stages} {name}"
            self._display.reset(self._task, description=title, total=None, note="", visible=not self._quiet)
        self._written = 0.0
        self._write({"stage": name, "stage_index": index, "stages": self._stages, "done": 0, "total": 0})

    def __call__(self, done: int, total: int, facts: Mapping[str, float] | None = None) -> None:
        """Show `done` of `total` of the current stage; facts may hold loss, lr and samples_per_s."""
        facts = {name: float(value) for name, value in (facts or {}).items() if name in ("loss", "lr", "samples_per_s")}
        if self._display and self._task is not None:
            note = ", ".join(f"{_WORDS[name]} {value:{_FORMATS[name]}}" for name, value in facts.items())
            self._display.update(self._task, completed=done, total=total, note=note)
        now = time.monotonic()
        self._first = done if self._first is None else self._first
        if now - self._written < _EVERY_S and done < total:
            return
        pace = (now - self._started) / (done - self._first) if done > self._first else None
        line = {"stage": self._name, "stage_index": self._index, "stages": self._stages, "done": done, "total": total, **facts}
        self._write({**line, "eta_s": None if pace is None else round(pace * (total - done), 1)})

    def say(self, text: str) -> None:
        """Print a line above the display."""
        if self._display and not self._quiet:
            self._display.console.print(text, highlight=False)

    def conclude(self, text: str) -> None:
        """Say what came of it all; whoever watches the file finds it in the last line."""
        self._outcome = text
        self.say(text)

    def _write(self, line: dict[str, Any]) -> None:
        self._written = time.monotonic()
        if self._file is None or self._quiet:
            return
        # Progress is a service to whoever watches: a full disk must not end the run because of it.
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with open(self._file, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


_WORDS = {"loss": "loss", "lr": "lr", "samples_per_s": "scans/s"}
_FORMATS = {"loss": ".3f", "lr": ".1e", "samples_per_s": ".1f"}
