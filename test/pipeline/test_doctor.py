"""`xkd doctor` against machines with something wrong: each fault is made, not pretended, where that is possible."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xkd_ros.core.card import load_card
from xkd_ros.core.share import find_model, find_shared
from xkd_ros.pipeline.doctor import machine, ros
from xkd_ros.pipeline.doctor.finding import Finding
from xkd_ros.pipeline.doctor.models import examine_models
from xkd_ros.pipeline.doctor.page import run_doctor
from xkd_ros.runtime.engine_store import EngineFacts, EngineStore, engine_folder
from xkd_ros.runtime.onnx_inputs import TRT_FILE

ROOT = Path(__file__).resolve().parents[2]
HAS_ROS = importlib.util.find_spec("rclpy") is not None


def doctor(tmp_path: Path, *arguments: str, **environment: str) -> tuple[int, dict[str, dict[str, str]], str]:
    """Run the command; return exit status, findings by what was looked at, and the page."""
    file = tmp_path / "findings.json"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment}
    command = [sys.executable, "-m", "xkd_ros.cli", "doctor", "--json", str(file), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, {row["what"]: row for row in json.loads(file.read_text())}, done.stdout


def find_place_in(env: dict[str, str]) -> tuple[str, str, str]:
    """Ask a fresh process which place it is in: place, level, what was found."""
    code = "from xkd_ros.pipeline.doctor.ros import find_place as f; p, x = f(); print(p, x.level, x.found, sep='|')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env, check=True)
    place, level, found = done.stdout.strip().split("|")
    return place, level, found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(find_model("indoor-24x64"), tmp_path / "indoor-24x64"))


def test_page_of_this_machine(tmp_path: Path) -> None:
    code, findings, page = doctor(tmp_path, FASTRTPS_DEFAULT_PROFILES_FILE=str(find_shared("config/fastdds_large_clouds.xml")))
    assert code == 0, page
    assert {row["area"] for row in findings.values()} == {"machine", "ROS", "models", "packages"}
    assert findings["indoor-24x64"]["level"] == "ok" and "3 files whole" in findings["indoor-24x64"]["found"]
    assert "torch" in findings["indoor-24x64 runs on"]["found"]
    assert all(row["remedy"] for row in findings.values() if row["level"] != "ok" and row["what"] not in ("clock", "shared memory"))
    for what in ("Python", "compiled loops", "place", "rosbags"):
        assert what in page
    if HAS_ROS:
        assert findings["rclpy"]["found"].startswith("starts, with rmw_")
        assert "64 MB" in findings["large clouds"]["found"] or "67 MB" in findings["large clouds"]["found"]


def test_damaged_model_is_wrong_and_the_exit_status_says_so(tmp_path: Path, model: Path) -> None:
    weights = model / "student.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    code, findings, page = doctor(tmp_path, "--model", str(model))
    assert code == 1 and "1 wrong" in page
    assert findings["indoor-24x64"]["level"] == "wrong" and "hash differs" in findings["indoor-24x64"]["found"]


def test_backends_are_run_when_asked(model: Path) -> None:
    found = {finding.what: finding for finding in examine_models([model], run=True)}["indoor-24x64 runs on"]
    assert found.level == "ok" and "torch (" in found.found and "ms for" in found.found
    (model / "student.ort.onnx").unlink()  # listed, not there
    assert [finding.level for finding in examine_models([model], run=True)] == ["wrong"]
    assert [finding.level for finding in examine_models([], run=False)] == ["wrong"]


def test_places(tmp_path: Path) -> None:
    env = {key: value for key, value in os.environ.items() if key not in ("AMENT_PREFIX_PATH", "PYTHONPATH", "ROS_DISTRO")}
    prefix = tmp_path / "opt" / "ros"
    package = prefix / "lib" / "site-packages" / "rclpy"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    sourced = {**env, "AMENT_PREFIX_PATH": str(prefix), "ROS_DISTRO": "jazzy", "PYTHONPATH": f"{package.parent}{os.pathsep}{ROOT}"}
    assert find_place_in(sourced) == ("b", "note", "(b) ROS 2 jazzy, but no sourced workspace holds xkd_ros")
    (prefix / "share" / "xkd_ros").mkdir(parents=True)
    (prefix / "share" / "xkd_ros" / "package.xml").write_text("")
    assert find_place_in(sourced)[:2] == ("b", "ok")
    if HAS_ROS and importlib.util.find_spec("ros_wheels_bootstrapper") is not None:
        assert find_place_in({**env, "PYTHONPATH": str(ROOT)})[:2] == ("a", "ok")
        hidden = find_place_in({**sourced, "PYTHONPATH": str(ROOT)})
        assert hidden[:2] == ("a", "wrong") and f"hides the one of {prefix}" in hidden[2]


def test_without_ros_it_is_place_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ros.util, "find_spec", lambda name: None)
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    place, finding = ros.find_place()
    assert place == "c" and finding.level == "note" and "pip install 'xkd_ros[ros]'" in finding.remedy
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/jazzy")
    place, finding = ros.find_place()
    assert place == "c" and finding.level == "wrong" and "this Python has no rclpy" in finding.found


@pytest.mark.skipif(not HAS_ROS, reason="needs rclpy")
def test_middleware_that_does_not_start_is_wrong(tmp_path: Path) -> None:
    code, findings, _ = doctor(tmp_path, RMW_IMPLEMENTATION="rmw_nonsense_cpp")
    assert code == 1 and findings["rclpy"]["level"] == "wrong"
    assert "unset RMW_IMPLEMENTATION (rmw_nonsense_cpp)" in findings["rclpy"]["remedy"]


@pytest.mark.parametrize(
    ("content", "level", "words"),
    [
        (None, "wrong", "cannot be read"),
        ("<no", "wrong", "cannot be read"),
        ("<profiles/>", "note", "no shared-memory segment"),
        ("<p xmlns='x'><segment_size>524288</segment_size></p>", "note", "no shared-memory segment"),
        ("<p xmlns='x'><segment_size>33554432</segment_size></p>", "ok", "34 MB"),
    ],
)
def test_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, level: str, words: str) -> None:
    file = tmp_path / "profile.xml"
    if content is not None:
        file.write_text(content)
    for name in ("FASTDDS_BUILTIN_TRANSPORTS", "RMW_IMPLEMENTATION", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(file))
    finding = ros._profile()
    assert finding.level == level and words in finding.found
    assert level == "ok" or "config/fastdds_large_clouds.xml" in finding.remedy
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    assert ros._profile().level == "ok"


def test_leaked_segments_are_those_that_nobody_holds(tmp_path: Path) -> None:
    for name in ("alive", "dead"):
        (tmp_path / f"fastrtps_{name}").write_bytes(bytes(1000))
        (tmp_path / f"fastrtps_{name}_el").touch()
    (tmp_path / "somebody_elses").touch()
    with open(tmp_path / "fastrtps_alive_el") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert [path.name for path in ros.find_leaked_segments(tmp_path)] == ["fastrtps_dead", "fastrtps_dead_el"]
        assert ros.remove_leaked_segments(tmp_path) == 1000
    assert {path.name for path in tmp_path.iterdir()} == {"fastrtps_alive", "fastrtps_alive_el", "somebody_elses"}


@pytest.mark.dds
@pytest.mark.skipif(not HAS_ROS or not ros.SHM.is_dir(), reason="needs rclpy and shared memory")
def test_segments_of_a_real_process_before_and_after_it_is_killed() -> None:
    code = "import rclpy, time; rclpy.init(); n = rclpy.create_node('held'); print('up', flush=True); time.sleep(120)"
    before = set(ros.SHM.glob("fastrtps_*"))
    env = {**os.environ, "ROS_DOMAIN_ID": str(2 + os.getpid() % 99), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "up\n"
        new = {path for path in set(ros.SHM.glob("fastrtps_*")) - before if path.stat().st_uid == os.getuid()}
        alive = {path for path in new if path not in ros.find_leaked_segments()}
        assert alive
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    leaked = alive & set(ros.find_leaked_segments())
    for path in leaked:
        path.unlink(missing_ok=True)
    assert leaked, "the killed process leaves what the doctor finds"


def test_engines_are_listed_or_their_lack_is_noted(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def finding() -> Finding | None:
        return {row.what: row for row in examine_models([model], run=False)}.get("indoor-24x64 engines")

    monkeypatch.setattr("xkd_ros.pipeline.doctor.models.impossible", lambda name, card: "no NVIDIA GPU")
    assert finding() is None
    monkeypatch.setattr("xkd_ros.pipeline.doctor.models.impossible", lambda name, card: "")
    missing = finding()
    assert missing is not None and missing.level == "note" and missing.remedy == "xkd export indoor-24x64 --tensorrt"
    graph = load_card(model).files[TRT_FILE]
    facts = EngineFacts(graph=graph, precision="float16", gpu="a GPU", version="10.3", version_compatible=False, agreement=0.9991)
    EngineStore(engine_folder()).put("k", b"engine", facts)
    found = finding()
    assert found is not None and found.level == "ok"
    assert "float16 for a GPU, TensorRT 10.3, labels agree with torch on 99.91 %" in found.found


@pytest.mark.parametrize(
    ("version", "level", "words"),
    [("", "note", "not installed"), ("8.6.1", "wrong", "wrong labels"), ("10.16.1.11", "ok", "10.16.1.11"), ("11.4.0", "note", "float32")],
)
def test_versions_of_tensorrt(monkeypatch: pytest.MonkeyPatch, version: str, level: str, words: str) -> None:
    monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(machine, "_version_of", lambda package: version)
    found = {finding.what: finding for finding in machine._gpu()}["TensorRT"]
    assert found.level == level and words in found.found
    assert (found.remedy == "pip install 'tensorrt>=10,<11'") == (level != "ok")
    monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: False)
    unseen = {finding.what: finding for finding in machine._gpu()}["TensorRT"]
    assert unseen.level == "ok" and "xkd export MODEL --tensorrt" in unseen.remedy


def test_cache_of_compiled_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine._kernel_cache().level == "ok"
    monkeypatch.setattr("xkd_ros.kernels.compiler.cache_path", lambda: None)
    finding = machine._kernel_cache()
    assert finding.level == "note" and "NUMBA_CACHE_DIR" in finding.remedy
    monkeypatch.setattr(machine, "installed", lambda package: False)
    assert machine._kernel_cache().level == "wrong"
    missing = {finding.what: finding for finding in machine.examine_packages("a")}
    assert missing["torch"].level == "note" and missing["torch"].remedy == "pip install 'xkd_ros[train]'"
    assert "tf2_ros" not in missing and "tf2_ros" in {finding.what for finding in machine.examine_packages("b")}


def test_nothing_is_written_without_json(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    assert run_doctor(str(model), None) == 0
    assert set(tmp_path.iterdir()) == before
