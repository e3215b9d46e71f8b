"""Nearest points: the kernel, and every distance in torch, against a plain search."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from xkd_ros.core.card import GeometryConfig
from xkd_ros.device.neighbours import BinnedPoints, nearest, sort_into_bins

GEOMETRY = GeometryConfig(fov_min_m=(-32.0, -20.0, -3.0), fov_max_m=(32.0, 20.0, 3.0))
NEAR = 5


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    """A dense patch, and points with nobody around; then padding, which lies amidst the others."""
    rng = np.random.default_rng(4)
    dense = rng.uniform(-0.6, 0.6, (110, 3))
    lonely = [[25, -15, 1], [3, 0, 0], [-31, 19, -2.5], [4.2, 0.5, 0], [31.9, 19.9, 2.9], [-0.6, 5, 0]]
    return np.concatenate([dense, lonely, np.zeros((14, 3))]).astype(np.float32)


@pytest.fixture(params=[False, True], ids=["all", "kernel"])
def kernels(request: pytest.FixtureRequest) -> bool:
    if request.param:
        request.getfixturevalue("triton_kernels")
    return request.param


def _binned(points: np.ndarray, real: int, device: str) -> BinnedPoints:
    there = torch.from_numpy(points).to(device)
    return sort_into_bins(there, torch.arange(len(points), device=device) < real, GEOMETRY)


def _distances(points: np.ndarray, query: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return np.sort(np.linalg.norm(points[chosen].astype(np.float64) - query, axis=1))


def test_neighbours_are_the_nearest_others(points: np.ndarray, kernels: bool, device: str) -> None:
    # The kernel takes long in the interpreter, so few ask: of the dense ones the last, and all lonely ones.
    real, asked = 116, np.arange(104, 116)
    order = np.concatenate([asked, np.arange(104), np.arange(real, len(points))])
    points = points[order]
    found = nearest(torch.from_numpy(points[: len(asked)]).to(device), _binned(points, real, device), NEAR, True, kernels).cpu().numpy()
    for query in range(len(asked)):
        others = np.delete(np.arange(real), query)
        expected = np.sort(np.linalg.norm(points[others].astype(np.float64) - points[query], axis=1))[:NEAR]
        assert query not in found[query] and len(set(found[query])) == NEAR and (found[query] < real).all()
        np.testing.assert_allclose(_distances(points, points[query], found[query]), expected, rtol=1e-5)


def test_the_nearest_of_places_anywhere(points: np.ndarray, kernels: bool, device: str) -> None:
    queries = np.array([[0.1, 0, 0], [8, 3, 1], [-400, 0, 0], [1e6, 1e6, 0], [33, 21, 3.2], [0, 0, -50]], np.float32)
    found = nearest(torch.from_numpy(queries).to(device), _binned(points, 116, device), 1, False, kernels).cpu().numpy()
    for query, (chosen,) in zip(queries, found):
        away = np.linalg.norm(points[:116].astype(np.float64) - query, axis=1)
        assert away[chosen] == pytest.approx(away.min(), rel=1e-6)


def test_where_there_are_few_they_are_repeated(points: np.ndarray, kernels: bool, device: str) -> None:
    queries = torch.from_numpy(points[:3]).to(device)
    three = nearest(queries, _binned(points[:6], 3, device), NEAR, True, kernels).cpu()
    assert [set(row) for row in three.tolist()] == [{1, 2}, {0, 2}, {0, 1}]
    assert (nearest(queries[:1], _binned(points[:6], 1, device), NEAR, True, kernels) == 0).all()
    assert (nearest(queries, _binned(points[:6], 0, device), 1, False, kernels) == -1).all()
    assert nearest(queries[:0], _binned(points, 116, device), NEAR, True, kernels).shape == (0, NEAR)


PROGRAM = """
import torch
from xkd_ros.core.card import GeometryConfig
from xkd_ros.device.neighbours import sort_into_bins
from xkd_ros.device.neighbour_kernels import search_bins

points = torch.rand(40, 3)
binned = sort_into_bins(points, torch.ones(40, dtype=torch.bool), GeometryConfig())
search_bins(points, binned, 16, True)
search_bins(points, binned, 1, False)
"""


def test_the_kernel_compiles_for_a_gpu_that_is_not_here(compile_for_gpu: Callable[[str], list[list[str]]]) -> None:
    built = compile_for_gpu(PROGRAM)
    assert [row[:2] for row in built] == [["_search", "True"]] * 2 and all(len(row) == 3 for row in built)
