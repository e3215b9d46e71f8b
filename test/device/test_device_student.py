"""The student on one device says what the plain one says, whatever the padding, as plain torch and as Triton kernels."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from xkd_ros.core.card import NetworkConfig
from xkd_ros.core.errors import MissingPackageError
from xkd_ros.core.types import NetInput
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


def test_kernels_without_triton_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    student = make_student("layer", "relu", 8, depth=1)
    DeviceStudent(student, torch.float32, "cpu", kernels=False)
    with pytest.raises(MissingPackageError, match="pip install triton"):
        DeviceStudent(student, torch.float32, "cpu", kernels=True)


COMPILE_ONLY = """
import numpy as np, torch
from xkd_ros.core.card import NetworkConfig
from xkd_ros.device.plane_table import pad_table
from xkd_ros.device.student import DeviceStudent
from xkd_ros.nets.student import seeded_student
from xkd_ros.points.cell_table import make_cell_table

student = DeviceStudent(seeded_student(NetworkConfig(depth=1, width=768), 0), torch.bfloat16, "cpu", kernels=True)
table = pad_table(make_cell_table(np.arange(20), (1, 4, 5)), 24, 24, 24, "cpu")
student.forward(torch.zeros(24, 5), torch.zeros(24, 16, dtype=torch.int32), (table,) * 3)
"""


def test_kernels_compile_for_a_gpu_that_is_not_here(compile_for_gpu: Callable[[str], list[list[str]]]) -> None:
    """The interpreter takes programs that the compiler refuses."""
    built = compile_for_gpu(COMPILE_ONLY)
    assert [name for name, *_ in built] == ["_neighbour_max", "_flatten", "_convolve", "_convolve", "_inflate"]
    assert all(cubin == "True" and int(shared) < 200_000 and not again for _, cubin, shared, *again in built)


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
