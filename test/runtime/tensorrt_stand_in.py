"""Stands in for TensorRT, which needs a GPU: it "compiles" a graph into a line that says how, and the graph, which onnxruntime runs."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np

from xkd_ros.core.errors import ModelError
from xkd_ros.core.types import NetInput
from xkd_ros.runtime.engine_store import EngineFacts
from xkd_ros.runtime.onnx_inputs import OUTPUT, whole_grid_inputs
from xkd_ros.runtime.tensorrt_backend import TensorRtBackend


class TensorRt:
    """Stands in for the module; signatures as in test_tensorrt_signatures.py.

    Attributes:
        wrong: Builder flags whose engines answer wrongly; "" for an engine without one.
        built: Flags of every engine that was built.
        offered: Times that each builder was handed.
        device: What the times belong to.
        loggers: All that were made.
        starts: Whether the driver fits.
    """

    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")

    def __init__(self, version: str = "10.16.1.11", typed: bool = False) -> None:
        self.__version__ = version
        names = ["VERSION_COMPATIBLE"] if typed else ["FP16", "BF16", "VERSION_COMPATIBLE"]
        self.BuilderFlag = SimpleNamespace(**{name: name for name in names})
        self.loggers: list[Any] = []
        self.Logger: Any = lambda severity: self.loggers.append(SimpleNamespace()) or self.loggers[-1]
        self.Logger.WARNING = 1
        self.starts = True
        self.wrong: set[str] = set()
        self.built: list[tuple[str, ...]] = []
        self.offered: list[bytes] = []
        self.device = b"a GPU"

    def init_libnvinfer_plugins(self, logger: None, namespace: str) -> bool:
        return True

    def Builder(self, logger: Any) -> Builder:
        if not self.starts:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return Builder(self)

    def OnnxParser(self, network: dict[str, bytes], logger: None) -> Any:
        return SimpleNamespace(parse=lambda model: bool(network.update(graph=model) or True))


class Builder:
    def __init__(self, trt: TensorRt) -> None:
        self._trt = trt

    def create_network(self) -> dict[str, bytes]:
        return {}

    def create_builder_config(self) -> Config:
        return Config(self._trt)

    def create_optimization_profile(self) -> Any:
        return SimpleNamespace(set_shape=lambda input, min, opt, max: None)

    def build_serialized_network(self, network: dict[str, bytes], config: Config) -> bytes:
        self._trt.built.append(tuple(config.flags))
        assert config.cache is not None
        config.cache.content += b"+"
        wrong = bool(self._trt.wrong & ({*config.flags} or {""}))
        how = {"version": self._trt.__version__, "compatible": "VERSION_COMPATIBLE" in config.flags, "wrong": wrong}
        return json.dumps(how).encode() + b"\n" + network["graph"]


class Config:
    def __init__(self, trt: TensorRt) -> None:
        self._trt, self.flags, self.cache = trt, list[str](), None

    def set_memory_pool_limit(self, pool: str, pool_size: int) -> None:
        assert pool_size > 0

    def set_flag(self, flag: str) -> None:
        self.flags.append(flag)

    def add_optimization_profile(self, profile: Any) -> int:
        return 0

    def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
        self._trt.offered.append(serialized_timing_cache)
        cache = SimpleNamespace(content=serialized_timing_cache or self._trt.device)
        cache.serialize = lambda: cache.content
        return cache

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        accepted = bool(cache.content.startswith(self._trt.device))
        self.cache = cache if accepted else self.cache
        return accepted

    def get_timing_cache(self) -> Any:
        return self.cache


class OnCpu(TensorRtBackend):
    """Loads what the stand-in built, and refuses what TensorRT would refuse."""

    def __init__(self, trt: TensorRt, engine: bytes, classes: int, facts: EngineFacts) -> None:
        import onnxruntime

        self.facts = facts
        line, graph = engine.split(b"\n", 1)
        how = json.loads(line)
        older = how["compatible"] and facts.version_compatible and as_numbers(how["version"]) < as_numbers(trt.__version__)
        if how["version"] != trt.__version__ and not older:
            raise ModelError("this TensorRT engine was built for another GPU or version")
        self._sign = -1 if how["wrong"] or (older and "later" in trt.wrong) else 1
        self._session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def infer(self, net_input: NetInput) -> np.ndarray:
        return self._sign * self._session.run([OUTPUT], whole_grid_inputs(net_input))[0]


def as_numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
