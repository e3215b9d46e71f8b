"""The fast form of the network says what the plain form says, and training mode and evaluation mode are the same network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xkd_ros.core.types import NetInput
from xkd_ros.nets.batch import collate
from xkd_ros.nets.folded import FoldedStudent


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_folded_equals_layer_by_layer(make_scan, make_student, norm: str, activation: str) -> None:
    student = make_student(norm=norm, activation=activation, depth=6, width=16)
    folded = FoldedStudent(student)
    # Large, small, large again: the memory that is kept between scans must not show.
    for seed, points in ((0, 900), (1, 30), (2, 700), (3, 1)):
        scan = make_scan(seed, points)
        with torch.no_grad():
            expected = student.on(collate([scan])) if len(scan) else torch.empty(0, 5)
        assert torch.allclose(folded(scan), expected, atol=2e-5), points


def test_results_are_the_callers_own(make_scan, make_student) -> None:
    folded = FoldedStudent(make_student())
    first = folded(make_scan(0, 300))
    kept = first.clone()
    folded(make_scan(1, 300))
    assert torch.equal(first, kept)


def test_bfloat16_names_the_same_classes(make_scan, make_student) -> None:
    student, scan = make_student(depth=6, width=32), make_scan(4, 2000)
    exact, rough = FoldedStudent(student)(scan), FoldedStudent(student, torch.bfloat16)(scan)
    assert 0 < (exact - rough).abs().max() < 0.1 * exact.std()
    assert (exact.argmax(1) == rough.argmax(1)).float().mean() > 0.98


def test_later_training_does_not_reach_a_folded_student(make_scan, make_student) -> None:
    student, scan = make_student(), make_scan(5, 100)
    folded = FoldedStudent(student)
    before = folded(scan)
    with torch.no_grad():
        for tensor in student.state_dict().values():
            tensor.add_(1)
    assert torch.equal(folded(scan), before)


def test_halo_of_an_empty_border_cell_counts(make_scan, make_student) -> None:
    """A point in the corner of the whole field of view: outside the grid is zero, inside it is activation(bias)."""
    student, scan = make_student(), make_scan(6, 60)
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
        expected = student.on(collate([corner]))
    assert torch.allclose(FoldedStudent(student)(corner), expected, atol=1e-5)


@pytest.mark.parametrize("padded", [False, True])
def test_embedding_in_training_mode_equals_the_folded_one_on_its_own_statistics(make_scan, make_student, padded: bool) -> None:
    embedding = make_student().backbone.embedding
    batch = collate([make_scan(7, 250)])
    features, neighbours = batch.features, batch.neighbours
    real = None
    if padded:
        features = torch.cat([features, torch.full((9, 5), 50.0)])
        neighbours = torch.cat([neighbours, torch.zeros(9, neighbours.shape[1], dtype=torch.long)])
        real = torch.arange(len(features)) < len(batch.features)
    norms = (embedding.norm, embedding.difference_norm, embedding.hidden_norm)
    for norm in norms:
        norm.momentum = 1.0  # the running statistics become those of this batch
    with torch.no_grad():
        expected = embedding.train()(features, neighbours, real)
        counts = len(batch.features) * np.array([1, neighbours.shape[1], neighbours.shape[1]])
        for norm, count in zip(norms, counts):
            norm.running_var.mul_((count - 1) / count)  # kept unbiased, applied biased
        got = embedding.eval()(features, neighbours)
    assert torch.allclose(got[: len(batch.features)], expected[: len(batch.features)], atol=1e-4)
    assert expected.std() > 0.05
