"""`backend: auto`: try what is installed on three scans, keep the fastest that says the same as the others, remember it.

In: a model folder. Out: a backend, and why each other one was not taken. Next: `segmenter`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from xkd_ros.core.card import ModelCard
from xkd_ros.core.errors import ModelError, XkdError
from xkd_ros.core.files import write_atomic
from xkd_ros.core.processor import has_bf16
from xkd_ros.core.types import NetInput, ScanRequest
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.runtime.backend import MIN_AGREEMENT, Backend, ScanBackend, agreement
from xkd_ros.runtime.machine import cache_folder, fingerprint, has_nvidia_gpu, installed, wait_passively
from xkd_ros.runtime.onnx_inputs import ORT_FILE, TRT_FILE
from xkd_ros.runtime.probe import probe_inputs, probe_scans

T = TypeVar("T")
_LOG = logging.getLogger(__name__)

BACKENDS = ("torch", "onnxruntime", "numba", "torch-bf16", "tensorrt", "cuda")
"""In the order in which they are trusted: the first that answers in numbers is what the others are compared with."""
_NO_NUMBERS = "its answers are no numbers"
_BUDGET_S = 1.0
"""Time a backend may be timed for: on a busy machine one run has to do."""


def make_backend(name: str, folder: Path, card: ModelCard, threads: int | None) -> Backend:
    """Load one backend by name.

    Raises:
        ModelError: unknown name, or the model folder lacks what the backend needs.
        MissingPackageError: its package is not installed.
    """
    if name in ("torch", "torch-bf16"):
        if not installed("torch"):
            raise ModelError("torch is not installed; pip install torch safetensors, or use onnxruntime")
        wait_passively()
        from xkd_ros.runtime.torch_backend import TorchBackend

        return TorchBackend.load(folder, threads, "float32" if name == "torch" else "bfloat16")
    if name == "numba":
        from xkd_ros.runtime.numba_backend import NumbaBackend

        return NumbaBackend.load(folder, card, threads)
    if name == "onnxruntime":
        from xkd_ros.runtime.onnxruntime_backend import OnnxRuntimeBackend

        return OnnxRuntimeBackend.load(folder, card, threads)
    if name == "cuda":
        from xkd_ros.runtime.cuda_backend import CudaBackend

        return CudaBackend.load(folder, card)
    if name == "tensorrt":
        from xkd_ros.runtime.tensorrt_backend import TensorRtBackend

        return TensorRtBackend.load(folder, card)
    raise ModelError(f"backend '{name}' is unknown; use auto, {', '.join(BACKENDS)}")


def choose_backend(folder: Path, card: ModelCard, threads: int | None) -> tuple[Backend, dict[str, str]]:
    """Load the fastest backend that works and agrees; the choice is cached per model, machine and package versions.

    Returns:
        The backend, and for every other one the reason why it was not taken.
    Raises:
        ModelError: none works; the message holds all reasons.
    """
    memory = _memory(card, threads)
    remembered = _recall(memory)
    if remembered is not None:
        name, why = remembered
        try:
            return _make_and_try(name, folder, card, threads, probe_inputs(card, 1)[0]), why
        except Exception as error:  # as in _try_all
            _LOG.warning("remembered backend %s no longer works (%s); choosing again", name, _in_one_line(error))
    backend, why = _try_all(folder, card, threads)
    try:
        write_atomic(memory, json.dumps({"backend": backend.name, "why": why}))
    except XkdError as error:
        _LOG.info("choice of backend not remembered: %s", error)
    return backend, why


def next_backend(folder: Path, card: ModelCard, threads: int | None, failed: Mapping[str, str]) -> Backend:
    """Load the most trusted backend among those that have not failed yet, and see it work.

    Args:
        folder, card, threads: As for `choose_backend`.
        failed: Names of those that failed at work, with the reason.
    Raises:
        ModelError: none is left.
    """
    scan = probe_inputs(card, 1)[0]
    reasons = dict(failed)
    for name in BACKENDS:
        if name in failed:
            continue
        if reason := impossible(name, card):
            reasons[name] = reason
            continue
        try:
            return _make_and_try(name, folder, card, threads, scan)
        except Exception as error:  # as in _try_all
            reasons[name] = _in_one_line(error)
    raise ModelError(f"no other backend runs {folder}: " + "; ".join(f"{name}: {reason}" for name, reason in reasons.items()))


def _make_and_try(name: str, folder: Path, card: ModelCard, threads: int | None, scan: NetInput) -> Backend:
    backend = make_backend(name, folder, card, threads)
    if not np.isfinite(backend.infer(scan)).all():
        raise ModelError(_NO_NUMBERS)
    return backend


def _in_one_line(error: Exception) -> str:
    """Say what went wrong: our own errors speak for themselves, others need their type."""
    return str(error) if isinstance(error, XkdError) else f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _try_all(folder: Path, card: ModelCard, threads: int | None) -> tuple[Backend, dict[str, str]]:
    inputs = probe_inputs(card)
    why: dict[str, str] = {}
    timed: dict[str, tuple[float, Backend]] = {}
    reference: list[np.ndarray] = []
    for name in BACKENDS:
        reason = impossible(name, card)
        if reason:
            why[name] = reason
            continue
        try:
            backend = make_backend(name, folder, card, threads)
            logits = [backend.infer(net_input) for net_input in inputs]  # also warms up
            if not reference and not all(np.isfinite(answer).all() for answer in logits):
                raise ModelError(_NO_NUMBERS)  # none of the others could agree with it
            milliseconds = _time(backend, card, inputs)
        except Exception as error:  # a backend is somebody else's package: whatever it raises must not stop the others
            _LOG.info("backend %s failed", name, exc_info=not isinstance(error, XkdError))
            why[name] = _in_one_line(error)
            continue
        reference = reference or logits
        share = agreement(logits, reference)
        if share < MIN_AGREEMENT:
            why[name] = f"refused: labels agree on {100 * share:.2f} % of the points of {len(inputs)} scans, {100 * MIN_AGREEMENT} % needed"
            continue
        timed[name] = (milliseconds, backend)
        _LOG.info("backend %s: %.1f ms per scan, labels agree on %.2f %%", name, milliseconds, 100 * share)
    if not timed:
        raise ModelError(f"no backend runs {folder}: " + "; ".join(f"{name}: {reason}" for name, reason in why.items()))
    best = min(timed, key=lambda name: timed[name][0])
    for name, (milliseconds, _) in timed.items():
        if name != best:
            why[name] = f"slower: {milliseconds:.1f} ms per scan, {best} takes {timed[best][0]:.1f}"
    return timed[best][1], why


def impossible(name: str, card: ModelCard) -> str:
    """Say why a backend need not be tried, cheaply; empty when it may work."""
    if name in ("tensorrt", "cuda") and not has_nvidia_gpu():
        return "no NVIDIA GPU"
    if name == "torch-bf16" and not (has_bf16() or has_nvidia_gpu()):
        return "this CPU has no bfloat16 instructions"
    needed = {"onnxruntime": ORT_FILE, "tensorrt": TRT_FILE}.get(name)
    if needed and needed not in card.files:
        return f"the model has no {needed}; run `xkd export` on it"
    if name == "numba" and not installed("safetensors"):
        return "safetensors is not installed"
    packages = ("torch", "triton") if name == "cuda" else (name.removesuffix("-bf16"),)
    return next((f"{package} is not installed" for package in packages if not installed(package)), "")


def _time(backend: Backend, card: ModelCard, inputs: list[NetInput]) -> float:
    """Milliseconds of the network. One that goes the whole way is spared what the others have to do before."""
    if not isinstance(backend, ScanBackend):
        return _milliseconds(backend.infer, inputs)
    scans, level, preprocess = probe_scans(), np.eye(3), Preprocessor(card.geometry, card.intensity)

    def label(scan: tuple[np.ndarray, np.ndarray]) -> None:
        backend.label_scan(ScanRequest(*scan, level, card.intensity))

    # Sizes are recorded when they are met, and once more when larger scans have been seen.
    for scan in 2 * scans:
        label(scan)
    whole = _milliseconds(label, scans)
    return max(0.0, whole - _milliseconds(lambda scan: preprocess(*scan), scans))


def _milliseconds(run: Callable[[T], object], inputs: Sequence[T]) -> float:
    """Mean over the scans of the fastest of a few runs each: what the machine can do when nothing disturbs it."""
    fastest = [float("inf")] * len(inputs)
    deadline = time.perf_counter() + _BUDGET_S
    while True:
        for number, net_input in enumerate(inputs):
            begun = time.perf_counter()
            run(net_input)
            ended = time.perf_counter()
            fastest[number] = min(fastest[number], ended - begun)
        if ended > deadline or fastest[-1] * len(inputs) > deadline - ended:
            return 1e3 * sum(fastest) / len(fastest)


def remembered_choice(card: ModelCard, threads: int | None) -> str | None:
    """Name the backend that `choose_backend` would take without trying any; None where it would try."""
    remembered = _recall(_memory(card, threads))
    return None if remembered is None else remembered[0]


def _memory(card: ModelCard, threads: int | None) -> Path:
    return cache_folder() / "backends" / f"{fingerprint(model=card.hash, threads=threads)}.json"


def _recall(path: Path) -> tuple[str, dict[str, str]] | None:
    """Read a remembered choice; anything unreadable is as good as nothing."""
    try:
        content = json.loads(path.read_text())
        name, why = content["backend"], content["why"]
        if name in BACKENDS and all(isinstance(text, str) for pair in why.items() for text in pair):
            return name, why
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None
