"""Frames kept in parts, each a folder of .npy columns: which part holds a frame, and its columns, mapped when they are asked for.

For stores that are written part by part: `label_store`, `partdistill.unit_store`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from xkd_ros.bags.array_file import open_array
from xkd_ros.core.errors import XkdError
from xkd_ros.core.files import atomic_path, inside

# More would only cost file handles.
_KEPT_OPEN = 32
Columns = dict[str, np.ndarray]


class PartFiles:
    """The parts of one store; a limited number of them is open."""

    def __init__(
        self,
        folder: Path,
        parts: Sequence[tuple[str, int]],
        read: Callable[[Path, int], Columns],
        check: Callable[[Path, Columns], None],
        remedy: str,
    ) -> None:
        """Find the frames.

        Args:
            folder: Of the store.
            parts: Name of each part's folder, and its number of frames; `numbers.npy` there says which.
            read: Opens the columns of a part, each of the length that it must have: its folder, its place in `parts`.
            check: Looks at what the columns hold, when they are first opened, and raises an XkdError.
            remedy: What to do about damage, the end of a message.
        Raises:
            XkdError: a name that leads out of the folder, missing numbers, or a frame that is in two places.
        """
        self._folders = [inside(folder, name) for name, _ in parts]
        self._read, self._check = read, check
        self._checked: set[int] = set()
        self._part = lru_cache(maxsize=_KEPT_OPEN)(self._open)
        self._place: dict[int, tuple[int, int]] = {}
        for index, (path, (_, frames)) in enumerate(zip(self._folders, parts)):
            numbers = open_array(path / "numbers.npy", ("<i8",), (frames,), remedy)
            self._place.update({int(number): (index, row) for row, number in enumerate(numbers)})
        if len(self._place) != sum(frames for _, frames in parts):
            raise XkdError(f"{folder} holds a frame twice: damaged; {remedy}")

    def __len__(self) -> int:
        return len(self._place)

    def __getstate__(self) -> dict[str, Any]:
        # A mapped file would travel to another process as its whole content.
        return {name: value for name, value in self.__dict__.items() if name != "_part"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._part = lru_cache(maxsize=_KEPT_OPEN)(self._open)

    def find(self, number: int) -> tuple[Columns, int]:
        """Return the columns of the part that holds a frame, and its row there.

        Raises:
            KeyError: no part holds it.
            XkdError: the part is damaged.
        """
        index, row = self._place[number]
        return self._part(index), row

    def _open(self, index: int) -> Columns:
        columns = self._read(self._folders[index], index)
        if index not in self._checked:
            self._check(self._folders[index], columns)
            self._checked.add(index)
        return columns


def write_columns(folder: Path, columns: Columns) -> None:
    """Write the columns of a part; its folder appears when they are all there."""
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for name, column in columns.items():
            np.save(temporary / f"{name}.npy", column)


def check_divides(folder: Path, name: str, starts: np.ndarray, end: int, remedy: str) -> None:
    """Do nothing, unless a column of starts does not divide so many rows.

    Raises:
        XkdError: names the file.
    """
    if starts[0] != 0 or starts[-1] != end or (np.diff(starts) < 0).any():
        raise XkdError(f"{folder / name}.npy does not divide {end} rows: damaged; {remedy}")
