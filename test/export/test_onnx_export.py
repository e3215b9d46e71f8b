"""What is written agrees with torch, can be read by what it is for, and nothing is written otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from xkd_ros.core.card import GeometryConfig, IntensityConfig, ModelCard, NetworkConfig, load_card
from xkd_ros.core.errors import ModelError
from xkd_ros.core.files import sha256
from xkd_ros.core.labels import LabelSet
from xkd_ros.export import onnx_export
from xkd_ros.export.onnx_export import export_onnx
from xkd_ros.export.parity import MAX_DIFFERENCE, check_inputs, compare
from xkd_ros.export.student_graph import build_student_graph
from xkd_ros.kernels.folding import fold
from xkd_ros.nets.batch import collate
from xkd_ros.nets.checkpoint import load_student, save_student
from xkd_ros.nets.student import seeded_student
from xkd_ros.runtime.onnx_inputs import ORT_FILE, TRT_FILE, occupied_cell_inputs, whole_grid_inputs
from xkd_ros.runtime.onnxruntime_backend import OnnxRuntimeBackend

# onnx/onnx-tensorrt @96e7811, docs/operators.md ("TensorRT 10.0 supports operators in the inclusive range of opset 9 to opset 20"):
# rows that say Y for float32 (and int64 where we need it). Not ScatterND with reduction: "`reduction` is not supported".
TENSORRT_OPERATORS = {
    "Add", "Concat", "ConstantOfShape", "Conv", "Erf", "Expand", "Gather", "Gemm", "LayerNormalization", "MatMul", "Max", "Mul",
    "Relu", "Reshape", "ScatterElements", "Shape", "Sub", "Transpose", "Unsqueeze",
}  # fmt: skip
LABELS = LabelSet(names=tuple("abcde"), colours=((0, 0, 0),) * 5)
GEOMETRY = GeometryConfig(fov_min_m=(-6, -6, -2), fov_max_m=(6, 6, 3), neighbours=5)


def make_card(norm: str = "layer", activation: str = "relu") -> ModelCard:
    network = NetworkConfig(depth=4, width=12, norm=norm, activation=activation, classes=5)
    return ModelCard(name="tiny", geometry=GEOMETRY, intensity=IntensityConfig(mean=80, std=40), network=network, labels=LABELS)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    card = make_card()
    save_student(seeded_student(card.network, 0), card, tmp_path / "model")
    return tmp_path / "model"


def test_export_writes_both_graphs_and_the_card_vouches_for_them(model: Path) -> None:
    report = export_onnx(model)
    card = load_card(model)
    assert set(card.files) == {"student.safetensors", ORT_FILE, TRT_FILE} == {path.name for path in model.iterdir()} - {"card.json"}
    assert all(sha256(model / name) == digest for name, digest in card.files.items())
    assert set(report.files) == {ORT_FILE, TRT_FILE} and report.card_hash == card.hash
    assert "0 of" in str(report) and ORT_FILE in str(report)
    load_student(model)  # the weights still fit the card


def test_same_weights_same_bytes(model: Path) -> None:
    export_onnx(model)
    first = load_card(model).files
    export_onnx(model)
    assert load_card(model).files == first


@pytest.mark.parametrize(("norm", "activation"), [("layer", "relu"), ("batch", "gelu")])
def test_both_forms_equal_torch(norm: str, activation: str) -> None:
    card = make_card(norm, activation)
    student = seeded_student(card.network, 1).train()
    inputs = check_inputs(card)
    with torch.no_grad():
        student.on(collate(inputs[:1]))  # running statistics of their own
    student.eval()
    for form, run in (
        ("occupied_cells", lambda content: OnnxRuntimeBackend(content, 2).infer),
        ("whole_grids", onnx_export._run_whole_grids),
    ):
        graph = build_student_graph(fold(student.arrays(), card.network), card, form)
        parity = compare(student, run(graph.SerializeToString()), inputs)
        assert parity.agrees and parity.max_difference < 1e-4, (form, parity)
        assert parity.scale > 0.05 and parity.points > 2000


def test_check_inputs_reach_the_border_and_a_single_point() -> None:
    inputs = check_inputs(make_card())
    assert min(map(len, inputs)) == 1 and max(map(len, inputs)) > 1000
    assert any(item.grids == ((48, 48), (48, 20), (48, 20)) for item in inputs)


def test_tensorrt_graph_has_only_operators_that_it_lists() -> None:
    for norm, activation in (("layer", "relu"), ("batch", "gelu")):
        card = make_card(norm, activation)
        graph = build_student_graph(fold(seeded_student(card.network, 0).arrays(), card.network), card, "whole_grids")
        assert {node.op_type for node in graph.graph.node} <= TENSORRT_OPERATORS
        assert {entry.domain: entry.version for entry in graph.opset_import} == {"": 17}
        constants = {tensor.name for tensor in graph.graph.initializer}
        for node in graph.graph.node:
            if node.op_type == "Unsqueeze":  # "`axes` must be a constant tensor"
                assert node.input[1] in constants
            if node.op_type == "Conv":  # "Weights must be an initializer"
                assert set(node.input[1:]) <= constants
        indices = [entry for entry in graph.graph.input if entry.name.startswith("cell_")]
        # The plug-in behind ScatterElements with reduction takes int64 indices.
        assert len(indices) == 3 and all(entry.type.tensor_type.elem_type == onnx.TensorProto.INT64 for entry in indices)


def test_onnxruntime_graph_never_adds_twice_to_one_place() -> None:
    """Its ScatterND adds without locks on several threads: indices of one node must be unique, but for the row "outside"."""
    card = make_card()
    graph = build_student_graph(fold(seeded_student(card.network, 0).arrays(), card.network), card, "occupied_cells").graph
    scattered = {node.input[1] for node in graph.node if node.op_type == "ScatterND"}
    columns = {
        node.output[0]: (node.input[0], int(numpy_helper.to_array(constant)[0]))
        for node in graph.node
        for constant in graph.initializer
        if node.op_type == "Gather" and node.input[0].startswith("taps_") and constant.name == node.input[1]
    }
    assert scattered == set(columns) and len(columns) == 27
    for net_input in check_inputs(card):
        arrays = occupied_cell_inputs(net_input)
        for taps, column in columns.values():
            outside = len(arrays[taps.replace("taps", "base")]) - 1
            reached = arrays[taps][:, column]
            reached = reached[reached < outside]
            assert len(np.unique(reached)) == len(reached)


def test_graph_inputs_are_what_the_runtime_feeds() -> None:
    card = make_card()
    weights = fold(seeded_student(card.network, 0).arrays(), card.network)
    for form, feed in (("occupied_cells", occupied_cell_inputs), ("whole_grids", whole_grid_inputs)):
        declared = {entry.name: entry.type.tensor_type for entry in build_student_graph(weights, card, form).graph.input}
        for net_input in check_inputs(card):
            arrays = feed(net_input)
            assert set(arrays) == set(declared)
            sizes: dict[str, int] = {}
            for name, array in arrays.items():
                assert array.dtype == onnx.helper.tensor_dtype_to_np_dtype(declared[name].elem_type), name
                assert array.ndim == len(declared[name].shape.dim)
                for size, dimension in zip(array.shape, declared[name].shape.dim):
                    wanted = sizes.setdefault(dimension.dim_param, size) if dimension.dim_param else dimension.dim_value
                    assert size == wanted, (name, array.shape)


def test_a_graph_that_disagrees_is_not_written(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in model.iterdir()}

    def slightly_wrong(weights, card, form):
        weights.head_bias[2] += 2 * MAX_DIFFERENCE if form == "whole_grids" else 0
        return build_student_graph(weights, card, form)

    monkeypatch.setattr("xkd_ros.export.student_graph.build_student_graph", slightly_wrong)
    with pytest.raises(ModelError, match=r"student\.trt\.onnx .* disagrees with torch .* nothing was written"):
        export_onnx(model)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_nan_and_flipped_labels_count_as_disagreement() -> None:
    card = make_card()
    student = seeded_student(card.network, 0).eval()
    inputs = check_inputs(card)[-1:]
    with torch.no_grad():
        truth = student.on(collate(inputs)).numpy()
    assert compare(student, lambda _: truth, inputs).agrees
    assert not compare(student, lambda _: np.full_like(truth, np.nan), inputs).agrees
    assert compare(student, lambda _: -truth, inputs).flips == len(truth)


def test_folders_that_cannot_be_exported(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        export_onnx(tmp_path / "absent")
    content = json.loads((model / "card.json").read_text())
    content["files"] = {}
    (model / "card.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"does not list student\.safetensors"):
        export_onnx(model)


@pytest.mark.parametrize(("size", "off", "agrees"), [(1.0, 2e-3, False), (350.0, 2e-3, True), (350.0, 2e-2, False)])
def test_the_limit_grows_with_logits_that_spread_wide(size: float, off: float, agrees: bool) -> None:
    card = make_card()
    student = seeded_student(card.network, 0).eval()
    inputs = check_inputs(card)[:1]
    with torch.inference_mode():
        spread = float(student.on(collate(inputs)).std())
        student.head.weight.mul_(size / spread)
        student.head.bias.mul_(size / spread)
        logits = student.on(collate(inputs)).numpy()
    logits[0, logits[0].argmin()] += off
    assert compare(student, lambda _: logits, inputs).agrees is agrees
