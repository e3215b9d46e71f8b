"""Every TensorRT call that we make exists, with those parameters, in the real package.

TensorRT's builder needs a GPU, but the wheels carry the true classes with their signatures. The small one of bindings is enough:
`pip install tensorrt-cu13-bindings==10.16.1.11` (or 11.4.0.106); the C functions of the libraries behind it, which only a GPU could
call, are stood in for.
"""

from __future__ import annotations

import ast
import ctypes
import importlib
import importlib.util
import inspect
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from xkd_ros.runtime import tensorrt_backend, tensorrt_builder

PACKAGES = ("tensorrt", "tensorrt_bindings", "tensorrt_lean_bindings")
# What a name in our source is there, and the parameters we pass (builder classes are absent from the lean package).
CALLS = {
    "Logger": {"__init__": ["min_severity"]},
    "Runtime": {"__init__": ["logger"], "deserialize_cuda_engine": ["serialized_engine"]},
    "ICudaEngine": {"create_execution_context": []},
    "IExecutionContext": {
        "set_input_shape": ["name", "shape"],
        "set_tensor_address": ["name", "memory"],
        "execute_async_v3": ["stream_handle"],
    },
    "IOptimizationProfile": {"set_shape": ["input", "min", "opt", "max"]},
    "Builder": {
        "__init__": ["logger"],
        "create_network": [],
        "create_builder_config": [],
        "create_optimization_profile": [],
        "build_serialized_network": ["network", "config"],
    },
    "OnnxParser": {"__init__": ["network", "logger"], "parse": ["model"], "get_error": ["index"]},
    "IBuilderConfig": {
        "set_memory_pool_limit": ["pool", "pool_size"],
        "set_flag": ["flag"],
        "add_optimization_profile": ["profile"],
        "create_timing_cache": ["serialized_timing_cache"],
        "set_timing_cache": ["cache", "ignore_mismatch"],
        "get_timing_cache": [],
    },
    "ITimingCache": {"serialize": []},
}
PROPERTIES = {"OnnxParser": ["num_errors"], "Runtime": ["engine_host_code_allowed"]}
CONSTANTS = {"BuilderFlag": ["VERSION_COMPATIBLE"], "MemoryPoolType": ["WORKSPACE"]}
VARIABLES = {
    "_runtime": "Runtime",
    "_engine": "ICudaEngine",
    "context": "IExecutionContext",
    "profile": "IOptimizationProfile",
    "builder": "Builder",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "measured": "ITimingCache",
}
BEHIND = (
    "createInferBuilder_INTERNAL createInferRefitter_INTERNAL createInferRuntime_INTERNAL createNvOnnxParserRefitter_INTERNAL"
    " createNvOnnxParser_INTERNAL getBuilderPluginRegistry getNvOnnxParserVersion getPluginRegistry initLibNvInferPlugins"
)


@pytest.fixture(scope="module")
def trt(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    for name in PACKAGES:
        if importlib.util.find_spec(name) is not None:
            return import_bindings(name, tmp_path_factory.mktemp("libraries"))
    pytest.skip(f"none of {', '.join(PACKAGES)} is installed")


def import_bindings(name: str, folder: Path) -> ModuleType:
    """Import a package, with a stand-in for every library that it misses."""
    source = folder / "behind.c"
    source.write_text("".join(f"void *{function}(void) {{ return 0; }}\n" for function in BEHIND.split()))
    while True:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            missing = re.match(r"(lib\w+\.so\.\d+): cannot open", str(error))
            if missing is None or shutil.which("cc") is None:
                pytest.skip(f"{name} cannot be imported: {error}")
            library = folder / missing[1]
            subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{missing[1]}", "-o", library, source], check=True)
            ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)


def nodes() -> list[ast.AST]:
    return [node for module in (tensorrt_backend, tensorrt_builder) for node in ast.walk(ast.parse(inspect.getsource(module)))]


def test_the_table_covers_every_call_in_our_source() -> None:
    """Needs no package: a call that is added without being checked fails here."""
    used: dict[str, set[str]] = {}
    created: set[str] = set()
    for node in nodes():
        if isinstance(node, ast.Attribute):
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if owner in VARIABLES:
                used.setdefault(VARIABLES[owner], set()).add(node.attr)
            elif owner == "trt":
                created.add(node.attr)
    expected = {name: (set(methods) | set(PROPERTIES.get(name, []))) - {"__init__"} for name, methods in CALLS.items()}
    assert used == {name: methods for name, methods in expected.items() if methods}
    assert created == {
        "Logger",
        "Runtime",
        "Builder",
        "OnnxParser",
        "MemoryPoolType",
        "BuilderFlag",
        "init_libnvinfer_plugins",
        "__version__",
    }


def test_real_classes_have_these_methods_and_parameters(trt: ModuleType) -> None:
    assert int(trt.__version__.split(".")[0]) >= 10
    lean = not hasattr(trt, "Builder")
    checked = 0
    for name, methods in CALLS.items():
        if lean and name in ("Builder", "OnnxParser", "IBuilderConfig", "ITimingCache"):
            continue
        for method, parameters in methods.items():
            documentation = getattr(getattr(trt, name), method).__doc__
            # Each overload is one line: method(self: C, a: T, b: T = default) -> R
            overloads = re.findall(rf"^(?:\d+\. )?{method}\(self: [\w.]+(.*)\) ->", documentation, re.MULTILINE)
            accepted = [re.findall(r", (\w+): [^=,]+(\s*=)?", text) for text in overloads]
            assert any(
                [parameter for parameter, _ in found[: len(parameters)]] == parameters
                and all(default for _, default in found[len(parameters) :])
                for found in accepted
            ), (name, method, overloads)
            checked += 1
        for attribute in PROPERTIES.get(name, []):
            assert isinstance(inspect.getattr_static(getattr(trt, name), attribute), property)
    assert inspect.getattr_static(trt.Runtime, "engine_host_code_allowed").fset is not None
    for name, members in CONSTANTS.items():
        assert set(members) <= set(getattr(trt, name).__members__)
    flags = {flag for flag in tensorrt_builder.PRECISIONS.values() if flag is not None}
    assert flags & set(trt.BuilderFlag.__members__) == (flags if int(trt.__version__.split(".")[0]) < 11 else set())
    assert trt.Logger.WARNING is not None
    assert lean or callable(trt.init_libnvinfer_plugins)
    assert checked >= 8
