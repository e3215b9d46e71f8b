"""Writing so that nothing half-written is ever taken for whole, and reading without leaving a folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xkd_ros.core.errors import XkdError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary sibling (file or folder) that takes the name `path` when the block ends well.

    Raises:
        XkdError: the folder is not writable or the disk is full; nothing is left behind.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=f".part{target.suffix}", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        temporary.unlink()
        yield temporary
        if temporary.is_dir() and target.is_dir():
            old = temporary.with_name(temporary.name + ".old")
            target.rename(old)
            temporary.rename(target)
            shutil.rmtree(old)
        else:
            temporary.replace(target)
    except OSError as error:
        other = error.filename if isinstance(error.filename, str) and not error.filename.startswith(str(target.parent)) else None
        hint = f"{other} cannot be used" if other else "check permissions and free space"
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            hint = f"{error.filename} is a file where a folder is needed"
        raise XkdError(f"cannot write {target}: {error.strerror or error}; {hint}") from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink()


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Write a file whole or not at all.

    Raises:
        XkdError: the folder is not writable or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def inside(folder: str | Path, name: str) -> Path:
    """Join a name read from a file to its folder, refusing to leave it (links are followed).

    Raises:
        XkdError: the result lies outside the folder.
    """
    root = Path(folder).resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root) or path == root:
        raise XkdError(f"'{name}' in {root} would leave its folder; use a plain file name")
    return path


def sha256(path: str | Path) -> str:
    """Hash a file's content, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
