"""`xkd report` writes beside the run unless told otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from xkd_ros.core.errors import ConfigError
from xkd_ros.pipeline.report import run_report

pytest.importorskip("matplotlib")


def test_report_of_one_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "site"
    run.mkdir()
    (run / "log.jsonl").write_text('{"step": 50, "steps": 100, "loss": 1.5, "lr": 0.001}\n{"step": 100, "miou [12]": 40}\n')
    page = run_report(run)
    assert page == run / "report.html" and "training: step 100 of 100" in page.read_text()
    said = capsys.readouterr().out
    assert "No evaluation yet" in said and "it needs no other file" in said
    assert run_report(run, tmp_path / "other.html").name == "other.html"


def test_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        run_report(tmp_path / "none")
