"""The student on TensorRT 10: an engine is built from student.trt.onnx once per GPU, compared with torch, and kept.

Older versions are refused: before 10.0 the parser had no ScatterElements with reduction, and ScatterND's was ignored in silence
(onnx-tensorrt #953, #957). torch provides the device memory.

Source: the Python API of TensorRT 10 (docs.nvidia.com/deeplearning/tensorrt); signatures checked against the wheels of 10.16.1 by
test/runtime/test_tensorrt_signatures.py.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from xkd_ros.core.card import ModelCard, model_file
from xkd_ros.core.errors import ModelError, require
from xkd_ros.core.types import NetInput
from xkd_ros.points.grid import full_grids
from xkd_ros.runtime.backend import MIN_AGREEMENT, agreement
from xkd_ros.runtime.engine_store import EngineStore, engine_key
from xkd_ros.runtime.machine import cache_folder
from xkd_ros.runtime.onnx_inputs import OUTPUT, PLANES, TRT_FILE, whole_grid_inputs
from xkd_ros.runtime.probe import probe_inputs

_LOG = logging.getLogger(__name__)

_FLAGS = {"float16": "FP16", "bfloat16": "BF16", "float32": None}
"""Precisions in the order in which they are tried, and the builder flag of each."""
_MAX_POINTS = 60_000
_WORKSPACE_BYTES = 2 << 30
Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


class TensorRtBackend:
    """Runs one engine."""

    name = "tensorrt"

    def __init__(self, trt: Any, engine: bytes, classes: int) -> None:
        """Prepare an engine.

        Args:
            trt: The tensorrt module.
            engine: Serialized.
            classes: C, columns of the output.
        Raises:
            ModelError: the engine belongs to another GPU or TensorRT.
        """
        import torch

        self._torch = torch
        self._classes = classes
        self._stream = torch.cuda.Stream()
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))  # must outlive the engine
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise ModelError("this TensorRT engine was built for another GPU or version")
        self._context = self._engine.create_execution_context()

    @classmethod
    def load(cls, folder: str | Path, card: ModelCard) -> TensorRtBackend:
        """Load the fastest engine that agrees with torch, building those that were not built on this GPU before.

        Raises:
            MissingPackageError: tensorrt or torch is not installed.
            ModelError: no GPU, a TensorRT older than 10, a graph it cannot build, or no precision whose labels agree.
        """
        trt = require("tensorrt", "the tensorrt backend", "pip install tensorrt")
        torch = require("torch", "the tensorrt backend", "pip install torch")
        if int(trt.__version__.split(".")[0]) < 10:
            raise ModelError(f"TensorRT {trt.__version__} scatters wrongly; 10.0 or later is needed")
        if not torch.cuda.is_available():
            raise ModelError("torch finds no CUDA device, which the tensorrt backend needs for its memory")
        # Plug-ins must be registered both for building and for loading: ScatterElements with reduction is one.
        trt.init_libnvinfer_plugins(trt.Logger(trt.Logger.WARNING), "")
        graph = model_file(folder, card, TRT_FILE).read_bytes()
        shapes = shape_profile(card)
        store = EngineStore(cache_folder() / "engines")
        refused = []
        for precision in _FLAGS:
            key = engine_key(
                graph=card.files[TRT_FILE], precision=precision, shapes=shapes, gpu=torch.cuda.get_device_name(), version=trt.__version__
            )
            try:
                backend, share = cls._from_store(trt, store, key, card) or cls._build(
                    trt, store, key, graph, shapes, precision, folder, card
                )
            except ModelError as error:
                refused.append(f"{precision}: {error}")
                continue
            if share >= MIN_AGREEMENT:
                return backend
            refused.append(f"{precision}: labels agree with torch on {100 * share:.2f} % of the points, {100 * MIN_AGREEMENT} % needed")
        raise ModelError("; ".join(refused))

    @classmethod
    def _from_store(cls, trt: Any, store: EngineStore, key: str, card: ModelCard) -> tuple[TensorRtBackend, float] | None:
        stored = store.get(key)
        if stored is None:
            return None
        try:
            return cls(trt, stored[0], len(card.labels)), stored[1]
        except ModelError as error:
            _LOG.warning("stored engine is built again: %s", error)
            store.forget(key)
            return None

    @classmethod
    def _build(
        cls, trt: Any, store: EngineStore, key: str, graph: bytes, shapes: Shapes, precision: str, folder: str | Path, card: ModelCard
    ) -> tuple[TensorRtBackend, float]:
        """Build an engine, measure how far it agrees with torch, and keep both."""
        from xkd_ros.runtime.torch_backend import TorchBackend

        _LOG.warning("building a %s TensorRT engine for %s; this takes minutes, once", precision, card.name)
        engine = build_engine(trt, graph, shapes, precision)
        backend = cls(trt, engine, len(card.labels))
        inputs = probe_inputs(card)
        reference = TorchBackend.load(folder)
        share = agreement([backend.infer(item) for item in inputs], [reference.infer(item) for item in inputs])
        store.put(key, engine, share)
        return backend, share

    def infer(self, net_input: NetInput) -> np.ndarray:
        """Return (N, C) float32 logits.

        Raises:
            ModelError: more points than the engine was built for, or the engine failed.
        """
        if len(net_input) > _MAX_POINTS:
            raise ModelError(f"a scan of {len(net_input)} voxels is too large for this engine (at most {_MAX_POINTS}); use larger voxels")
        torch, context = self._torch, self._context
        with torch.cuda.stream(self._stream):
            arrays = whole_grid_inputs(net_input)
            held = {name: torch.from_numpy(np.ascontiguousarray(array)).to("cuda") for name, array in arrays.items()}
            logits = held[OUTPUT] = torch.empty(len(net_input), self._classes, device="cuda")
            accepted = [context.set_input_shape(name, tuple(array.shape)) for name, array in arrays.items()]
            accepted += [context.set_tensor_address(name, tensor.data_ptr()) for name, tensor in held.items()]
            if not all(accepted) or not context.execute_async_v3(self._stream.cuda_stream):
                raise ModelError(f"the TensorRT engine rejected a scan of {len(net_input)} voxels on grids {net_input.grids}")
            self._stream.synchronize()
            return logits.cpu().numpy()


def shape_profile(card: ModelCard) -> Shapes:
    """Smallest, usual and largest shape of each input of student.trt.onnx."""
    counts = (1, 8000, _MAX_POINTS)
    neighbours = card.geometry.neighbours
    shapes: dict[str, Any] = {"features": tuple((n, 5) for n in counts), "neighbours": tuple((n, neighbours) for n in counts)}
    for plane, (height, width) in zip(PLANES, full_grids(card.geometry)):
        shapes[f"cell_{plane}"] = tuple((n,) for n in counts)
        shapes[f"inverse_count_{plane}"] = ((1, 1), (max(1, height // 2), max(1, width // 2)), (height, width))
    return shapes


def build_engine(trt: Any, graph: bytes, shapes: Shapes, precision: str) -> bytes:
    """Compile an ONNX graph for this GPU.

    Args:
        trt: The tensorrt module.
        graph: student.trt.onnx.
        shapes: From `shape_profile`.
        precision: "float16" and "bfloat16" allow it, layer by layer; inputs and outputs stay float32.
    Raises:
        ModelError: TensorRT cannot read or compile the graph, or has no such precision.
    """
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network()
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        problems = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise ModelError(f"TensorRT {trt.__version__} cannot read {TRT_FILE}: {problems}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    flag = _FLAGS[precision]
    if flag is not None:
        if not hasattr(trt.BuilderFlag, flag):
            raise ModelError(f"TensorRT {trt.__version__} no longer lowers the precision of a float32 graph")
        config.set_flag(getattr(trt.BuilderFlag, flag))
    profile = builder.create_optimization_profile()
    for name, (smallest, usual, largest) in shapes.items():
        profile.set_shape(name, smallest, usual, largest)
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ModelError(f"TensorRT {trt.__version__} cannot compile {TRT_FILE}; its log says why")
    return bytes(engine)
