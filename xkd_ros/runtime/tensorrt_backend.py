"""The student on TensorRT 10 or later: an engine is built from student.trt.onnx once per GPU, compared with torch, and kept.

Older versions are refused: before 10.0 the parser had no ScatterElements with reduction, and ScatterND's was ignored in silence
(onnx-tensorrt #953, #957). torch provides the device memory.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from xkd_ros.core.card import ModelCard, model_file
from xkd_ros.core.errors import ModelError, XkdError, require
from xkd_ros.core.types import NetInput
from xkd_ros.runtime.backend import MIN_AGREEMENT, Backend, agreement
from xkd_ros.runtime.engine_store import EngineFacts, EngineStore, engine_folder
from xkd_ros.runtime.onnx_inputs import OUTPUT, TRT_FILE, whole_grid_inputs
from xkd_ros.runtime.probe import probe_inputs
from xkd_ros.runtime.tensorrt_builder import INSTALL, MAX_POINTS, PRECISIONS, WORKSPACE_BYTES, build_engine, logger, shape_profile, started
from xkd_ros.runtime.timing_cache import TimingCacheFile

_LOG = logging.getLogger(__name__)


class TensorRtBackend:
    """Runs one engine.

    Attributes:
        facts: What the engine is.
    """

    name = "tensorrt"

    def __init__(self, trt: Any, engine: bytes, classes: int, facts: EngineFacts) -> None:
        """Prepare an engine.

        Args:
            trt: The tensorrt module.
            engine: Serialized.
            classes: C, columns of the output.
            facts: What the engine is.
        Raises:
            ModelError: the engine belongs to another GPU or TensorRT, TensorRT does not start, or memory is short.
        """
        import torch

        self.facts = facts
        self._torch = torch
        self._classes = classes
        self._stream = torch.cuda.Stream()
        self._runtime = started(trt, trt.Runtime)  # must outlive the engine
        # Such an engine carries the runtime of the version that built it, which is code: only of engines from our own store.
        self._runtime.engine_host_code_allowed = facts.version_compatible
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise ModelError("this TensorRT engine was built for another GPU or version")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise ModelError("the GPU has no memory left for this TensorRT engine")

    @classmethod
    def load(cls, folder: str | Path, card: ModelCard, version_compatible: bool = False) -> TensorRtBackend:
        """Load the fastest engine that agrees with torch, building those that were not built on this GPU before.

        Args:
            folder, card: The model.
            version_compatible: Take and build only engines that later versions of TensorRT load too; else one that is stored will do,
                and an engine for this version alone, which may be faster, is built.
        Raises:
            MissingPackageError: tensorrt or torch is not installed.
            ModelError: no GPU, a TensorRT older than 10, a graph it cannot build, or no precision whose labels agree.
        """
        trt = require("tensorrt", "the tensorrt backend", INSTALL)
        torch = require("torch", "the tensorrt backend", "pip install torch")
        if int(trt.__version__.split(".")[0]) < 10:
            raise ModelError(f"TensorRT {trt.__version__} scatters wrongly; 10.0 or later is needed")
        if not torch.cuda.is_available():
            raise ModelError("torch finds no CUDA device, which the tensorrt backend needs for its memory")
        # Plug-ins must be registered both for building and for loading: ScatterElements with reduction is one.
        trt.init_libnvinfer_plugins(logger(trt), "")
        gpu = torch.cuda.get_device_name()
        model_file(folder, card, TRT_FILE)  # listed and whole, before a stored engine is taken for it
        refused = []
        for precision in PRECISIONS:
            wanted = EngineFacts(
                graph=card.files[TRT_FILE], precision=precision, gpu=gpu, version=trt.__version__, version_compatible=version_compatible
            )
            try:
                backend = cls._from_store(trt, wanted, folder, card) or cls._build(trt, wanted, folder, card)
            except ModelError as error:
                refused.append(f"{precision}: {error}")
                continue
            share = backend.facts.agreement
            if share >= MIN_AGREEMENT:
                return backend
            refused.append(f"{precision}: labels agree with torch on {100 * share:.2f} % of the points, {100 * MIN_AGREEMENT} % needed")
        raise ModelError("; ".join(refused))

    @classmethod
    def _from_store(cls, trt: Any, wanted: EngineFacts, folder: str | Path, card: ModelCard) -> TensorRtBackend | None:
        """Find an engine for this version, or a version-compatible one, which is compared again under every other version."""
        store = EngineStore(engine_folder())
        for kind in (wanted, wanted.model_copy(update={"version_compatible": True})):
            key = kind.key(shape_profile(card))
            stored = store.get(key)
            if stored is None:
                continue
            try:
                backend = cls(trt, stored[0], len(card.labels), stored[1])
                if stored[1].version != wanted.version:
                    backend._compare(folder, card)
                    if backend.facts.agreement < MIN_AGREEMENT:
                        raise ModelError(f"under TensorRT {wanted.version} its labels differ from torch's ({backend.facts})")
                return backend
            except ModelError as error:
                _LOG.warning("stored engine is built again: %s", error)
                store.forget(key)
        return None

    @classmethod
    def _build(cls, trt: Any, wanted: EngineFacts, folder: str | Path, card: ModelCard) -> TensorRtBackend:
        """Build an engine, measure how far it agrees with torch, and keep both."""
        _LOG.warning("building a %s TensorRT engine for %s; this takes minutes, once", wanted.precision, card.name)
        begun = time.monotonic()
        shapes = shape_profile(card)
        timings = TimingCacheFile(engine_folder(), gpu=wanted.gpu, version=wanted.version, workspace=WORKSPACE_BYTES)
        graph = model_file(folder, card, TRT_FILE).read_bytes()
        engine = build_engine(trt, graph, shapes, wanted.precision, timings, wanted.version_compatible)
        facts = wanted.model_copy(update={"built_s": time.monotonic() - begun})
        backend = cls(trt, engine, len(card.labels), facts)
        backend._compare(folder, card)
        try:
            EngineStore(engine_folder()).put(facts.key(shapes), engine, backend.facts)
        except XkdError as error:
            _LOG.warning("the engine is not kept, and built anew at every start: %s", error)
        return backend

    def _compare(self, folder: str | Path, card: ModelCard) -> None:
        """Measure how far the labels agree with torch."""
        from xkd_ros.runtime.torch_backend import TorchBackend

        inputs = probe_inputs(card)
        reference: Backend = TorchBackend.load(folder)
        share = agreement([self.infer(item) for item in inputs], [reference.infer(item) for item in inputs])
        self.facts = self.facts.model_copy(update={"agreement": share})

    def infer(self, net_input: NetInput) -> np.ndarray:
        """Return (N, C) float32 logits.

        Raises:
            ModelError: more points than the engine was built for, or the engine failed.
        """
        if len(net_input) > MAX_POINTS:
            raise ModelError(f"a scan of {len(net_input)} voxels is too large for this engine (at most {MAX_POINTS}); use larger voxels")
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
