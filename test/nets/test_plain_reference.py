"""The whole forward pass once more, in explicit loops and float64, written from METHODS 1.3 to 1.5 and not from our code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from xkd_ros.core.types import NetInput
from xkd_ros.nets.batch import collate
from xkd_ros.nets.student import Student

State = dict[str, np.ndarray]


def batch_norm(x: np.ndarray, w: State, name: str) -> np.ndarray:
    standard = (x - w[f"{name}.running_mean"]) / np.sqrt(w[f"{name}.running_var"] + 1e-5)
    return standard * w[f"{name}.weight"] + w[f"{name}.bias"]


def block_norm(x: np.ndarray, w: State, name: str) -> np.ndarray:
    if f"{name}.running_mean" in w:
        return batch_norm(x, w, name)
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def activate(x: np.ndarray, kind: str) -> np.ndarray:
    if kind == "relu":
        return np.maximum(x, 0)
    return np.array([0.5 * value * (1 + math.erf(value / math.sqrt(2))) for value in x.flat]).reshape(x.shape)


def embed(scan: NetInput, w: State) -> list[np.ndarray]:
    e = "backbone.embedding"
    x = [batch_norm(row, w, f"{e}.norm") for row in scan.features.astype(float)]
    tokens = []
    for point, neighbours in zip(range(len(x)), scan.neighbours):
        own = w[f"{e}.point.weight"] @ x[point] + w[f"{e}.point.bias"]
        around = []
        for other in neighbours:
            d = batch_norm(x[other] - x[point], w, f"{e}.difference_norm")
            h = batch_norm(w[f"{e}.difference.weight"] @ d, w, f"{e}.hidden_norm")
            around.append(w[f"{e}.neighbour.weight"] @ np.maximum(h, 0))
        near = np.max(around, axis=0)
        tokens.append(w[f"{e}.merge.weight"] @ np.concatenate([own, near]) + w[f"{e}.merge.bias"])
    return tokens


def convolve(grid: np.ndarray, w: State, name: str) -> np.ndarray:
    height, width, _ = grid.shape
    out = np.zeros_like(grid)
    for i in range(height):
        for j in range(width):
            out[i, j] = w[f"{name}.bias"]
            for di in (-1, 0, 1):
                for dj in (-1, 0, 1):
                    if 0 <= i + di < height and 0 <= j + dj < width:
                        out[i, j] += w[f"{name}.weight"][:, 0, di + 1, dj + 1] * grid[i + di, j + dj]
    return out


def plain_forward(student: Student, scan: NetInput) -> np.ndarray:
    w = {key: value.double().numpy() for key, value in student.state_dict().items()}
    network = student.network
    tokens = embed(scan, w)
    for layer in range(network.depth):
        plane, s, c = layer % 3, f"backbone.spatial.{layer}", f"backbone.channel.{layer}"
        height, width = scan.grids[plane]
        grid, count = np.zeros((height, width, network.width)), np.zeros((height, width))
        where = [divmod(int(cell), width) for cell in scan.cells[plane]]
        for at, token in zip(where, tokens):
            grid[at] += block_norm(token, w, f"{s}.norm")
            count[at] += 1
        grid = grid / (count + 1e-6)[..., None]
        grid = convolve(activate(convolve(grid, w, f"{s}.conv1"), network.activation), w, f"{s}.conv2")
        tokens = [token + w[f"{s}.scale"] * grid[at] for at, token in zip(where, tokens)]
        for point, token in enumerate(tokens):
            normal = block_norm(token, w, f"{c}.norm")
            hidden = activate(w[f"{c}.linear1.weight"] @ normal + w[f"{c}.linear1.bias"], network.activation)
            tokens[point] = token + w[f"{c}.scale"] * (w[f"{c}.linear2.weight"] @ hidden + w[f"{c}.linear2.bias"])
    return np.array([w["head.weight"] @ token + w["head.bias"] for token in tokens])


@pytest.mark.parametrize(("norm", "activation"), [("layer", "relu"), ("batch", "relu"), ("layer", "gelu")])
def test_student_equals_the_plain_loops(make_scan, make_student, norm: str, activation: str) -> None:
    student, scan = make_student(norm=norm, activation=activation), make_scan(8, 90)
    expected = plain_forward(student, scan)
    with torch.no_grad():
        got = student.on(collate([scan])).numpy()
    assert expected.std() > 0.05
    np.testing.assert_allclose(got, expected, atol=5e-5)
