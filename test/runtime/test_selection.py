"""backend: auto keeps the fastest that agrees, says why not the others, and remembers."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from xkd_ros.core.card import load_card
from xkd_ros.core.errors import ModelError
from xkd_ros.core.types import NetInput
from xkd_ros.runtime import selection
from xkd_ros.runtime.machine import cache_folder, fingerprint, has_nvidia_gpu
from xkd_ros.runtime.probe import probe_inputs
from xkd_ros.runtime.segmenter import Segmenter


class Timed:
    """Answers with the height of the points after a while."""

    def __init__(self, name: str, milliseconds: float, wrong: float = 0.0, error: Exception | None = None) -> None:
        self.name, self._seconds, self._wrong, self._error = name, milliseconds / 1e3, wrong, error

    def infer(self, net_input: NetInput) -> np.ndarray:
        time.sleep(self._seconds)
        if self._error is not None:
            raise self._error
        logits = np.zeros((len(net_input), 5), np.float32)
        logits[:, 0] = net_input.features[:, 3]
        logits[: int(self._wrong * len(logits)), 4] = 100
        return logits


@pytest.fixture
def contestants(exported: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Timed]:
    """Backends that tests put in the place of the real ones; absent ones fail to load."""
    made: dict[str, Timed] = {}
    loads: list[str] = []

    def make(name, folder, card, threads):
        loads.append(name)
        if name not in made:
            raise ModelError(f"{name} is broken here")
        return made[name]

    monkeypatch.setattr(selection, "make_backend", make)
    monkeypatch.setattr(selection, "impossible", lambda name, card: "")
    monkeypatch.setattr(selection, "_BUDGET_S", 0.05)
    scans = probe_inputs(load_card(exported))[:1] * 3  # three preprocessings for every load would be most of the test's time
    monkeypatch.setattr(selection, "probe_inputs", lambda card, count=3: scans[:count])
    made["loads"] = loads  # type: ignore[assignment]
    return made


def test_the_fastest_wins_and_every_other_has_a_reason(exported: Path, contestants) -> None:
    contestants |= {"torch": Timed("torch", 20), "onnxruntime": Timed("onnxruntime", 4), "torch-bf16": Timed("torch-bf16", 1, wrong=0.02)}
    segmenter = Segmenter.load(exported)
    assert segmenter.backend_name == "onnxruntime"
    assert re.match(r"slower: [\d.]+ ms per scan, onnxruntime takes", segmenter.why["torch"])
    assert "refused: labels agree on 98.0" in segmenter.why["torch-bf16"] and "99.5 % needed" in segmenter.why["torch-bf16"]
    assert segmenter.why["tensorrt"] == "tensorrt is broken here"
    assert set(segmenter.why) == {"torch", "torch-bf16", "tensorrt", "numba", "cuda"}


def test_a_backend_that_fails_while_running_does_not_stop_the_others(exported: Path, contestants) -> None:
    contestants |= {"torch": Timed("torch", 1, error=RuntimeError("out of\nmemory")), "onnxruntime": Timed("onnxruntime", 1)}
    segmenter = Segmenter.load(exported)
    assert segmenter.backend_name == "onnxruntime"
    assert segmenter.why["torch"] == "RuntimeError: out of memory"


def test_others_are_not_compared_with_answers_that_are_no_numbers(exported: Path, contestants, monkeypatch) -> None:
    contestants |= {"torch": Timed("torch", 1), "onnxruntime": Timed("onnxruntime", 20), "numba": Timed("numba", 4)}
    monkeypatch.setattr(contestants["torch"], "infer", lambda net_input: np.full((len(net_input), 5), np.nan, np.float32))
    segmenter = Segmenter.load(exported)
    assert segmenter.backend_name == "numba"
    assert segmenter.why["torch"] == "its answers are no numbers" and segmenter.why["onnxruntime"].startswith("slower")


def test_no_backend_at_all_is_one_clear_line(exported: Path, contestants) -> None:
    with pytest.raises(ModelError, match=r"no backend runs .*: torch: torch is broken here; onnxruntime: .*") as error:
        Segmenter.load(exported)
    assert "\n" not in str(error.value)


def test_the_choice_is_remembered(exported: Path, cache: Path, contestants) -> None:
    contestants |= {"torch": Timed("torch", 1), "onnxruntime": Timed("onnxruntime", 30)}
    first = Segmenter.load(exported)
    contestants["loads"].clear()
    second = Segmenter.load(exported)
    assert contestants["loads"] == ["torch"]
    assert (second.backend_name, second.why) == (first.backend_name, first.why)
    assert len(list((cache / "backends").iterdir())) == 1
    Segmenter.load(exported, threads=3)  # other settings, other choice
    assert len(list((cache / "backends").iterdir())) == 2


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"backend": "torch"}', '{"backend": "rm -rf", "why": {}}', '{"backend": "torch", "why": {"a": 1}}', "\x00\xff"],
)
def test_a_corrupt_memory_is_ignored(exported: Path, cache: Path, contestants, content: str) -> None:
    contestants |= {"torch": Timed("torch", 1)}
    Segmenter.load(exported)
    (path,) = (cache / "backends").iterdir()
    path.write_text(content)
    contestants["loads"].clear()
    assert Segmenter.load(exported).backend_name == "torch"
    assert len(contestants["loads"]) == len(selection.BACKENDS)
    assert json.loads(path.read_text())["backend"] == "torch"


def test_a_remembered_backend_that_no_longer_loads_is_replaced(exported: Path, contestants) -> None:
    contestants |= {"torch": Timed("torch", 1), "onnxruntime": Timed("onnxruntime", 20)}
    assert Segmenter.load(exported).backend_name == "torch"
    del contestants["torch"]
    assert Segmenter.load(exported).backend_name == "onnxruntime"


@pytest.mark.parametrize("fault", [RuntimeError("out of memory"), ModelError("gone"), None])
def test_a_remembered_backend_that_no_longer_works_is_replaced(exported: Path, contestants, fault, monkeypatch) -> None:
    contestants |= {"torch": Timed("torch", 20), "onnxruntime": Timed("onnxruntime", 1)}
    assert Segmenter.load(exported).backend_name == "onnxruntime"
    contestants["onnxruntime"] = Timed("onnxruntime", 1, error=fault)
    if fault is None:  # it answers, but no numbers
        monkeypatch.setattr(contestants["onnxruntime"], "infer", lambda net_input: np.full((len(net_input), 5), np.nan, np.float32))
    assert Segmenter.load(exported).backend_name == "torch"


def test_without_a_place_to_remember_it_still_works(exported: Path, tmp_path: Path, monkeypatch, contestants) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    contestants |= {"torch": Timed("torch", 1)}
    assert Segmenter.load(exported).backend_name == "torch"


def test_one_that_goes_the_whole_way_is_timed_so(exported: Path, contestants) -> None:
    class Whole(Timed):
        scans = 0

        def label_scan(self, request):
            self.scans += 1
            assert request.rotation.shape == (3, 3) and not request.inside_only and len(request.points_m) == len(request.intensity)

    contestants |= {"torch": Timed("torch", 300), "cuda": Whole("cuda", 600)}
    assert Segmenter.load(exported).backend_name == "cuda"
    assert contestants["cuda"].scans >= 3


def test_what_is_recorded_at_first_does_not_count(exported: Path, contestants) -> None:
    class Recorded(Timed):
        seen: tuple[int, ...] = ()

        def label_scan(self, request):
            self.seen = (*self.seen, len(request.points_m))
            time.sleep(0.3 if self.seen.count(len(request.points_m)) <= 2 else 0.001)

    contestants |= {"torch": Timed("torch", 150), "cuda": Recorded("cuda", 1)}
    assert Segmenter.load(exported).backend_name == "cuda"


def test_real_backends(exported: Path) -> None:
    segmenter = Segmenter.load(exported, threads=1)
    assert segmenter.backend_name in ("torch", "onnxruntime", "numba", "torch-bf16")
    others = set(selection.BACKENDS) - {segmenter.backend_name}
    assert set(segmenter.why) == others
    assert "GPU" in segmenter.why["tensorrt"] or "tensorrt" in segmenter.why["tensorrt"]


def test_impossible_backends_are_not_tried(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = load_card(exported)
    monkeypatch.setattr(selection, "has_nvidia_gpu", lambda: False)
    assert selection.impossible("tensorrt", card) == selection.impossible("cuda", card) == "no NVIDIA GPU"
    monkeypatch.setattr(selection, "has_bf16", lambda: False)
    assert "bfloat16" in selection.impossible("torch-bf16", card)
    monkeypatch.setattr(selection, "has_nvidia_gpu", lambda: True)
    assert selection.impossible("tensorrt", card) in ("", "tensorrt is not installed")
    assert selection.impossible("cuda", card) in ("", "triton is not installed")
    bare = card.model_copy(update={"files": {}})
    assert "xkd export" in selection.impossible("onnxruntime", bare)
    assert selection.impossible("torch", bare) == ""


def test_any_card_is_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xkd_ros.runtime.machine._GPU_DEVICES", (f"{tmp_path}/nvidia[0-9]*",))
    (tmp_path / "nvidia-uvm").touch()
    assert not has_nvidia_gpu()
    (tmp_path / "nvidia5").touch()  # in a container that was given the sixth
    assert has_nvidia_gpu()


def test_fingerprint_depends_on_model_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprint(model="a", threads=None)
    assert first == fingerprint(model="a", threads=None) != fingerprint(model="b", threads=None)
    monkeypatch.setattr("xkd_ros.runtime.machine._version", lambda package: "0.0")
    assert fingerprint(model="a", threads=None) != first
    assert cache_folder().name == "xkd_ros"


def test_backend_that_fails_at_work_gives_way_in_the_order_of_trust(exported: Path, contestants, room) -> None:
    contestants |= {"onnxruntime": Timed("onnxruntime", 1), "torch": Timed("torch", 9), "numba": Timed("numba", 9)}
    segmenter = Segmenter.load(exported)
    contestants["onnxruntime"]._error = MemoryError()
    for _ in range(2):
        with pytest.raises(MemoryError):
            segmenter.segment(*room)
    contestants["torch"]._error = RuntimeError("broken\ntoo")  # the next in line fails while it is tried
    assert len(segmenter.segment(*room).labels) == len(room[0])
    assert segmenter.backend_name == "numba"
    assert segmenter.trouble == "backend onnxruntime kept failing (MemoryError: ); going on with numba"
    contestants["numba"]._error = ModelError("lost")
    loads = len(contestants["loads"])
    for _ in range(5):  # nothing is left: the error stays, and is the backend's own; others are not looked for at each scan
        with pytest.raises(ModelError, match=r"^lost$"):
            segmenter.segment(*room)
    assert contestants["loads"][loads:].count("torch") == 1
    contestants["torch"]._error = None
    assert len(segmenter.segment(*room).labels) == len(room[0])
    assert segmenter.backend_name == "torch"
