"""Which frames a temperature is fitted on, which are scored, and what is shipped."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xkd_ros.core.errors import ConfigError
from xkd_ros.pipeline import calibration
from xkd_ros.pipeline.calibration import divide_frames, honest_temperature


def frames(**splits: list[int]) -> Any:
    return SimpleNamespace(numbers=lambda split: np.array(splits.get(split, []), np.int64))


@pytest.mark.parametrize(
    ("splits", "fitted", "scored"),
    [
        ({"train": [0, 1], "val": [2, 3], "test": [4]}, [2, 3], [4]),
        ({"train": [0, 1], "val": [2, 3, 4]}, [2], [3, 4]),
        ({"train": [0, 1], "val": [2]}, [], [2]),
        ({"train": [0, 1]}, [], [0, 1]),
        ({"test": [5]}, [], [5]),
    ],
)
def test_no_frame_is_both_fitted_and_scored(splits: dict[str, list[int]], fitted: list[int], scored: list[int]) -> None:
    assert [part.tolist() for part in divide_frames(frames(**splits))] == [fitted, scored]


@pytest.mark.parametrize(("found", "shipped"), [(0.59, 1.0), (1.23456, 1.235), (None, 1.0)])
def test_no_temperature_makes_a_model_surer(monkeypatch: pytest.MonkeyPatch, found: float | None, shipped: float) -> None:
    def calibrate(*_args: object, **_named: object) -> float:
        if found is None:
            raise ConfigError("no labelled point")
        return found

    monkeypatch.setattr(calibration, "calibrate", calibrate)
    assert honest_temperature(SimpleNamespace(), frames(), np.arange(2), SimpleNamespace()) == shipped  # type: ignore[arg-type]
