"""Figures of a run over its steps: `log.jsonl`, and curves for TensorBoard."""

from __future__ import annotations

import json
import logging
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from xkd_ros.core.errors import XkdError
from xkd_ros.core.files import write_atomic

logger = logging.getLogger(__name__)
LOG_NAME = "log.jsonl"


class RunLog:
    """Append figures; a run that continues forgets what its predecessor wrote after the last checkpoint."""

    def __init__(self, folder: Path, step: int, tensorboard: bool) -> None:
        """Open the log of a run that continues at `step`."""
        self._path = folder / LOG_NAME
        self._forget(step)
        self._writer = _tensorboard(folder / "tensorboard", step) if tensorboard else None

    def write(self, facts: dict[str, Any]) -> None:
        """Append one line; `facts` holds "step". Numbers become curves too."""
        # A line lost to a full disk is worth less than the run.
        with suppress(OSError), open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(_writable(facts)) + "\n")
        if self._writer is not None:
            with suppress(OSError):
                for name, value in _numbers(facts):
                    self._writer.add_scalar(name, value, int(facts["step"]))

    def close(self) -> None:
        """Finish the files."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()

    def _forget(self, step: int) -> None:
        if not self._path.is_file():
            return
        kept = []
        for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            # A kill in the middle of writing leaves half a line.
            with suppress(ValueError, KeyError, TypeError):
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
        with suppress(XkdError):
            write_atomic(self._path, "".join(kept))


def _writable(value: Any) -> Any:
    """Replace what JSON has no word for by None."""
    if isinstance(value, dict):
        return {key: _writable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_writable(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(facts: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Flatten nested figures into (name, number)."""
    found: list[tuple[str, float]] = []
    for key, value in facts.items():
        if isinstance(value, dict):
            found += _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)) and key not in ("step", "steps"):
            found.append((prefix + key, float(value)))
    return found


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info("no curves for TensorBoard: the package tensorboard is not installed")
        return None
    try:
        return SummaryWriter(str(folder), purge_step=step, flush_secs=30)
    except OSError as error:
        logger.warning("no curves for TensorBoard: %s", error)
        return None
