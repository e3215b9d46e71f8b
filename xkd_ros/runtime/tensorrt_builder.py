"""student.trt.onnx in, a TensorRT engine for this GPU out; next: `tensorrt_backend`, which runs it.

Source: the Python API of TensorRT 10 and 11 (docs.nvidia.com/deeplearning/tensorrt); signatures checked against the wheels of 10.16.1
and 11.4.0 by test/runtime/test_tensorrt_signatures.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from xkd_ros.core.card import ModelCard
from xkd_ros.core.errors import ModelError
from xkd_ros.points.grid import full_grids
from xkd_ros.runtime.onnx_inputs import PLANES, TRT_FILE
from xkd_ros.runtime.timing_cache import TimingCacheFile

INSTALL = "pip install 'tensorrt>=10,<11'"
"""11 builds only float32 engines of our graph, see `build_engine`."""
PRECISIONS = {"float16": "FP16", "bfloat16": "BF16", "float32": None}
"""Precisions in the order in which they are tried, and the builder flag of each."""
MAX_POINTS = 60_000
WORKSPACE_BYTES = 2 << 30
Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


@cache
def logger(trt: Any) -> Any:
    """Make the one logger of a process: TensorRT's plug-ins keep a bare pointer to it, so it must never be freed."""
    return trt.Logger(trt.Logger.WARNING)


def started(trt: Any, kind: Callable[[Any], Any]) -> Any:
    """Make a Builder or a Runtime.

    Raises:
        ModelError: TensorRT does not run with this driver.
    """
    try:
        return kind(logger(trt))
    except TypeError as error:  # what pybind makes of a factory that returns nothing
        raise ModelError(
            f"TensorRT {trt.__version__} does not start: it was made for another CUDA than the driver's ({error}); nvidia-smi shows the "
            "driver's, and tensorrt-cu12 or tensorrt-cu13 on PyPI are for one each"
        ) from error


def shape_profile(card: ModelCard) -> Shapes:
    """Smallest, usual and largest shape of each input of student.trt.onnx."""
    counts = (1, 8000, MAX_POINTS)
    neighbours = card.geometry.neighbours
    shapes: dict[str, Any] = {"features": tuple((n, 5) for n in counts), "neighbours": tuple((n, neighbours) for n in counts)}
    for plane, (height, width) in zip(PLANES, full_grids(card.geometry)):
        shapes[f"cell_{plane}"] = tuple((n,) for n in counts)
        shapes[f"inverse_count_{plane}"] = ((1, 1), (max(1, height // 2), max(1, width // 2)), (height, width))
    return shapes


def build_engine(
    trt: Any, graph: bytes, shapes: Shapes, precision: str, timings: TimingCacheFile, version_compatible: bool = False
) -> bytes:
    """Compile an ONNX graph for this GPU.

    Args:
        trt: The tensorrt module.
        graph: student.trt.onnx.
        shapes: From `shape_profile`.
        precision: "float16" and "bfloat16" allow it, layer by layer; inputs and outputs stay float32.
        timings: Read before, written after.
        version_compatible: Let later versions of TensorRT load it; it then carries a runtime of its own.
    Raises:
        ModelError: TensorRT cannot read or compile the graph, or has no such precision.
    """
    flag = PRECISIONS[precision]
    if flag is not None and not hasattr(trt.BuilderFlag, flag):
        # 11.0 removed the flags: every tensor has the type that the graph gives it, and ours is float32.
        raise ModelError(f"TensorRT {trt.__version__} builds only float32 engines of this graph; for others: {INSTALL}")
    builder = started(trt, trt.Builder)
    network = builder.create_network()
    parser = trt.OnnxParser(network, logger(trt))
    if not parser.parse(graph):
        problems = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise ModelError(f"TensorRT {trt.__version__} cannot read {TRT_FILE}: {problems}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    if flag is not None:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    profile = builder.create_optimization_profile()
    for name, (smallest, usual, largest) in shapes.items():
        profile.set_shape(name, smallest, usual, largest)
    config.add_optimization_profile(profile)
    _attach(config, timings.read())
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ModelError(f"TensorRT {trt.__version__} cannot compile {TRT_FILE}; its log says why")
    measured = config.get_timing_cache()
    if measured is not None:
        timings.write(bytes(measured.serialize()))
    return bytes(engine)


def _attach(config: Any, content: bytes) -> None:
    """Hand TensorRT the kept times, or new ones where it refuses them (made on another GPU or by another version)."""
    for kept in (content, b""):
        cache = config.create_timing_cache(kept)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return
