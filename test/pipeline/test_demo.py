"""The demo from end to end on real DDS: every scan is accounted for, the promised keys and pictures are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'xkd_ros[ros]'")

from xkd_ros.core.errors import BagError
from xkd_ros.pipeline.bench.node import run_bench_node
from xkd_ros.pipeline.demo import run_demo

pytestmark = pytest.mark.dds


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    out = tmp_path_factory.mktemp("demo")
    run_demo(out, tiny_model, seed=75, rig="ouster16", seconds=2.0)
    return out


def test_summary_has_its_keys_and_the_scans_add_up(demo: Path) -> None:
    summary = json.loads((demo / "summary.json").read_text())
    keys = {"scans_in", "scans_out", "dropped", "hz", "latency_ms_p50", "latency_ms_p95", "stage_ms", "miou", "iou"}
    assert keys <= summary.keys()
    assert summary["scans_in"] == 20 and summary["scans_out"] >= 1
    assert summary["scans_out"] + sum(summary["dropped"].values()) == 20 and summary["dropped"]["unexplained"] == 0
    assert set(summary["stage_ms"]) == {"decode", "preprocess", "inference", "postprocess", "publish", "total"}
    assert summary["pairs"] >= 1


def test_a_walk_of_somebody_else_is_not_replaced(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk" / "precious").write_text("")
    with pytest.raises(BagError, match="is no walk of a demo"):
        run_demo(tmp_path, tiny_model, seed=75, rig="ouster16", seconds=2.0)
    assert (tmp_path / "walk" / "precious").exists()


def test_pictures_and_viewer_recording(demo: Path) -> None:
    names = {path.name for path in (demo / "pictures").iterdir()}
    assert "scan_0.png" in names and any(name.startswith("camera_") for name in names)
    assert (demo / "demo.rrd").stat().st_size > 10_000


def test_node_benchmark(demo: Path, tiny_model: Path, tmp_path: Path) -> None:
    facts = run_bench_node(tiny_model, demo / "walk", seconds=2.0, json=tmp_path / "node.json")
    assert json.loads((tmp_path / "node.json").read_text()) == facts
    for figures in facts["runs"].values():
        assert figures["scans_out"] + sum(figures["dropped"].values()) == figures["scans_in"] == 20
        assert figures["dropped"]["unexplained"] == 0
