"""The student on one device says what the plain one says, whatever the padding, as plain torch and as Triton kernels."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from xkd_ros.core.card import NetworkConfig
from xkd_ros.core.errors import MissingPackageError, ShapeError
from xkd_ros.core.types import NetInput
from xkd_ros.device import network_plain
from xkd_ros.device.plane_table import PlaneTable, pad_table
from xkd_ros.device.student import DeviceStudent
from xkd_ros.nets.batch import collate
from xkd_ros.nets.student import Student, seeded_student
from xkd_ros.points.cell_table import make_cell_tables

Inputs = tuple[Tensor, Tensor, tuple[PlaneTable, PlaneTable, PlaneTable]]


def make_student(norm: str, activation: str, width: int, depth: int = 3, seed: int = 0) -> Student:
    """Build a student whose norms are as after training."""
    student = seeded_student(NetworkConfig(depth=depth, width=width, norm=norm, activation=activation, classes=5), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in student.state_dict().items():
            if "norm" in name and tensor.is_floating_point():
                drawn = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(drawn + 0.5 if name.endswith(("running_var", "weight")) else drawn - 0.5)
    return student.eval()


def make_inputs(scan: NetInput, device: str, spare: tuple[int, int, int] = (9, 5, 7), garbage: float = 1e3) -> Inputs:
    """Bring a scan into capacities that are a little larger; unused rows hold garbage where they may."""
    tables = make_cell_tables(scan)
    points = len(scan) + spare[0]
    cells, halo = (max(counts) + more for counts, more in zip(zip(*((t.occupied, t.halo) for t in tables)), spare[1:]))
    features = torch.full((points, 5), garbage)
    features[: len(scan)] = torch.from_numpy(scan.features)
    neighbours = torch.zeros((points, scan.neighbours.shape[1]), dtype=torch.int32)
    neighbours[: len(scan)] = torch.from_numpy(scan.neighbours)
    padded = []
    for table in tables:
        wide = pad_table(table, points, cells, halo, device)
        wide.inverse_count[table.occupied :] = garbage if math.isfinite(garbage) else 1.0
        padded.append(wide)
    return features.to(device), neighbours.to(device), tuple(padded)


def expected_logits(student: Student, scan: NetInput) -> np.ndarray:
    with torch.no_grad():
        return student.on(collate([scan])).numpy()


def logits_of(student: Student, scan: NetInput, inputs: Inputs, dtype: torch.dtype, kernels: bool) -> np.ndarray:
    model = DeviceStudent(student, dtype, inputs[0].device, kernels)
    return model.forward(*inputs)[: len(scan)].cpu().numpy()


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("width", [16, 24, 48])
def test_plain_torch_equals_the_layers(scan: NetInput, device: str, norm: str, activation: str, width: int) -> None:
    student = make_student(norm, activation, width, depth=6)
    expected = expected_logits(student, scan)
    found = logits_of(student, scan, make_inputs(scan, device), torch.float32, kernels=False)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert expected.std() > 0.05


@pytest.mark.parametrize(("norm", "activation", "width", "depth"), [("layer", "relu", 16, 3), ("batch", "gelu", 24, 4)])
def test_kernels_equal_plain_torch(
    scan: NetInput, device: str, triton_kernels: ModuleType, norm: str, activation: str, width: int, depth: int
) -> None:
    student, inputs = make_student(norm, activation, width, depth), make_inputs(scan, device)
    plain, kernels = (logits_of(student, scan, inputs, torch.float32, choice) for choice in (False, True))
    np.testing.assert_allclose(kernels, plain, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "norm", "activation", "width"), [(torch.bfloat16, "layer", "relu", 48), (torch.float16, "batch", "gelu", 16)]
)
def test_half_precision_names_the_same_classes(
    scan: NetInput, device: str, triton_kernels: ModuleType, dtype: torch.dtype, norm: str, activation: str, width: int
) -> None:
    student, inputs = make_student(norm, activation, width), make_inputs(scan, device)
    expected = expected_logits(student, scan)
    close = 4 * torch.finfo(dtype).eps * np.abs(expected).max()
    margin = np.diff(np.sort(expected, axis=1)[:, -2:], axis=1)[:, 0]
    assert (margin > 2 * close).mean() > 0.5  # or there would be nothing to agree on
    for kernels in (False, True):
        found = logits_of(student, scan, inputs, dtype, kernels)
        np.testing.assert_allclose(found, expected, atol=close)
        assert (found.argmax(1) == expected.argmax(1))[margin > 2 * close].all()


def test_tokens_beyond_float16_keep_a_batch_norm_student_alive(scan: NetInput, device: str) -> None:
    """What only the norms keep small must not pass through half precision before them."""
    student = make_student("batch", "relu", 16)
    scale = 1e6
    with torch.no_grad():
        student.backbone.embedding.merge.weight[:, :16].mul_(scale)  # the part that reads the points themselves
        student.backbone.embedding.merge.bias.mul_(scale)
        for block in [*student.backbone.spatial, *student.backbone.channel]:
            block.norm.running_mean.mul_(scale)
            block.norm.running_var.mul_(scale**2)
        student.head.weight.div_(scale)
    expected = expected_logits(student, scan)
    found = logits_of(student, scan, make_inputs(scan, device), torch.float16, kernels=False)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("kernels", [False, True])
def test_padding_changes_nothing(scan: NetInput, device: str, triton_kernels: ModuleType, kernels: bool) -> None:
    student = make_student("layer", "relu", 16, depth=1 if kernels else 3)
    few = logits_of(student, scan, make_inputs(scan, device, (0, 0, 0)), torch.float32, kernels)
    for spare, garbage in (((70, 9, 31), math.nan), ((1, 1, 1), -1e30)):
        more = logits_of(student, scan, make_inputs(scan, device, spare, garbage), torch.float32, kernels)
        np.testing.assert_allclose(more, few, atol=1e-5)


def test_the_same_scan_gives_the_same_bits(scan: NetInput, device: str, triton_kernels: ModuleType) -> None:
    inputs = make_inputs(scan, device)
    model = DeviceStudent(make_student("layer", "relu", 8, depth=1), torch.float32, device, kernels=True)
    before = inputs[0].clone()
    first, second = model.forward(*inputs), model.forward(*inputs)
    assert torch.equal(first, second) and torch.equal(inputs[0], before)


def test_shapes_depend_on_shapes_alone(scan: NetInput) -> None:
    """Tensors of the device "meta" hold no values: whoever asks for one fails."""
    features, neighbours, tables = make_inputs(scan, "cpu")
    nowhere = tuple(PlaneTable(*(value.to("meta") for value in vars(table).values())) for table in tables)
    model = DeviceStudent(make_student("layer", "gelu", 16), torch.bfloat16, "meta", kernels=False)
    logits = model.forward(features.to("meta"), neighbours.to("meta"), nowhere)
    assert logits.shape == (len(features), 5) and logits.dtype == torch.float32


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
    cell = np.array([2, 0, 2, 2, 1, *[2] * 17, 5, 5], np.int32)
    order = np.argsort(cell, kind="stable").astype(np.int32)
    bounds = np.array([0, 1, 2, 22, 22, 22], np.int32)
    share = np.array([1, 1, 1 / 20, 3, 4], np.float32)
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
    assert np.isfinite(found).all()


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


def test_a_padded_table_lists_the_same_points_and_cells(scan: NetInput) -> None:
    table = make_cell_tables(scan)[0]
    few, many, points = table.occupied, table.halo, len(scan)
    wide = pad_table(table, points + 3, few + 4, many + 2, "cpu")
    assert {value.dtype for name, value in vars(wide).items() if name != "inverse_count"} == {torch.int32}
    order, bounds, cell = wide.order.tolist(), wide.bounds.tolist(), wide.cell.tolist()
    assert sorted(order) == list(range(points + 3)) and cell[points:] == [few + 4] * 3
    for e in range(few + 4):
        assert order[bounds[e] : bounds[e + 1]] == [p for p in range(points) if cell[p] == e]
    np.testing.assert_array_equal(wide.reached[:many], np.where(table.reached == few, few + 4, table.reached))
    np.testing.assert_array_equal(wide.taps[:few], np.where(table.taps == many, many + 2, table.taps))
    assert (wide.reached[many:] == few + 4).all() and (wide.taps[few:] == many + 2).all()


@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_capacities_too_small_are_refused(scan: NetInput, lacking: int) -> None:
    table = make_cell_tables(scan)[0]
    capacities = [len(scan), table.occupied, table.halo]
    pad_table(table, *capacities, "cpu")
    capacities[lacking] -= 1
    with pytest.raises(ShapeError, match=f"{table.halo} halo cells, more than the capacities .*; ask for larger ones"):
        pad_table(table, *capacities, "cpu")


def test_kernels_without_triton_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    student = make_student("layer", "relu", 8, depth=1)
    DeviceStudent(student, torch.float32, "cpu", kernels=False)
    with pytest.raises(MissingPackageError, match="pip install triton"):
        DeviceStudent(student, torch.float32, "cpu", kernels=True)


COMPILE_ONLY = """
import numpy as np, torch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from triton.runtime.jit import JITFunction

TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.int32: "*i32", int: "i32", float: "fp32"}

def build(self, *values, grid, warmup, num_warps, **constants):
    names = [parameter.name for parameter in self.params]
    kinds = {n: TYPES[v.dtype if torch.is_tensor(v) else type(v)] for n, v in zip(names, values)}
    signature = {n: kinds.get(n, "constexpr") for n in names}
    source = ASTSource(self, signature, constexprs=constants)
    compiled = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": num_warps})
    print(self.__name__, "cubin" in compiled.asm, compiled.metadata.shared)

JITFunction.run = build
from xkd_ros.core.card import NetworkConfig
from xkd_ros.device.plane_table import pad_table
from xkd_ros.device.student import DeviceStudent
from xkd_ros.nets.student import seeded_student
from xkd_ros.points.cell_table import make_cell_table

student = DeviceStudent(seeded_student(NetworkConfig(depth=1, width=768), 0), torch.bfloat16, "cpu", kernels=True)
table = pad_table(make_cell_table(np.arange(20), (1, 4, 5)), 24, 24, 24, "cpu")
student.forward(torch.zeros(24, 5), torch.zeros(24, 16, dtype=torch.int32), (table,) * 3)
"""


def test_kernels_compile_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    """The interpreter takes programs that the compiler refuses."""
    pytest.importorskip("triton")
    root = Path(__file__).resolve().parents[2]
    python_path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": python_path, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COMPILE_ONLY], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    built = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, *_ in built] == ["_neighbour_max", "_flatten", "_convolve", "_convolve", "_inflate"]
    assert all(cubin == "True" and int(shared) < 200_000 for _, cubin, shared in built)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_graph_holds_the_whole_forward_pass(scan: NetInput, triton_kernels: ModuleType) -> None:
    features, neighbours, tables = make_inputs(scan, "cuda")
    model = DeviceStudent(make_student("layer", "relu", 48), torch.bfloat16, "cuda", kernels=True)
    other = features * 0.9
    expected = model.forward(other, neighbours, tables)[: len(scan)].clone()  # also compiles the kernels
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = model.forward(features, neighbours, tables)
    features.copy_(other)
    graph.replay()
    torch.testing.assert_close(logits[: len(scan)], expected)
