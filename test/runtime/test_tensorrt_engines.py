"""Engines from building to loading: the real store, graph, labels and torch; only TensorRT itself, which needs a GPU, is stood in for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorrt_stand_in import OnCpu, TensorRt

from xkd_ros.core.card import load_card
from xkd_ros.core.errors import ModelError
from xkd_ros.core.types import NetInput
from xkd_ros.export import tensorrt_engine
from xkd_ros.runtime import tensorrt_backend
from xkd_ros.runtime.engine_store import EngineFacts, EngineStore, engine_folder
from xkd_ros.runtime.onnx_inputs import TRT_FILE
from xkd_ros.runtime.probe import probe_inputs
from xkd_ros.runtime.timing_cache import TimingCacheFile

ROOT = Path(__file__).resolve().parents[2]


class Machine:
    """A machine with a GPU, as far as the loader looks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: Path, scans: list[NetInput]) -> None:
        self.trt, self.gpu, self.model, self.card = TensorRt(), "GPU one", model, load_card(model)
        torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True, get_device_name=lambda: self.gpu))
        monkeypatch.setattr(tensorrt_backend, "require", lambda module, *_: {"tensorrt": self.trt, "torch": torch}[module])
        monkeypatch.setattr(tensorrt_backend, "probe_inputs", lambda card: scans)
        self.store = EngineStore(engine_folder())

    def load(self, version_compatible: bool = False) -> EngineFacts:
        """Load, and return what the engine is; `built` then lists what was built for it."""
        self.trt.built.clear()
        self.trt.offered.clear()
        return OnCpu.load(self.model, self.card, version_compatible).facts

    @property
    def built(self) -> list[tuple[str, ...]]:
        return self.trt.built

    def files(self, suffix: str) -> list[Path]:
        return sorted(engine_folder().glob(f"*{suffix}"))


@pytest.fixture(scope="module")
def scans(exported: Path) -> list[NetInput]:
    return probe_inputs(load_card(exported))[:1]  # three preprocessings for every load would be most of the test's time


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, exported: Path, scans: list[NetInput]) -> Machine:
    return Machine(monkeypatch, exported, scans)


def test_one_logger_lives_as_long_as_the_process(machine: Machine) -> None:
    machine.load()
    machine.trt.wrong = {"FP16"}
    machine.load()
    assert len(machine.trt.loggers) == 1


def test_a_tensorrt_for_another_cuda_is_one_line(machine: Machine) -> None:
    machine.trt.starts = False
    with pytest.raises(ModelError, match=r"TensorRT 10\.16\.1\.11 does not start: it was made for another CUDA than the driver's"):
        machine.load()


def test_an_engine_is_built_once_for_each_gpu_and_version(machine: Machine) -> None:
    first = machine.load()
    assert machine.built == [("FP16",)] and first.precision == "float16" and first.agreement > 0.999
    assert machine.load() == first and machine.built == []
    assert machine.store.of_graph(machine.card.files[TRT_FILE]) == [first] and machine.store.of_graph("another") == []
    machine.gpu = "GPU two"
    machine.load()
    assert machine.built == [("FP16",)]
    machine.trt = TensorRt("10.17.0")
    machine.load()
    assert machine.built == [("FP16",)]
    assert {(facts.gpu, facts.version) for facts in machine.store.of_graph(first.graph)} == {
        ("GPU one", "10.16.1.11"), ("GPU two", "10.16.1.11"), ("GPU two", "10.17.0"),
    }  # fmt: skip


def test_a_precision_with_other_labels_is_refused_and_not_tried_again(machine: Machine) -> None:
    machine.trt.wrong = {"FP16"}
    assert machine.load().precision == "bfloat16" and machine.built == [("FP16",), ("BF16",)]
    assert machine.load().precision == "bfloat16" and machine.built == []
    machine.trt.wrong, machine.gpu = {"FP16", "BF16", ""}, "GPU two"
    with pytest.raises(ModelError, match=r"float16: labels agree .*; bfloat16: labels agree .*; float32: labels agree") as error:
        machine.load()
    assert "\n" not in str(error.value)


def test_typed_networks_are_built_in_float32(machine: Machine) -> None:
    machine.trt = TensorRt("11.4.0.106", typed=True)
    assert machine.load().precision == "float32" and machine.built == [()]
    machine.trt.wrong, machine.gpu = {""}, "GPU two"
    with pytest.raises(ModelError, match=r"float16: TensorRT 11\.4\.0\.106 builds only float32 .*: pip install 'tensorrt>=10,<11'"):
        machine.load()


def test_later_versions_load_a_version_compatible_engine(machine: Machine) -> None:
    first = machine.load(version_compatible=True)
    assert machine.built == [("FP16", "VERSION_COMPATIBLE")] and first.version_compatible
    assert machine.load() == first and machine.built == []  # the node, which does not ask for one
    machine.trt = TensorRt("11.4.0.106", typed=True)
    assert machine.load().precision == "float16" and machine.built == []
    machine.trt = TensorRt("10.3.0")
    assert machine.load().version == "10.3.0" and machine.built == [("FP16",)]


def test_a_version_compatible_engine_that_changed_its_labels_is_built_again(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.load(version_compatible=True)
    machine.trt = TensorRt("10.17.0")
    machine.trt.wrong = {"later"}
    facts = machine.load()
    assert machine.built == [("FP16",)] and not facts.version_compatible and facts.agreement > 0.999
    assert "under TensorRT 10.17.0 its labels differ from torch's" in caplog.text


def test_an_altered_engine_is_built_again(machine: Machine) -> None:
    facts = machine.load()
    (plan,) = machine.files(".plan")
    plan.write_bytes(plan.read_bytes()[:-1])
    assert machine.store.of_graph(facts.graph) == []
    machine.load()
    assert machine.built == [("FP16",)] and len(machine.store.of_graph(facts.graph)) == 1


def test_without_a_place_for_it_an_engine_runs_all_the_same(machine: Machine, tmp_path: Path, monkeypatch, caplog) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert machine.load().agreement > 0.999
    assert "the engine is not kept" in caplog.text
    with pytest.raises(ModelError, match=r"cannot be kept in .*; export XDG_CACHE_HOME"):
        export(machine, monkeypatch)


def test_times_are_kept_for_the_next_engine(machine: Machine) -> None:
    machine.trt.wrong = {"FP16"}
    machine.load()
    assert machine.trt.offered == [b"", b"a GPU+"]  # bfloat16 begins with what float16 measured
    machine.gpu = "GPU two"
    machine.load()
    assert machine.trt.offered[0] == b"" and len(machine.files(".timing")) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_damaged_and_foreign_times_are_replaced(machine: Machine, damage: str) -> None:
    facts = machine.load()
    (path,) = machine.files(".timing")
    whole = path.read_bytes()
    if damage == "foreign":
        machine.trt.device = b"another driver"
    else:
        path.write_bytes({"cut": whole[:-1], "flipped": whole[:-1] + b"?", "empty": b""}[damage])
    machine.store.forget(machine.files(".plan")[0].stem)
    assert machine.load().agreement == facts.agreement
    # TensorRT dies of a damaged cache: it must only ever see whole ones.
    assert machine.trt.offered == ([b"a GPU+", b""] if damage == "foreign" else [b""])
    machine.store.forget(machine.files(".plan")[0].stem)
    machine.load()
    assert machine.trt.offered == [machine.trt.device + b"+"]


def export(machine: Machine, monkeypatch: pytest.MonkeyPatch, version_compatible: bool = False) -> tensorrt_engine.EngineReport:
    monkeypatch.setattr(tensorrt_engine, "impossible", lambda name, card: "")
    monkeypatch.setattr(tensorrt_engine, "TensorRtBackend", OnCpu)
    return tensorrt_engine.export_engine(machine.model, version_compatible)


def test_export_says_what_the_node_will_find(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    report = export(machine, monkeypatch)
    assert str(report).splitlines()[0] == str(machine.files(".plan")[0])
    assert "float16 for GPU one, TensorRT 10.16.1.11, labels agree with torch on 100.00 %, built in" in str(report)
    assert machine.load() == report.facts and machine.built == []
    assert "TensorRT 10.16.1.11 and later" in str(export(machine, monkeypatch, version_compatible=True))
    assert machine.built == [("FP16", "VERSION_COMPATIBLE")]


def test_export_without_a_gpu_a_package_or_a_graph_is_one_line(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for reason, words in (("no NVIDIA GPU", "here: no NVIDIA GPU"), ("tensorrt is not installed", "; pip install 'tensorrt>=10,<11'")):
        monkeypatch.setattr(tensorrt_engine, "impossible", lambda name, card, reason=reason: reason)
        with pytest.raises(ModelError, match=words):
            tensorrt_engine.export_engine(exported)


KILLED = """
import os, signal, sys
from pathlib import Path
from xkd_ros.runtime.engine_store import EngineFacts, EngineStore
from xkd_ros.runtime.timing_cache import TimingCacheFile

calls, fsync = 0, os.fsync
def dying(descriptor):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)
os.fsync = dying
folder = Path(sys.argv[1])
if sys.argv[3] == "engine":
    facts = EngineFacts(graph="g", precision="float16", gpu="a", version="10", version_compatible=False)
    EngineStore(folder).put("k", b"new engine", facts)
else:
    TimingCacheFile(folder, gpu="a").write(b"new times")
"""


@pytest.mark.parametrize(("write", "what"), [(1, "engine"), (2, "engine"), (1, "times")])
def test_a_killed_write_leaves_nothing_that_is_taken_for_whole(tmp_path: Path, write: int, what: str) -> None:
    store, times = EngineStore(tmp_path), TimingCacheFile(tmp_path, gpu="a")
    facts = EngineFacts(graph="g", precision="float16", gpu="a", version="10", version_compatible=False, agreement=1.0)
    store.put("k", b"old engine", facts)
    times.write(b"old times")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(write), what], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == -9
    assert times.read() == b"old times"
    # Killed between the two files of an engine, the new engine has the old one's voucher: it is not used.
    expected = None if (what, write) == ("engine", 2) else (b"old engine", facts)
    assert store.get("k") == expected and len(store.of_graph("g")) == (expected is not None)
    store.put("k", b"newer engine", facts)
    times.write(b"newer times")
    assert store.get("k") == (b"newer engine", facts) and times.read() == b"newer times"


def test_a_graph_that_is_not_the_cards_is_refused_before_an_engine_is_looked_for(machine: Machine) -> None:
    machine.load()
    machine.card = machine.card.model_copy(update={"files": {**machine.card.files, TRT_FILE: "0" * 64}})
    with pytest.raises(ModelError, match="hash differs"):
        machine.load()
