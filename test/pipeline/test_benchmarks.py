"""The benchmark of training runs, counts what it says it counts, and writes its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xkd_ros.core.errors import ConfigError
from xkd_ros.pipeline.bench import training
from xkd_ros.pipeline.bench.training import run_bench_training


def test_batches_and_steps_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_RIGS", ("vlp32",))
    monkeypatch.setattr(training, "_SCANS", 4)
    facts = run_bench_training(None, depth=3, width=8, points="400", threads=1, json=tmp_path / "training.json")
    assert json.loads((tmp_path / "training.json").read_text())["steps"] == facts["steps"]
    assert [row["augmentation"] for row in facts["data"]] == ["robust", "paper", "paper_double"]
    assert all(row["scans_per_s"] > 0 and row["voxels"] > 500 for row in facts["data"])
    (step,) = facts["steps"]
    assert 300 < step["voxels"] <= 500 and set(step["ms"]) == {"fp32", "bf16"}
    assert step["largest_logit_difference"]["fp32"] == 0 and 0 < step["largest_logit_difference"]["bf16"] < 0.5


def test_counts_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="no list of numbers"):
        run_bench_training(None, 3, 8, "many", None, None)
