"""The student as an ONNX graph, in the two forms that `runtime.onnx_inputs` describes.

In: folded weights. Out: a model. Both forms share everything but the convolutions between flatten and inflate.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx

from xkd_ros.core.card import ModelCard
from xkd_ros.export.graph_builder import GraphBuilder
from xkd_ros.kernels.folding import FoldedBlock, FoldedWeights
from xkd_ros.points.cell_table import TAPS
from xkd_ros.runtime.onnx_inputs import CHUNK, OUTPUT, PLANES

Form = Literal["occupied_cells", "whole_grids"]


def build_student_graph(weights: FoldedWeights, card: ModelCard, form: Form) -> onnx.ModelProto:
    """Build one of the two graphs.

    Args:
        weights: From `kernels.folding.fold`.
        card: Number of neighbours; its hash-relevant names go into the metadata.
        form: "occupied_cells" for onnxruntime, "whole_grids" for TensorRT.
    """
    return _StudentGraph(weights, card, form).model()


class _StudentGraph:
    """Writes the forward pass, METHODS 1.3 and 1.5, operator by operator."""

    def __init__(self, weights: FoldedWeights, card: ModelCard, form: Form) -> None:
        self._weights = weights
        self._card = card
        self._form = form
        self._channels = len(weights.merge)
        self._graph = GraphBuilder()

    def model(self) -> onnx.ModelProto:
        """Write the whole graph."""
        graph, weights = self._graph, self._weights
        features = graph.input("features", np.float32, ["N", weights.point.shape[1]])
        neighbours = graph.input("neighbours", np.int64, ["N", self._card.geometry.neighbours])
        planes = [self._plane(plane) for plane in PLANES]
        tokens = self._embed(features, neighbours)
        for index, block in enumerate(weights.blocks):
            plane = planes[index % len(planes)]
            cells_of = self._mix_occupied if self._form == "occupied_cells" else self._mix_grid
            mixed = cells_of(self._normalise(tokens, block.cell_scale, block.cell_shift), plane, block)
            tokens = graph.op("Add", tokens, graph.op("Gather", mixed, plane["cell"], axis=0))
            hidden = self._activate(self._linear(self._normalise(tokens), block.linear1, block.linear1_bias))
            tokens = graph.op("Add", tokens, self._linear(hidden, block.linear2, block.linear2_bias))
        self._linear(tokens, weights.head, weights.head_bias, name=OUTPUT)
        facts = {"model": self._card.name, "form": self._form, "classes": ",".join(self._card.labels.names)}
        return graph.build("student", OUTPUT, ["N", len(weights.head)], facts)

    def _embed(self, features: str, neighbours: str) -> str:
        """Embed (N, F) features with (N, K) neighbours into (N, C) tokens."""
        graph, weights = self._graph, self._weights
        there = self._linear(features, weights.neighbour1, None)
        here = graph.op("Sub", there, graph.constant(weights.neighbour1_bias))
        columns = graph.op("Transpose", neighbours, perm=[1, 0])
        second = graph.constant(weights.neighbour2.T)
        best = ""
        # One neighbour of every point at a time: (N, C) stays in the cache, (N, K, C) would not.
        for number in range(self._card.geometry.neighbours):
            index = graph.op("Gather", columns, graph.constant(number, np.int64), axis=0)
            difference = graph.op("Sub", graph.op("Gather", there, index, axis=0), here)
            product = graph.op("MatMul", graph.op("Relu", difference), second)
            best = graph.op("Max", best, product) if best else product
        near = graph.op("MatMul", best, graph.constant(weights.merge.T))
        return graph.op("Add", self._linear(features, weights.point, weights.point_bias), near)

    def _linear(self, x: str, weight: np.ndarray, bias: np.ndarray | None, name: str | None = None) -> str:
        constants = [self._graph.constant(value) for value in (weight, bias) if value is not None]
        return self._graph.op("Gemm", x, *constants, transB=1, name=name)

    def _activate(self, x: str) -> str:
        graph = self._graph
        if self._weights.activation != "gelu":
            return graph.op("Relu", x)
        error = graph.op("Erf", graph.op("Mul", x, graph.constant(np.sqrt(0.5))))
        return graph.op("Mul", graph.op("Mul", x, graph.constant(0.5)), graph.op("Add", error, graph.constant(1.0)))

    def _normalise(self, x: str, scale: np.ndarray | None = None, shift: np.ndarray | None = None) -> str:
        """Layer norm, or what is left of a batch norm: scale and shift, which the other callers have folded away."""
        graph = self._graph
        if self._weights.layer_norm:
            ones, zeros = np.ones(self._channels), np.zeros(self._channels)
            affine = graph.constant(ones if scale is None else scale), graph.constant(zeros if shift is None else shift)
            return graph.op("LayerNormalization", x, *affine, axis=-1, epsilon=self._weights.norm_eps)
        if scale is None:
            return x
        return graph.op("Add", graph.op("Mul", x, graph.constant(scale)), graph.constant(shift))

    def _plane(self, plane: str) -> dict[str, str]:
        """Declare the inputs of one plane and compute what all blocks on it share."""
        graph = self._graph
        names = {"cell": graph.input(f"cell_{plane}", np.int64, ["N"])}
        channels = graph.integers(self._channels)
        if self._form == "occupied_cells":
            shapes: dict[str, tuple[type, list[int | str]]] = {
                "taps": (np.int64, ["E", TAPS]),
                "base": (np.float32, ["D1", 1]),
                "chunk": (np.int64, ["Q", CHUNK]),
                "chunk_weight": (np.float32, ["Q", 1, CHUNK]),
                "merge": (np.int64, ["M", "R"]),
                "merge_weight": (np.float32, ["M", 1, "R"]),
                "source": (np.int64, ["E"]),
            }
            for name, (dtype, shape) in shapes.items():
                sizes = [size if isinstance(size, int) else f"{size}_{plane}" for size in shape]
                names[name] = graph.input(f"{name}_{plane}", dtype, sizes)
            rows = self._rows(names["base"])
            names["base"] = graph.op("Expand", names["base"], graph.op("Concat", rows, channels, axis=0))  # (D + 1, C)
            for tap in range(TAPS):
                names[f"tap_{tap}"] = graph.op("Gather", names["taps"], graph.integers(tap), axis=1)  # (E, 1)
            return names
        share = graph.input(f"inverse_count_{plane}", np.float32, [f"H_{plane}", f"W_{plane}"])
        names["share"] = graph.op("Reshape", share, graph.integers(-1, 1))  # (H * W, 1)
        names["image"] = graph.op("Concat", graph.integers(1), graph.op("Shape", share), channels, axis=0)  # 1, H, W, C
        names["zeros"] = graph.op("ConstantOfShape", graph.op("Concat", self._rows(names["share"]), channels, axis=0))
        column = graph.op("Unsqueeze", names["cell"], graph.integers(1))  # (N, 1)
        names["index"] = graph.op("Expand", column, graph.op("Concat", self._rows(names["cell"]), channels, axis=0))  # (N, C)
        return names

    def _rows(self, x: str) -> str:
        return self._graph.op("Gather", self._graph.op("Shape", x), self._graph.integers(0), axis=0)

    def _mix_occupied(self, tokens: str, plane: dict[str, str], block: FoldedBlock) -> str:
        """(N, C) normalised tokens to (E, C) convolved cells, see `points.cell_table`."""
        graph = self._graph
        chunks = self._weighted_sum(tokens, plane["chunk"], plane["chunk_weight"])
        merged = self._weighted_sum(chunks, plane["merge"], plane["merge_weight"])
        cells = graph.op("Gather", graph.op("Concat", chunks, merged, axis=0), plane["source"], axis=0)
        halo = plane["base"]
        for tap in range(TAPS):
            # A cell reaches its neighbour at an offset with the weight of the opposite tap. One tap reaches each halo cell once at
            # most, which is what makes this scatter safe; only the row for "outside" is hit often, and its value does not matter.
            product = graph.op("Mul", cells, graph.constant(block.conv1[TAPS - 1 - tap]))
            halo = graph.op("ScatterND", halo, plane[f"tap_{tap}"], product, reduction="add")
        halo = self._activate(graph.op("Add", halo, graph.constant(block.conv1_bias)))
        taps = graph.op("Mul", graph.op("Gather", halo, plane["taps"], axis=0), graph.constant(block.conv2[None]))  # (E, 9, C)
        cells = graph.op("ReduceSum", taps, graph.integers(1), keepdims=0)
        return graph.op("Add", cells, graph.constant(block.conv2_bias))

    def _weighted_sum(self, rows: str, index: str, weight: str) -> str:
        """Sum (P, C) rows picked by (G, W) with weights (G, 1, W) into (G, C)."""
        graph = self._graph
        picked = graph.op("Gather", rows, index, axis=0)  # (G, W, C)
        return graph.op("Reshape", graph.op("MatMul", weight, picked), graph.integers(-1, self._channels))

    def _mix_grid(self, tokens: str, plane: dict[str, str], block: FoldedBlock) -> str:
        """(N, C) normalised tokens to the (H * W, C) convolved grid."""
        graph = self._graph
        grid = graph.op("ScatterElements", plane["zeros"], plane["index"], tokens, axis=0, reduction="add")
        grid = graph.op("Reshape", graph.op("Mul", grid, plane["share"]), plane["image"])
        grid = graph.op("Transpose", grid, perm=[0, 3, 1, 2])  # (1, C, H, W)
        grid = self._activate(self._convolve(grid, block.conv1, block.conv1_bias))
        grid = graph.op("Transpose", self._convolve(grid, block.conv2, block.conv2_bias), perm=[0, 2, 3, 1])
        return graph.op("Reshape", grid, graph.integers(-1, self._channels))

    def _convolve(self, grid: str, taps: np.ndarray, bias: np.ndarray) -> str:
        kernel = self._graph.constant(taps.T.reshape(self._channels, 1, 3, 3))
        return self._graph.op(
            "Conv", grid, kernel, self._graph.constant(bias), group=self._channels, kernel_shape=[3, 3], pads=[1, 1, 1, 1]
        )
