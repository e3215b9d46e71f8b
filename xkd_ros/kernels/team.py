"""Threads that run one kernel together: each does a part, and they meet where one needs what the others made.

numba's own parallel loops would do the same, but take most of a minute to compile, and most of that again for every change.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from xkd_ros.kernels.compiler import compiled

_ARRIVED, _ROUND, _BROKEN, _GATE = 0, 8, 16, 24
"""Places in a gate, each in a cache line of its own, and its size."""
_PATIENCE = 4000
"""Looks at the gate before a waiting thread goes to sleep: robots have other work for their cores."""
_NAP_US = 20

_usleep = types.ExternalFunction("usleep", types.int32(types.uint32))


@intrinsic
def _add(typingctx, array, place, value):
    """Add to an element of an int64 array, for all threads at once, and return what it was."""

    def code(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature, arguments)
        return builder.atomic_rmw("add", pointer, arguments[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), code


@intrinsic
def _read(typingctx, array, place):
    """Read an element of an int64 array that other threads write."""

    def code(context, builder, signature, arguments):
        return builder.load_atomic(_pointer(context, builder, signature, arguments), "seq_cst", 8)

    return types.int64(array, types.intp), code


def _pointer(context, builder, signature, arguments):
    kind = signature.args[0]
    array = context.make_array(kind)(context, builder, arguments[0])
    return cgutils.get_item_pointer(context, builder, kind, array, [arguments[1]])


@compiled
def meet(gate, parts):
    """Wait until all parts have come here; what they wrote before is seen after."""
    if parts == 1:
        return
    this = _read(gate, _ROUND)
    if _add(gate, _ARRIVED, 1) == parts - 1:
        _add(gate, _ARRIVED, -parts)
        _add(gate, _ROUND, 1)
        return
    looks = 0
    while _read(gate, _ROUND) == this and _read(gate, _BROKEN) == 0:
        looks += 1
        if looks > _PATIENCE:
            _usleep(_NAP_US)


@compiled
def take(counters, step):
    """Number of the next piece of a step that no thread has taken; counters are zero at first."""
    return _add(counters, step, 1)


class _Helpers(threading.local):
    """Threads of the calling thread: they start with its priority, and callers never wait for each other's."""

    pool: ThreadPoolExecutor | None = None
    size = 0

    def of(self, size: int) -> ThreadPoolExecutor:
        if self.pool is None or self.size < size:
            self.pool, self.size = ThreadPoolExecutor(size, "kernel"), size
        return self.pool


_helpers = _Helpers()


def _start_anew() -> None:
    global _helpers
    _helpers = _Helpers()


os.register_at_fork(after_in_child=_start_anew)


def _part(kernel: Callable, part: int, parts: int, gate: np.ndarray, arguments: tuple[Any, ...]) -> None:
    try:
        kernel(part, parts, gate, *arguments)
    except BaseException:
        gate[_BROKEN] = 1  # nobody waits for one who does not come
        raise


def threads_for(threads: int | None) -> int:
    """Number of threads that stands for None: one per core that this process may use."""
    if threads:
        return threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(kernel: Callable, threads: int, *arguments: Any) -> None:
    """Call `kernel(part, parts, gate, *arguments)` on so many threads, part 0 on this one, and wait for all.

    Raises:
        Exception: what a part raised.
    """
    gate = np.zeros(_GATE, np.int64)
    if threads == 1:
        kernel(0, 1, gate, *arguments)
        return
    pool, others = _helpers.of(threads - 1), []
    try:
        for part in range(1, threads):
            others.append(pool.submit(_part, kernel, part, threads, gate, arguments))
        _part(kernel, 0, threads, gate, arguments)
    except BaseException:
        gate[_BROKEN] = 1  # a thread that cannot be started is none that the others need wait for
        raise
    finally:
        for other in others:
            other.result()
