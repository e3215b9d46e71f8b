"""What every benchmark shares: interleaved medians, the machine's own ceilings, and inputs of a stated size."""

from __future__ import annotations

import json as json_module
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.files import write_atomic
from xkd_ros.core.types import NetInput
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.worlds.stream import sample_scan

_WARM_UP, _REPEATS = 2, 9
_SEARCHED_SCANS = 60


def interleaved_ms(contestants: Mapping[str, Callable[[], object]], repeats: int = _REPEATS) -> dict[str, float]:
    """Time each contestant in turn, again and again, so that a busy moment of the machine hits all of them; medians in ms."""
    return {name: float(np.median(values)) for name, values in interleaved_times(contestants, repeats).items()}


def interleaved_times(contestants: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """As `interleaved_ms`, but all times."""
    for _ in range(_WARM_UP):
        for run in contestants.values():
            run()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            begun = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - begun))
    return times


def machine_ceilings() -> dict[str, Any]:
    """Measure what the machine can do at best: matrix products and memory copies, with torch's current threads."""
    size = 1024
    a = torch.randn(size, size)
    low = a.bfloat16()
    block = torch.empty(32_000_000)
    target = torch.empty_like(block)
    ms = interleaved_ms({"fp32": lambda: a @ a, "bf16": lambda: low @ low, "copy": lambda: target.copy_(block)})
    work = 2 * size**3 / 1e6
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "matmul_fp32_gflops": round(work / ms["fp32"]),
        "matmul_bf16_gflops": round(work / ms["bf16"]),
        "copy_gb_per_s": round(2 * block.nbytes / 1e6 / ms["copy"], 1),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def scan_of_size(voxels: int, preprocess: Preprocessor) -> NetInput:
    """Find a simulated scan of at least so many voxel points and keep those nearest to the sensor.

    Returns:
        The network's input with nearly `voxels` points; fewer when no searched scan is that large.
    """
    best = np.zeros((0, 3), np.float32)
    for seed in range(0, _SEARCHED_SCANS, 3):
        points, _, _, meta = sample_scan(seed, "shifted")
        levelled = points @ meta["rotation"].T.astype(np.float32)
        kept = levelled[preprocess(levelled, undo=False).kept]
        smaller_but_enough = voxels <= len(kept) < len(best)
        if smaller_but_enough or len(best) < min(voxels, len(kept)):
            best = kept
    order = np.argsort(np.linalg.norm(best, axis=1), kind="stable")
    count = voxels
    # The voxel grid starts at the minimum of the points, so a trimmed scan loses some more of them.
    for _ in range(6):
        net_input = preprocess(best[np.sort(order[:count])], undo=False)
        count = round(count * voxels / max(1, len(net_input)))
    return net_input


def read_counts(text: str) -> list[int]:
    """Read numbers with commas between.

    Raises:
        ConfigError: something else.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--points '{text}' is no list of numbers; write for example 3000,6000,11000") from error


def write_figures(facts: dict[str, Any], path: Path | None) -> None:
    """Write the figures of a benchmark with the day, if there is a file for them."""
    if path is not None:
        stamped = {"measured": time.strftime("%Y-%m-%d"), **facts}
        write_atomic(path, json_module.dumps(stamped, indent=1) + "\n")
