"""How loops are compiled here: numba to machine code once per machine and kept on disk.

Rules for every file of this room: a kernel and all it calls stand in one file, because numba's cache notices changes of that file
alone; arrays are indexed in full (`x[p, c]`), because slices in the innermost loop keep it from being vectorised; a matrix product
is `numpy.dot` on few enough rows that OpenBLAS neither starts threads nor leaves its kernels for small matrices (twice as fast as
whole arrays: 80 against 40 GFLOP/s on one AVX-512 core at width 64).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numba

_CONFIG: Any = numba.config

# Built in everywhere, and its waiting threads sleep. It serves one caller at a time: `ONE_CALLER` sees to that.
if "NUMBA_THREADING_LAYER" not in os.environ:
    _CONFIG.THREADING_LAYER = "workqueue"

ONE_CALLER = threading.Lock()
"""Held while a parallel kernel runs."""
# A process that is forked while another thread holds it would wait for ever.
os.register_at_fork(after_in_child=ONE_CALLER._at_fork_reinit)  # type: ignore[attr-defined]

# Sums may be reordered and multiplied-and-added in one step; NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "arcp", "nsz"}
_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": _FAST}
_SMALL_PRODUCT = 1 << 18
"""Rows x C x C up to which OpenBLAS multiplies on the calling thread (its default threshold, 4 x 65536)."""


def serial(function: Callable) -> Any:
    """Compile a function that runs on the calling thread."""
    return numba.njit(**_OPTIONS)(function)


def parallel(function: Callable) -> Any:
    """Compile a function whose `prange` loops run on several threads; hold `ONE_CALLER` while calling it."""
    return numba.njit(parallel=True, **_OPTIONS)(function)


def use_threads(threads: int | None) -> None:
    """Set the threads of the parallel kernels that this thread calls; None takes one per core."""
    most = _CONFIG.NUMBA_NUM_THREADS
    numba.set_num_threads(max(1, min(threads or most, most)))


def rows_per_block(channels: int) -> int:
    """Rows to multiply at once by a (channels, channels) matrix."""
    return max(4, min(128, _SMALL_PRODUCT // channels**2))
