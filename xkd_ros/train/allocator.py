"""Memory of training on a CPU."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep what tensors free, instead of giving it back to the system and asking for it again.

    Every step needs the same megabytes; as installed, glibc returns large blocks at once, and each new one costs a page fault
    per 4 KB, which adds up to a good part of a training step.

    Returns:
        False where the C library is not glibc; nothing changes there.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, 1 << 30)) and bool(mallopt(_TRIM_THRESHOLD, _MOST))
