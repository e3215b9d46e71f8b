"""What a cell takes of this machine: cores, peak memory on the GPU or in this process; and what the machine is."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from xkd_ros import __version__

_PACKAGES = ("torch", "numpy")


class PeakMemory:
    """Peak of a `with` block.

    Attributes:
        gigabytes: On the GPU what torch took; on the CPU by how much this process grew; None where the system does not tell.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.gigabytes: float | None = None

    @contextmanager
    def watched(self) -> Iterator[PeakMemory]:
        """Watch the block."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            yield self
            self.gigabytes = round(torch.cuda.max_memory_allocated(self._device) / 1e9, 3)
            return
        before = _reset_peak()
        yield self
        peak = _read_status("VmHWM")
        self.gigabytes = None if before is None or peak is None else round((peak - before) / 1e9, 3)


def _reset_peak() -> int | None:
    """Make the process's peak start from now; return its present size in bytes, None where that cannot be done."""
    try:
        # What the allocator keeps of earlier work would be used again unseen.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):  # neither Linux nor glibc
        return None
    return _read_status("VmRSS")


def _read_status(key: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), None)


def leave_a_core(device: torch.device) -> None:
    """Let torch compute on all CPU cores but one, which prepares batches; threads that wait for a busy core cost more than they give."""
    if device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Name the device, the cores and torch's threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"device": name, "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def describe_versions() -> dict[str, str]:
    """Name the versions that decide results."""
    return {"xkd_ros": __version__, "python": platform.python_version(), **{name: importlib.metadata.version(name) for name in _PACKAGES}}
