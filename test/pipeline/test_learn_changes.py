"""What a run folder makes of settings and files that change: stages leave nothing here but their records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xkd_ros.core.errors import ConfigError
from xkd_ros.pipeline.learn import learn, load_run
from xkd_ros.pipeline.learn_config import read_config
from xkd_ros.pipeline.learn_stages import NAMES, with_sources
from xkd_ros.pipeline.learning import Learning, Sources

STAGES = NAMES[:-1]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the stages that worked, in order."""
    names: list[str] = []
    for name in STAGES:

        def stage(self: Learning, progress: Any, name: str = name) -> tuple[str, dict[str, Any]]:
            names.append(name)
            return f"{name} {len(names)}", {}

        monkeypatch.setattr(Learning, name, stage)
    return names


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """A recording, its calibration and labels of one scan."""
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk" / "walk.mcap").write_bytes(bytes(300_000))
    (tmp_path / "rig.yaml").write_text("fx: 100.0\n")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "1.txt").write_text("0 0 0 1\n")
    return Sources((tmp_path / "walk",), (tmp_path / "rig.yaml",), tmp_path / "labels")


@pytest.fixture
def run(made: list[str], sources: Sources, tmp_path: Path) -> Path:
    """A run folder whose stages are all done but the last."""
    learn(read_config(None, ["finetune.steps=3"]), sources, tmp_path / "run", None, only=STAGES)
    assert tuple(made) == STAGES
    made.clear()
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("lines", "only", "stale"),
    [
        (["student.geometry.voxel_m=0.3", "distill.steps=999"], "finetune", "distill"),
        (["student.intensity=per_rig"], "evaluation", "distill"),
        (["frames.every=2"], "finetune", "frames"),
    ],
)
def test_a_stage_alone_refuses_to_go_on_from_what_other_settings_made(run: Path, lines: list[str], only: str, stale: str) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*.json")}
    config, sources = load_run(run, lines)
    for redo in ((), (only,)):
        with pytest.raises(ConfigError, match=f"{stale} is stale: .*--redo {stale}"):
            learn(config, sources, run, None, only=(only,), redo=redo)
    assert {path: path.read_bytes() for path in run.rglob("*.json")} == before


def test_stages_that_are_not_read_may_be_stale(run: Path, made: list[str]) -> None:
    config, sources = load_run(run, ["probe.steps=5", "finetune.steps=4"])
    learn(config, sources, run, None, only=("finetune",), redo=("finetune",))
    assert made == ["finetune"] and with_sources(["finetune"]) == ["frames", "targets", "distill", "pseudo", "finetune"]
