"""Every backend that runs here says the same, always."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from xkd_ros.core.card import load_card
from xkd_ros.core.errors import ModelError
from xkd_ros.runtime.backend import agreement
from xkd_ros.runtime.onnx_inputs import ORT_FILE
from xkd_ros.runtime.probe import make_room_scan, probe_inputs
from xkd_ros.runtime.selection import make_backend


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["torch", "torch-bf16", "onnxruntime", "numba"])
def test_backends_equal_the_network_layer_by_layer(exported: Path, name: str, threads: int) -> None:
    import torch

    from xkd_ros.nets.batch import collate
    from xkd_ros.nets.checkpoint import load_student

    card = load_card(exported)
    inputs = probe_inputs(card)
    student, _ = load_student(exported)
    with torch.no_grad():
        expected = [student.on(collate([item])).numpy() for item in inputs]
    backend = make_backend(name, exported, card, threads)
    assert backend.name == name
    for _ in range(3):  # several times: a race between threads shows now and then only
        logits = [backend.infer(item) for item in inputs]
        assert agreement(logits, expected) > (0.99 if name == "torch-bf16" else 0.9999)
        if name != "torch-bf16":
            assert max(np.abs(ours - theirs).max() for ours, theirs in zip(logits, expected)) < 1e-4
    assert all(len(np.unique(item.argmax(1))) > 2 for item in expected)


def test_onnxruntime_refuses_what_the_card_does_not_vouch_for(exported: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(exported, folder)
    graph = (folder / ORT_FILE).read_bytes()
    (folder / ORT_FILE).write_bytes(graph[:-1])
    with pytest.raises(ModelError, match="hash differs"):
        make_backend("onnxruntime", folder, load_card(folder), 1)
    from xkd_ros.runtime.onnxruntime_backend import OnnxRuntimeBackend

    with pytest.raises(ModelError, match="cannot run this graph"):
        OnnxRuntimeBackend(b"not a graph")


def test_agreement_counts_points_not_scans_and_never_nan() -> None:
    truth = [np.eye(3, dtype=np.float32)[[0, 1, 2, 0]], np.eye(3, dtype=np.float32)[[1] * 6]]
    other = [truth[0].copy(), truth[1].copy()]
    other[0][0] = [0, 5, 0]
    assert agreement(truth, truth) == 1.0
    assert agreement(other, truth) == pytest.approx(0.9)
    other[1][:] = np.nan
    assert agreement(other, truth) == pytest.approx(0.3)
    assert agreement([], []) == 0.0


def test_rooms_look_like_scans() -> None:
    points, intensity = make_room_scan(1, 16, 512, 9.0)
    again, _ = make_room_scan(1, 16, 512, 9.0)
    assert np.array_equal(points, again) and points.shape == (8192, 3) and intensity.shape == (8192,)
    back = points[(points != 0).any(1)]
    assert 0.96 < len(back) / len(points) < 0.995
    low, high = np.percentile(back, 0.5, axis=0), np.percentile(back, 99.5, axis=0)
    np.testing.assert_allclose(high - low, (9.0, 6.0, 2.9), atol=0.1)
    assert intensity.min() >= 0 and intensity.max() <= 255 and intensity.std() > 5


@pytest.mark.parametrize("make", ["TorchBackend", "run_in_memory"])
def test_a_backend_of_a_model_in_training_is_a_snapshot(exported: Path, make: str) -> None:
    """Validation makes one backend per step; results must be this step's."""
    import torch

    from xkd_ros.nets.checkpoint import load_student
    from xkd_ros.runtime import torch_backend

    student, card = load_student(exported)
    inputs = probe_inputs(card)[:1]
    first = getattr(torch_backend, make)(student.train(), card, 1)
    before = first.infer(inputs[0])
    with torch.no_grad():
        for tensor in student.state_dict().values():
            tensor.add_(1)
        student.load_state_dict(load_student(exported)[0].state_dict())
        student.head.bias.add_(1)
    assert student.training
    np.testing.assert_allclose(getattr(torch_backend, make)(student, card, 1).infer(inputs[0]), before + 1, atol=1e-4)
    assert np.array_equal(first.infer(inputs[0]), before)


def test_numba_refuses_weights_of_another_network(exported: Path, tmp_path: Path) -> None:
    import shutil

    from xkd_ros.core.card import save_card
    from xkd_ros.core.files import sha256
    from xkd_ros.nets.checkpoint import load_student
    from xkd_ros.runtime.numba_backend import NumbaBackend

    folder = tmp_path / "model"
    shutil.copytree(exported, folder)
    card = load_card(folder)
    for change in ({"depth": card.network.depth + 1}, {"depth": card.network.depth - 1}, {"norm": "batch"}):
        save_card(card.model_copy(update={"network": card.network.model_copy(update=change)}), folder)
        with pytest.raises(ModelError, match="weights such as"):
            make_backend("numba", folder, load_card(folder), 1)
    state = {name: value.numpy() for name, value in load_student(exported)[0].state_dict().items()}
    with pytest.raises(ModelError, match=r"conv1.bias' is \(1,\)"):
        NumbaBackend({**state, "backbone.spatial.0.conv1.bias": np.zeros(1, np.float32)}, card, 1)
    (folder / "student.safetensors").write_bytes(b"\xff" * 64)
    files = {**card.files, "student.safetensors": sha256(folder / "student.safetensors")}
    save_card(card.model_copy(update={"files": files}), folder)
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        make_backend("numba", folder, load_card(folder), 1)


def test_a_backend_works_from_another_thread_than_its_loader(exported: Path) -> None:
    card = load_card(exported)
    item = probe_inputs(card)[0]
    for name in ("torch", "onnxruntime", "numba"):
        backend = make_backend(name, exported, card, 1)
        results: list[np.ndarray] = []
        worker = threading.Thread(target=lambda backend=backend, results=results: results.append(backend.infer(item)))
        worker.start()
        worker.join()
        assert np.array_equal(results[0], backend.infer(item))


def test_torch_takes_its_threads_in_whatever_thread_it_is_asked(exported: Path) -> None:
    import torch

    from xkd_ros.runtime.torch_backend import TorchBackend

    item, found = probe_inputs(load_card(exported))[0], []
    usual = torch.get_num_threads()

    def ask() -> None:
        for threads in (2, 1, None):
            backends[threads].infer(item)
            found.append(torch.get_num_threads())

    try:
        backends = {threads: TorchBackend.load(exported, threads) for threads in (2, 1, None)}
        asking = threading.Thread(target=ask)
        asking.start()
        asking.join()
        ask()
        assert found[:2] == found[3:5] == [2, 1] and found[2] == found[5]
    finally:
        torch.set_num_threads(usual)
