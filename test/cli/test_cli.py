"""The command as a user meets it: help that teaches, errors of one line, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xkd_ros.runtime.machine import has_nvidia_gpu

ROOT = Path(__file__).resolve().parents[2]


def _xkd(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "xkd_ros.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd, env=environment, check=False)


def test_help_names_every_command() -> None:
    text = _xkd("--help").stdout
    commands = ("demo", "doctor", "simulate", "inspect", "calib", "label", "validate", "train-sim", "export", "bench", "report", "teach2d")
    for command in (*commands, "learn", "pairs", "targets", "distill", "pseudo", "probe", "finetune", "eval", "study", "adapt"):
        assert command in text


def test_the_version_needs_no_command() -> None:
    from xkd_ros import __version__

    assert _xkd("--version").stdout.strip() == __version__


def test_a_missing_package_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['xkd', 'export', 'm']; from xkd_ros.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert result.returncode == 1 and "needs the package 'torch'" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inspect", "no_such_bag"), "no_such_bag does not exist"),
        (("label", "x", "-o", "y", "-m", "no_such_model"), "there is no model 'no_such_model'"),
        (("train-sim", "no.yaml", "-o", "m"), "cannot read no.yaml"),
        (("export", "nowhere"), "there is no model 'nowhere'"),
        (("learn", "bag", "-o", "m", "--start", "nowhere"), "there is no model 'nowhere'"),
        (("report", "."), "is no run folder"),
        (("export", "nowhere", "--tensorrt"), "there is no model 'nowhere'"),
        (("export", "indoor-24x64", "--version-compatible"), "give --tensorrt too"),
        (("export", "indoor-24x64", "-o", "elsewhere"), "is for run folders"),
        (("train-sim", "x.yaml", "-o", "m", "--bag", "b"), "need both --bag and --labels"),
        (("simulate", "--seed", "1", "--rig", "no_such_rig", "-o", "w"), "no_such_rig"),
        (("simulate", "--seed", "4-2", "-o", "w"), "names no buildings"),
        (("label", "x", "-o", "y", "--teacher", "t"), "give --fused too"),
        (("calib", "x", "--check", "-o", "overlay.mcap"), "is no name of a picture"),
        (("validate", "--bag", "nope", "--labels", "nope"), "bag nope does not exist"),
    ],
)
def test_errors_are_one_line(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    if arguments[0] in ("train-sim", "export", "learn"):
        pytest.importorskip("torch")
        pytest.importorskip("onnx")
    result = _xkd(*arguments, cwd=tmp_path)
    assert result.returncode == 1 and message in result.stderr and "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(has_nvidia_gpu(), reason="there is a GPU, for which the engine would be built")
def test_an_engine_without_a_gpu_is_one_line(tmp_path: Path) -> None:
    result = _xkd("export", "indoor-24x64", "--tensorrt", cwd=tmp_path)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr == "error: no TensorRT engine of indoor-24x64 can be built here: no NVIDIA GPU\n"


def test_truncated_bag_is_named(tmp_path: Path) -> None:
    (tmp_path / "cut.mcap").write_bytes(b"\x89MCAP0\r\n" + bytes(40))
    result = _xkd("inspect", "cut.mcap", cwd=tmp_path)
    assert result.returncode == 1 and "cut.mcap" in result.stderr and "Traceback" not in result.stderr


def test_a_calibration_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "rig.yaml").write_text("made with care")
    result = _xkd("calib", "bag", cwd=tmp_path)
    assert result.returncode == 1 and "rig.yaml exists already" in result.stderr
    assert (tmp_path / "rig.yaml").read_text() == "made with care"


def test_a_folder_of_recordings_says_how_to_name_them(tmp_path: Path) -> None:
    (tmp_path / "walks" / "a").mkdir(parents=True)
    (tmp_path / "walks" / "a" / "metadata.yaml").write_text("")
    result = _xkd("inspect", "walks", cwd=tmp_path)
    assert result.returncode == 1 and "it holds 1 recordings: name them one by one, such as walks/a" in " ".join(result.stderr.split())
