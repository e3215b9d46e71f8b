"""Small scans, and Triton on machines without a GPU: its interpreter runs kernels step by step on tensors of the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from xkd_ros.core.card import GeometryConfig, IntensityConfig
from xkd_ros.core.types import NetInput
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.runtime.probe import make_room_scan

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GEOMETRY = GeometryConfig(fov_min_m=(-6, -6, -2), fov_max_m=(6, 6, 3), voxel_m=0.5, cell_m=0.5, neighbours=5)
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported and when kernels are made


@pytest.fixture(scope="session")
def device() -> str:
    return DEVICE


@pytest.fixture(scope="session")
def scan() -> NetInput:
    """A scan of a room, thinned to some 150 voxels: the interpreter takes milliseconds per program."""
    points, intensity = make_room_scan(5, 16, 32, 7.0)
    return Preprocessor(GEOMETRY, IntensityConfig(mean=80, std=40), threads=1)(points, intensity)


@pytest.fixture(scope="session")
def triton_kernels() -> ModuleType:
    """The module of kernels, on the GPU or in the interpreter."""
    triton = pytest.importorskip("triton")
    if DEVICE == "cpu":
        from triton.runtime import interpreter

        if not isinstance(triton.language.sum, interpreter.InterpretedFunction):
            pytest.skip("triton was imported before it could be told to interpret")
        _mend_products(interpreter)
    from xkd_ros.device import network_kernels

    return network_kernels


def _mend_products(interpreter: Any) -> None:
    """Let the interpreter multiply values: it keeps bfloat16 as bits (uint16) and hands those to numpy."""
    original = interpreter.InterpreterBuilder.create_dot

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return original(self, _widened(a), _widened(b), *rest)

    def _widened(handle: Any) -> Any:
        if handle.data.dtype != np.uint16:
            return handle
        bits = np.ascontiguousarray(handle.data).astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), interpreter.tl.float32)

    interpreter.InterpreterBuilder.create_dot = create_dot


COMPILER = """
import numpy as np, torch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from triton.runtime.jit import JITFunction

TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.int32: "*i32"}
TYPES |= {bool: "i1", int: "i32", float: "fp32"}

def build(self, *values, grid, warmup, num_warps, **constants):
    names = [parameter.name for parameter in self.params]
    kinds = {n: TYPES[v.dtype if torch.is_tensor(v) else type(v)] for n, v in zip(names, values)}
    signature = {n: kinds.get(n, "constexpr") for n in names}
    source = ASTSource(self, signature, constexprs=constants)
    compiled = compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": num_warps})
    again = [p.name for p in self.params if kinds.get(p.name) == "i32" and not p.do_not_specialize]
    print(self.__name__, "cubin" in compiled.asm, compiled.metadata.shared, *again)

JITFunction.run = build
"""
"""Kernels that are launched after this are compiled for compute capability 9.0 instead."""


@pytest.fixture
def compile_for_gpu(tmp_path: Path) -> Callable[[str], list[list[str]]]:
    """Run a program in a process of its own, where launched kernels are compiled.

    Of each it tells the name, whether there is code, the bytes of shared memory, and the numbers whose values would make it compile again.
    """
    pytest.importorskip("triton")

    def compiled(program: str) -> list[list[str]]:
        python_path = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]))
        env = {**os.environ, "PYTHONPATH": python_path, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
        code = COMPILER + program
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return [line.split() for line in done.stdout.splitlines()]

    return compiled
