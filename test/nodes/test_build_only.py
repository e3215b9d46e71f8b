"""`build_only`: the node as an installation step, in a process of its own, with the real backends."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from xkd_ros.core.card import load_card
from xkd_ros.runtime.selection import BACKENDS, remembered_choice

pytestmark = pytest.mark.dds

SEGMENTER = "xkd_ros.nodes.segmenter"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own for the node and for the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def build(graph, model, *more):
    """Start the node as an installation step; returns it running."""
    given = (f"model:={model}", "build_only:=true", "num_threads:=1", *more)
    return graph.process(SEGMENTER, "--ros-args", *(word for parameter in given for word in ("-p", parameter)))


def test_the_choice_is_made_and_kept(graph, tiny_model, cache):
    card = load_card(tiny_model)
    assert remembered_choice(card, 1) is None
    process = build(graph, tiny_model, "autostart:=false")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    chosen = remembered_choice(card, 1)
    assert chosen in BACKENDS and f"on {chosen}" in said and "Traceback" not in said
    assert remembered_choice(card, 2) is None  # another number of threads, another choice


def test_a_named_backend_leaves_nothing_to_remember(graph, tiny_model, cache):
    process = build(graph, tiny_model, "backend:=numba")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "on numba" in said and not (cache / "xkd_ros" / "backends").exists()


def test_what_cannot_be_built_is_one_line_and_an_exit_code(graph, tiny_model, tmp_path, cache):
    broken = Path(shutil.copytree(tiny_model, tmp_path / "broken"))
    weights = broken / "student.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    for model, words in ((broken, "student.safetensors is not the file"), ("no_such_model", "there is no model 'no_such_model'")):
        process = build(graph, model)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 1 and "Traceback" not in said
        assert [words in line for line in said.splitlines() if "not built: " in line] == [True], said


def test_a_choice_that_cannot_be_kept_is_not_a_success(graph, tiny_model, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    process = build(graph, tiny_model)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and "the choice of backend cannot be kept in" in said and "export XDG_CACHE_HOME=" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_before_it_was_built_is_not_a_success(graph, tiny_model, cache, number):
    process = build(graph, tiny_model)
    graph.spin_until(lambda: "segmenter" in graph.probe.get_node_names(), "the node")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 1 or remembered_choice(load_card(tiny_model), 1) is not None
