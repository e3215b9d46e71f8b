"""Each step of the network, in plain torch and as a Triton kernel, against loops written from its formula."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from xkd_ros.device import network_plain
from xkd_ros.device.plane_table import PlaneTable


@pytest.fixture(params=["plain", "kernels"])
def steps(request: pytest.FixtureRequest) -> ModuleType:
    return network_plain if request.param == "plain" else request.getfixturevalue("triton_kernels")


def drawn(device: str, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


@pytest.mark.parametrize(("near", "channels"), [(1, 16), (5, 48), (16, 150), (64, 24)])
def test_neighbour_max(steps: ModuleType, device: str, near: int, channels: int) -> None:
    features = drawn(device, 21, 5)
    neighbours = torch.randint(0, 21, (21, near), generator=torch.Generator().manual_seed(1)).to(device, torch.int32)
    weight1, bias1, weight2 = drawn(device, 5, channels), drawn(device, channels), drawn(device, channels, channels) / channels**0.5
    found = steps.neighbour_max(features, neighbours, weight1, bias1, weight2)
    x, index, w1, b1, w2 = (value.cpu().numpy() for value in (features, neighbours, weight1, bias1, weight2))
    for p in range(21):
        answers = [np.maximum((x[q] - x[p]) @ w1 + b1, 0) @ w2 for q in index[p]]
        np.testing.assert_allclose(found[p].cpu(), np.max(answers, axis=0), atol=1e-4)


def crowded_table(device: str) -> PlaneTable:
    """Three occupied cells of five, one with more points than a kernel takes at once, and padding."""
    cell = np.array([2, 0, 2, 2, 1, *[2] * 67, 5, 5], np.int32)
    order = np.argsort(cell, kind="stable").astype(np.int32)
    bounds = np.array([0, 1, 2, 72, 72, 72], np.int32)
    share = np.array([1, 1, 1 / 70, 3, 4], np.float32)
    empty = np.zeros((0, 9), np.int32)
    return PlaneTable(*(torch.from_numpy(part).to(device) for part in (cell, order, bounds, share, empty, empty)))


def normalised(token: np.ndarray, layer_norm: bool) -> np.ndarray:
    return (token - token.mean()) / np.sqrt(token.var() + 1e-5) if layer_norm else token


@pytest.mark.parametrize(("layer_norm", "channels"), [(True, 16), (True, 300), (False, 48)])
def test_flatten(steps: ModuleType, device: str, layer_norm: bool, channels: int) -> None:
    table = crowded_table(device)
    points = len(table.cell)
    tokens, branch = drawn(device, points, channels), drawn(device, points, channels, seed=1)
    scale, shift = drawn(device, channels, seed=2), drawn(device, channels, seed=3)
    found = steps.flatten(tokens, branch, table, scale, shift, layer_norm, 1e-5, torch.float32).cpu().numpy()
    whole, cell = (tokens + branch).cpu().numpy(), table.cell.cpu().numpy()
    for e in range(3):
        mean = sum(normalised(whole[p], layer_norm) for p in range(points) if cell[p] == e) * table.inverse_count[e].item()
        np.testing.assert_allclose(found[e], mean * scale.cpu().numpy() + shift.cpu().numpy(), atol=1e-5)


@pytest.mark.parametrize(("activation", "channels"), [("relu", 48), ("gelu", 16), ("none", 150)])
def test_convolve(steps: ModuleType, device: str, activation: str, channels: int) -> None:
    source, kernel, bias = drawn(device, 7, channels), drawn(device, 9, channels, seed=1), drawn(device, channels, seed=2)
    table = torch.randint(0, 8, (67, 9), generator=torch.Generator().manual_seed(3)).to(device, torch.int32)
    found = steps.convolve(source, table, kernel, bias, activation).cpu().numpy()
    padded, weights = np.append(source.cpu().numpy(), np.zeros((1, channels), np.float32), axis=0), kernel.cpu().numpy()
    act = {
        "relu": lambda x: np.maximum(x, 0),
        "none": lambda x: x,
        "gelu": np.vectorize(lambda x: x / 2 * (1 + math.erf(x / math.sqrt(2)))),
    }
    for r, row in enumerate(table.cpu().numpy()):
        total = bias.cpu().numpy() + sum(padded[row[t]] * weights[t] for t in range(9))
        np.testing.assert_allclose(found[r], act[activation](total), atol=1e-5)


@pytest.mark.parametrize(("layer_norm", "channels"), [(True, 16), (True, 300), (False, 48)])
def test_inflate(steps: ModuleType, device: str, layer_norm: bool, channels: int) -> None:
    cell = crowded_table(device).cell
    tokens, branch = drawn(device, len(cell), channels), drawn(device, len(cell), channels, seed=1)
    mixed, scale, shift = drawn(device, 5, channels, seed=2), drawn(device, channels, seed=3), drawn(device, channels, seed=4)
    before = tokens.cpu().numpy().copy()
    found = steps.inflate(tokens, branch, mixed, cell, scale, shift, layer_norm, 1e-5).cpu().numpy()
    rows = np.append(mixed.cpu().numpy(), np.zeros((1, channels), np.float32), axis=0)
    for p, e in enumerate(cell.tolist()):
        token = before[p] + branch[p].cpu().numpy() + rows[e]
        np.testing.assert_allclose(tokens[p].cpu(), token, atol=1e-5)
        np.testing.assert_allclose(found[p], normalised(token, layer_norm) * scale.cpu().numpy() + shift.cpu().numpy(), atol=1e-5)
