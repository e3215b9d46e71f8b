"""A thin layer over `onnx.helper` so that a network reads like a formula: every operator call returns the name of its output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17  # LayerNormalization is an operator since 17; TensorRT 10.0 reads 9 to 20, onnxruntime 1.12 and later reads 17
IR_VERSION = 8
_TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}


class GraphBuilder:
    """Collects nodes, constants, inputs and outputs."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[bytes, str] = {}
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dtype: type, shape: Sequence[int | str]) -> str:
        """Declare an input; letters in the shape vary from scan to scan."""
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[np.dtype(dtype)], list(shape)))
        return name

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        """Store an array, or find the one stored before."""
        array: np.ndarray = np.asarray(value).astype(dtype, order="C")
        key = repr((array.shape, array.dtype)).encode() + array.tobytes()
        if key not in self._constants:
            self._constants[key] = name = f"constant_{len(self._constants)}"
            self._initializers.append(numpy_helper.from_array(array, name))
        return self._constants[key]

    def integers(self, *values: int) -> str:
        """Store a list of int64."""
        return self.constant(values, np.int64)

    def op(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Append an operator with one output and return the name of that."""
        output = name or f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def build(self, name: str, output: str, shape: Sequence[int | str], facts: dict[str, str]) -> onnx.ModelProto:
        """Finish a model with one float32 output, checked by onnx itself; `facts` become its metadata."""
        outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, list(shape))]
        graph = helper.make_graph(self._nodes, name, self._inputs, outputs, self._initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="xkd_ros")
        helper.set_model_props(model, facts)
        onnx.checker.check_model(model, full_check=True)
        return model
