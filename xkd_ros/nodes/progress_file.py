"""Follows the lines of JSON that `xkd learn --progress FILE` writes, while it writes them."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

# Read at once at most; a line that is longer is no progress line.
_CHUNK_BYTES = 1 << 20
_LONGEST_BYTES = 1 << 16
_TEXTS, _NUMBERS = ("stage", "error", "outcome"), ("stage_index", "stages", "done", "total", "loss", "samples_per_s", "eta_s")


class ProgressFile:
    """The last thing that was said. Lines that are damaged, or not complete yet, are passed over."""

    def __init__(self, path: Path) -> None:
        """Name the file; it need not exist yet."""
        self.path = path
        self.stage: dict[str, Any] = {}
        self.error = ""
        self.lines = 0
        self._offset = 0
        self._rest = b""

    def read(self) -> bool:
        """Take in what is new.

        Returns:
            Whether a whole line was. `stage` then holds the last one: "stage" and, where known, "stage_index" (from 0), "stages",
            "done", "total", "loss", "samples_per_s", "eta_s", "outcome"; `error` is the last "error", or "".
        """
        before = self.lines
        while chunk := self._chunk():
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._take(line)
            self._rest = self._rest[: _LONGEST_BYTES + 1]
        return self.lines > before

    def _chunk(self) -> bytes:
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:  # begun anew
                    self._offset, self._rest = 0, b""
                file.seek(self._offset)
                chunk = file.read(_CHUNK_BYTES)
        except OSError:
            return b""
        self._offset += len(chunk)
        return chunk

    def _take(self, line: bytes) -> None:
        try:
            content = json.loads(line) if len(line) <= _LONGEST_BYTES else None
        except (ValueError, RecursionError):
            return
        if not isinstance(content, dict):
            return
        texts = {name: content[name] for name in _TEXTS if isinstance(content.get(name), str)}
        known: dict[str, Any] = texts | {name: content[name] for name in _NUMBERS if _is_number(content.get(name))}
        if "error" in known:
            self.error = " ".join(known.pop("error").split()) or "no reason given"
        elif "stage" in known:
            self.stage, self.error = known, ""
        else:
            return
        self.lines += 1


def _is_number(value: object) -> bool:
    """Tell whether JSON can carry it on: no infinity, no NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def describe(stage: dict[str, Any]) -> str:
    """Put a line of progress into words, "distill (3 of 8): 120/5000, loss 0.530, 7.1 scans/s, 11 min left"."""
    if not stage:
        return "starting"
    words = [f"{stage['done']:g}/{stage['total']:g}"] if stage.get("total") and "done" in stage else []
    words += [f"loss {stage['loss']:.3f}"] if "loss" in stage else []
    words += [f"{stage['samples_per_s']:.1f} scans/s"] if "samples_per_s" in stage else []
    words += [f"{_duration(stage['eta_s'])} left"] if "eta_s" in stage else []
    place = f" ({stage['stage_index'] + 1:g} of {stage['stages']:g})" if "stages" in stage and "stage_index" in stage else ""
    return stage["stage"] + place + (": " + ", ".join(words) if words else "")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
