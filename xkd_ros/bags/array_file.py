"""Plain .npy files that are mapped into memory, and believed only as far as their size bears out."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np

from xkd_ros.core.errors import BagError


def open_array(
    path: Path, dtypes: tuple[str, ...] | np.dtype, shape: tuple[int, ...], remedy: str = "write the frames again"
) -> np.ndarray:
    """Map an array read-only; nothing is unpickled and nothing is allocated.

    Args:
        path: Written by `np.save`.
        dtypes: Allowed types, as `np.dtype` spells them, or the one (structured) type.
        shape: Of the array; -1 is any length.
        remedy: What to do about it, the end of the message.
    Raises:
        BagError: missing, cut off, or not what was expected.
    """
    allowed = (dtypes,) if isinstance(dtypes, np.dtype) else tuple(np.dtype(name) for name in dtypes)
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"format version {version}")
            found, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            start = file.tell()
        if dtype not in allowed or fortran or len(found) != len(shape) or any(want not in (-1, got) for want, got in zip(shape, found)):
            raise ValueError(f"{dtype} {found}, expected {' or '.join(map(str, allowed))} {shape}")
        size = dtype.itemsize
        for length in found:
            size *= length
        if path.stat().st_size != start + size:
            raise ValueError(f"{path.stat().st_size} bytes, expected {start + size}")
        # An empty file cannot be mapped.
        return np.memmap(path, dtype, "r", start, found) if size else np.zeros(found, dtype)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise BagError(f"cannot open {path}: {error.strerror}; raise the limit of this shell, `ulimit -n 4096`, and go on") from error
        raise BagError(f"cannot read {path}: {error.strerror or error}; {remedy}") from error
    except (ValueError, TypeError, SyntaxError) as error:
        raise BagError(f"{path} is damaged ({' '.join(str(error).split())[:200]}); {remedy}") from error
