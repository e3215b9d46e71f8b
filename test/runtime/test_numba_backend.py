"""The compiled network says what the plain one says, at any size."""

from __future__ import annotations

import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("numba")

from xkd_ros.core.card import GeometryConfig, IntensityConfig, ModelCard, NetworkConfig  # noqa: E402
from xkd_ros.core.labels import LabelSet  # noqa: E402
from xkd_ros.core.types import NetInput  # noqa: E402
from xkd_ros.nets.batch import collate  # noqa: E402
from xkd_ros.nets.student import Student, seeded_student  # noqa: E402
from xkd_ros.points.preprocessor import Preprocessor  # noqa: E402
from xkd_ros.runtime.numba_backend import NumbaBackend  # noqa: E402

COLOURS = ((10, 20, 30), (40, 50, 60), (70, 80, 90), (1, 2, 3), (4, 5, 6))
CLASSES = LabelSet(names=("a", "b", "c", "d", "e"), colours=COLOURS)


def make_card(**sizes: object) -> ModelCard:
    network = NetworkConfig(**{"depth": 4, "width": 16, "classes": 5, **sizes})
    return ModelCard(network=network, labels=CLASSES, geometry=GeometryConfig(neighbours=5))


def make_scan(card: ModelCard, seed: int, points: int) -> NetInput:
    rng = np.random.default_rng(seed)
    cloud = rng.uniform((-6, -4, -1), (6, 4, 2), (points, 3)).astype(np.float32)
    return Preprocessor(card.geometry, IntensityConfig(), threads=1)(cloud, rng.uniform(0, 255, points).astype(np.float32))


def make_student(card: ModelCard, seed: int = 0) -> Student:
    """Build a student whose norms are as after training."""
    student = seeded_student(card.network, seed)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for name, value in student.state_dict().items():
            if "running_var" in name:
                value.uniform_(0.5, 2.0)
            elif "running_mean" in name or ("norm" in name and name.endswith("bias")):
                value.normal_(0, 0.5)
            elif "norm" in name and name.endswith("weight"):
                value.uniform_(0.5, 1.5)
    return student.eval()


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("width", [8, 20, 160])  # many, odd and few rows per block
def test_it_equals_the_layers(norm: str, activation: str, width: int) -> None:
    card = make_card(norm=norm, activation=activation, width=width)
    student = make_student(card)
    backend = NumbaBackend(student.arrays(), card, threads=2)
    for seed, points in ((0, 900), (1, 30), (2, 700), (3, 7)):
        scan = make_scan(card, seed, points)
        with torch.no_grad():
            expected = student.on(collate([scan])).numpy()
        np.testing.assert_allclose(backend.infer(scan), expected, atol=2e-4 * max(1.0, np.abs(expected).max()))
        assert expected.std() > 0.05


def test_an_empty_scan_has_no_logits() -> None:
    card = make_card()
    empty = make_scan(card, 0, 0)
    assert NumbaBackend(make_student(card).arrays(), card).infer(empty).shape == (0, 5)


def test_results_are_the_callers_own_and_the_same_every_time() -> None:
    card = make_card()
    backend = NumbaBackend(make_student(card).arrays(), card)
    first = backend.infer(make_scan(card, 0, 300))
    kept = first.copy()
    backend.infer(make_scan(card, 1, 300))
    assert np.array_equal(first, kept) and np.array_equal(backend.infer(make_scan(card, 0, 300)), kept)


def test_threads_do_not_change_the_result() -> None:
    card = make_card(width=32)
    state, scan = make_student(card).arrays(), make_scan(card, 4, 2000)
    one, two = (NumbaBackend(state, card, threads).infer(scan) for threads in (1, 2))
    assert np.array_equal(one, two)


def test_several_callers_wait_for_each_other() -> None:
    """Parts of two scans that waited for each other would wait for ever."""
    card = make_card()
    backends = [NumbaBackend(make_student(card, seed).arrays(), card, threads=2) for seed in (0, 1)]
    scan = make_scan(card, 5, 1500)
    expected = [backend.infer(scan) for backend in backends]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            if not np.array_equal(backends[number].infer(scan), expected[number]):
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_halo_of_an_empty_border_cell_counts() -> None:
    """A point in the corner of the whole field of view: outside the grid is zero, inside it is activation(bias)."""
    card = make_card()
    student, scan = make_student(card), make_scan(card, 6, 60)
    corner = NetInput(
        features=scan.features[:1],
        cells=np.zeros((3, 1), np.int64),
        grids=((4, 5), (4, 3), (5, 3)),
        neighbours=np.zeros((1, scan.neighbours.shape[1]), np.int64),
        kept=scan.kept[:1],
        undo=scan.undo,
        rotation=scan.rotation,
    )
    with torch.no_grad():
        expected = student.on(collate([corner])).numpy()
    np.testing.assert_allclose(NumbaBackend(student.arrays(), card).infer(corner), expected, atol=1e-5)
