"""The benchmark of training runs, counts what it says it counts, and writes its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xkd_ros.core.errors import ConfigError, ModelError
from xkd_ros.core.share import find_model
from xkd_ros.pipeline.bench import gpu, growth, training
from xkd_ros.pipeline.bench.growth import run_bench_growth, slope
from xkd_ros.pipeline.bench.page import write_page
from xkd_ros.pipeline.bench.training import run_bench_training


def test_batches_and_steps_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_RIGS", ("vlp32",))
    monkeypatch.setattr(training, "_SCANS", 4)
    facts = run_bench_training(None, depth=3, width=8, points="400", threads=1, json=tmp_path / "training.json")
    assert json.loads((tmp_path / "training.json").read_text())["steps"] == facts["steps"]
    assert [row["augmentation"] for row in facts["data"]] == ["robust", "paper", "paper_double"]
    assert all(row["scans_per_s"] > 0 and row["voxels"] > 500 for row in facts["data"])
    (step,) = facts["steps"]
    assert 300 < step["voxels"] <= 500 and set(step["ms"]) == {"fp32", "fp32, layers", "bf16"}
    assert step["largest_logit_difference"]["fp32"] == 0 and 0 < step["largest_logit_difference"]["bf16"] < 0.5


def test_growth_thins_the_largest_sensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "_STRIDES", ((16, 8), (8, 8)))
    monkeypatch.setattr(growth, "_MOMENTS_S", (0,))
    facts = run_bench_growth(find_model("indoor-24x64"), "numba", 1, tmp_path / "growth.json")
    assert [(row["beams"], row["columns"], row["points"]) for row in facts["rows"]] == [(8, 128, 1024), (16, 128, 2048)]
    assert 100 < facts["rows"][0]["voxels"] < facts["rows"][1]["voxels"] < 2048
    write_page(tmp_path, tmp_path / "page.md")
    assert "| 16 | 128 | 2048 |" in (tmp_path / "page.md").read_text()


def test_what_a_gpu_is_timed_on_runs_step_by_step_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "every", lambda scan, beams, columns: growth.every(scan, 16, 8))
    monkeypatch.setattr(growth, "_MOMENTS_S", (0,))
    facts = gpu.run_bench_gpu(None, 3, 16, "300", 3, tmp_path / "gpu.json", device="cpu")
    (row,), (scan,), (step,) = facts["rows"], facts["scans"], facts["steps"]
    assert set(row["ms"]) == {"layers, bf16", "plain torch, step by step", "plain torch, graph"}
    assert all(share > 0.97 for share in row["labels_of_fp32"].values()) and set(step["peak_gb"]) == {
        "ours, bf16",
        "ours, bf16, blocks computed again",
    }
    assert scan["size"] == 1024 and set(scan["ms"]) == {"prepared on the CPU, layers, bf16", "whole way, plain torch"}
    write_page(tmp_path, tmp_path / "page.md")
    assert "Whole scans on a GPU, WI-3-16" in (tmp_path / "page.md").read_text()
    with pytest.raises(ModelError, match="no CUDA device"):
        gpu.run_bench_gpu(None, 3, 16, "300", 3, None)


def test_the_slope_of_linear_growth_is_one() -> None:
    counts = (1000, 3000, 50_000)
    assert slope([{"points": count, "ms": 0.004 * count} for count in counts]) == 1.0
    assert slope([{"points": count, "ms": 1e-6 * count**2} for count in counts]) == 2.0


def test_the_page_shows_what_was_measured(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no figures"):
        write_page(tmp_path, tmp_path / "page.md")
    step = {"voxels": 400, "ms": {"fp32": 20.0, "public": 50.0}, "ratio": {"fp32": 2.5, "public": 1.0}}
    machine = {"threads": 1, "cores": 2, "instructions": "AVX2", "matmul_fp32_gflops": 80, "copy_gb_per_s": 9.5}
    facts = {"measured": "2026-01-02", "network": "WI-3-8", "machine": machine, "data": [], "steps": [step]}
    (tmp_path / "training.json").write_text(json.dumps(facts))
    (tmp_path / "changes.yaml").write_text("- {change: a | b, expected: 2x, measured: 1x, kept: 'no'}")
    write_page(tmp_path, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "| 400 | 20 | 50 | 2.5x |" in page and "| a \\| b | 2x | 1x | no |" in page and "80 GFLOP/s" in page
    (tmp_path / "training.json").write_text("[1]")
    with pytest.raises(ConfigError, match=r"training.json holds no figures"):
        write_page(tmp_path, tmp_path / "page.md")


def test_counts_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="no list of numbers"):
        run_bench_training(None, 3, 8, "many", None, None)
