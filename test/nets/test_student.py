"""Sizes of the network, and what its output must and must not depend on."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from xkd_ros.core.card import NetworkConfig
from xkd_ros.core.types import NetInput
from xkd_ros.nets.batch import collate
from xkd_ros.nets.layers import DropPath
from xkd_ros.nets.student import Student, count_parameters, seeded_student
from xkd_ros.nets.waffleiron import WaffleIron

NORMS = ("layer", "batch")


# METHODS 1.5: totals counted on the public code.
@pytest.mark.parametrize(
    ("depth", "width", "outputs", "millions"),
    [(48, 256, 19, 6.84), (48, 384, 16, 15.13), (48, 768, 1024, 60.22), (24, 768, 1024, 31.40), (36, 768, 1024, 45.81)],
)
def test_parameter_counts_are_the_published_ones(depth: int, width: int, outputs: int, millions: float) -> None:
    with torch.device("meta"):
        backbone, head = WaffleIron(depth, width), nn.Linear(width, outputs)
    embedding = 3 * width**2 + (2 * 5 + 4) * width + 4 * 5
    blocks = depth * (2 * width**2 + 28 * width)
    assert count_parameters(backbone) == embedding + blocks
    assert count_parameters(backbone) + count_parameters(head) == embedding + blocks + outputs * (width + 1)
    assert round((count_parameters(backbone) + count_parameters(head)) / 1e6, 2) == millions


@pytest.mark.parametrize("norm", NORMS)
def test_default_student_is_small(norm: str) -> None:
    student = Student(NetworkConfig(norm=norm))
    assert count_parameters(student) == 3 * 64**2 + 14 * 64 + 20 + 24 * (2 * 64**2 + 28 * 64) + 12 * 65


def test_same_seed_same_student_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, second = (seeded_student(NetworkConfig(depth=2, width=8), 7).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_nothing(make_scan, make_student, norm: str, training: bool) -> None:
    student = make_student(norm=norm)
    batch = collate([make_scan(0, 300)])
    count, extra = len(batch.features), 37
    generator = torch.Generator().manual_seed(1)
    padded = {
        "features": torch.cat([batch.features, 100 * torch.randn(extra, 5, generator=generator)]),
        "cells": torch.cat([batch.cells, torch.zeros(3, extra, dtype=torch.long)], dim=1),
        "neighbours": torch.cat([batch.neighbours, torch.full((extra, batch.neighbours.shape[1]), count + extra - 1)]),
        "occupied": torch.cat([torch.ones(count), torch.zeros(extra)]),
    }
    bare = copy.deepcopy(student).train(training)
    student.train(training)
    expected = bare(batch.features, batch.cells, batch.shapes, batch.neighbours)
    got = student(padded["features"], padded["cells"], batch.shapes, padded["neighbours"], padded["occupied"])
    assert torch.allclose(got[:count], expected, atol=2e-5)
    for name, tensor in bare.named_buffers():  # running statistics must not have seen the padding either
        assert torch.allclose(tensor, dict(student.named_buffers())[name], atol=1e-5), name


@pytest.mark.parametrize("norm", NORMS)
def test_order_of_the_points_does_not_matter(make_scan, make_student, norm: str) -> None:
    student, scan = make_student(norm=norm), make_scan(2, 400)
    order = np.random.default_rng(0).permutation(len(scan))
    position = np.argsort(order)
    shuffled = NetInput(
        features=scan.features[order],
        cells=scan.cells[:, order],
        grids=scan.grids,
        neighbours=position[scan.neighbours[order]],
        kept=scan.kept[order],
        undo=scan.undo,
        rotation=scan.rotation,
    )
    with torch.no_grad():
        expected, got = student.on(collate([scan])), student.on(collate([shuffled]))
    assert torch.allclose(got, expected[torch.from_numpy(order)], atol=1e-5)
    assert expected.std() > 0.01


def test_a_scan_does_not_depend_on_its_company(make_scan, make_student) -> None:
    student = make_student()
    scans = [make_scan(seed, points, part) for seed, points, part in ((3, 150, 0.4), (4, 420, 1.0), (5, 18, 0.7))]
    with torch.no_grad():
        together = student.on(collate(scans)).split([len(scan) for scan in scans])
        alone = [student.on(collate([scan])) for scan in scans]
    assert scans[0].grids != scans[1].grids
    for first, second in zip(together, alone):
        assert torch.allclose(first, second, atol=1e-5)


def test_gradients_reach_every_weight(make_scan, make_student) -> None:
    student = make_student(depth=3).train()
    student.on(collate([make_scan(6, 200)])).square().mean().backward()
    still = [name for name, weight in student.named_parameters() if weight.grad is None or not weight.grad.abs().sum() > 0]
    # The batch norm after it takes this bias away again: its gradient is zero.
    assert still == ["backbone.embedding.difference_norm.bias"]


def test_drop_path_drops_whole_scans_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    drop, scan = DropPath(0.25).train(), torch.arange(4000).repeat_interleave(2)
    tokens = torch.ones(8000, 3)
    out = drop.factors(scan, 4000, tokens)
    assert out is not None and torch.equal(out[::2], out[1::2])
    assert out.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert out.mean().item() == pytest.approx(1.0, abs=0.05)
    one = drop.factors(None, 1, tokens)
    assert one is not None and one.shape == (8000,) and len(one.unique()) == 1
    assert drop.eval().factors(scan, 4000, tokens) is None
