"""Curves of a training stage from its log.jsonl, which a killed run may have left with repeated or broken lines."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xkd_ros.core.errors import ConfigError

LOG_NAME = "log.jsonl"
_LARGEST_BYTES = 100_000_000
_NO_CURVES = ("step", "steps")
_DEEPEST = 3


@dataclass(frozen=True, eq=False)
class TrainingLog:
    """What one stage logged.

    Attributes:
        curves: Name → (K, 2) float64 of step and value, steps ascending; a step logged twice counts once, the later time.
        steps: Planned number of steps as last said, 0 if never.
        broken: Lines that could not be read.
    """

    curves: dict[str, np.ndarray]
    steps: int
    broken: int

    @property
    def last_step(self) -> int:
        """Last step of any curve."""
        return max((int(curve[-1, 0]) for curve in self.curves.values()), default=0)


def read_training_log(path: Path) -> TrainingLog:
    """Read the log of `train.engine.fit`.

    Raises:
        ConfigError: missing, or larger than a log can be.
    """
    try:
        size = path.stat().st_size
        if size > _LARGEST_BYTES:
            raise ConfigError(f"{path} has {size} bytes, too large for a training log")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    values: dict[str, dict[int, float]] = {}
    steps = broken = 0
    for line in filter(str.strip, lines):
        try:
            facts = json.loads(line)
            step = int(facts["step"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            broken += 1
            continue
        steps = int(facts["steps"]) if _is_number(facts.get("steps")) else steps
        for name, value in _numbers(facts):
            values.setdefault(name, {})[step] = value
    return TrainingLog({name: np.array(sorted(points.items()), float) for name, points in values.items()}, steps, broken)


def _numbers(facts: dict[str, Any], prefix: str = "", depth: int = 0) -> list[tuple[str, float]]:
    """Flatten nested figures into (name, number)."""
    found: list[tuple[str, float]] = []
    for name, value in facts.items():
        if isinstance(value, dict) and depth < _DEEPEST:
            found += _numbers(value, f"{prefix}{name}/", depth + 1)
        elif name not in _NO_CURVES and _is_number(value):
            found.append((prefix + name, float(value)))
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 and math.isfinite(value)
