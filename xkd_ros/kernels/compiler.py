"""How loops are compiled here: numba to machine code once per machine and kept on disk.

Rules for every file of this room: a kernel and all it calls, `team` aside, stand in one file, because numba's cache notices changes
of that file alone; arrays are indexed in full (`x[p, c]`), because slices in the innermost loop keep it from being vectorised; a
matrix product is `numpy.dot` on few enough rows that OpenBLAS neither starts threads nor leaves its kernels for small matrices
(twice as fast as whole arrays: 80 against 40 GFLOP/s on one AVX-512 core at width 64).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import numba

_LOG = logging.getLogger(__name__)
# Sums may be reordered and multiplied-and-added in one step; NaN and infinity keep their meaning, but np.isfinite says yes to NaN.
_FAST = {"reassoc", "contract", "arcp", "nsz"}
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": _FAST}
_SMALL_PRODUCT = 1 << 18
"""Rows x C x C up to which OpenBLAS multiplies on the calling thread (its default threshold, 4 x 65536)."""


def compiled(function: Callable) -> Any:
    """Compile a function at its first call, and keep the machine code where that is possible."""
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        _warn_once()
        return numba.njit(**_OPTIONS)(function)


def cache_path() -> str | None:
    """Where machine code is kept; None where no folder can be written."""
    return compiled(_nothing).stats.cache_path


def _nothing() -> None:
    pass


@cache
def _warn_once() -> None:
    _LOG.warning("no folder can be written for compiled kernels, so every start compiles anew: name a writable one in NUMBA_CACHE_DIR")


def rows_per_block(channels: int) -> int:
    """Rows to multiply at once by a (channels, channels) matrix."""
    return max(4, min(128, _SMALL_PRODUCT // channels**2))
