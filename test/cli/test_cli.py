"""The command as a user meets it: help that teaches, errors of one line, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _xkd(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "xkd_ros.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd, env=environment, check=False)


def test_help_names_every_command() -> None:
    text = _xkd("--help").stdout
    for command in ("demo", "simulate", "inspect", "calib", "label", "validate", "train-sim", "export", "bench"):
        assert command in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inspect", "no_such_bag"), "no_such_bag does not exist"),
        (("label", "x", "-o", "y", "-m", "no_such_model"), "there is no model 'no_such_model'"),
        (("train-sim", "no.yaml", "-o", "m"), "cannot read no.yaml"),
        (("export", "nowhere"), "nowhere does not exist"),
        (("simulate", "--seed", "1", "--rig", "no_such_rig", "-o", "w"), "no_such_rig"),
    ],
)
def test_errors_are_one_line(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    result = _xkd(*arguments, cwd=tmp_path)
    assert result.returncode == 1 and message in result.stderr and "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_truncated_bag_is_named(tmp_path: Path) -> None:
    (tmp_path / "cut.mcap").write_bytes(b"\x89MCAP0\r\n" + bytes(40))
    result = _xkd("inspect", "cut.mcap", cwd=tmp_path)
    assert result.returncode == 1 and "cut.mcap" in result.stderr and "Traceback" not in result.stderr
