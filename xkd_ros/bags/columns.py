"""Named columns of a point cloud file to a `Scan`, whichever format they came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xkd_ros.core.errors import BagError
from xkd_ros.core.types import Scan
from xkd_ros.msgs.cloud import INTENSITY_FIELDS, RING_FIELDS

Columns = dict[str, np.ndarray]
"""Name to (N,) values in native byte order, all of one length."""

LARGEST_FILE_BYTES = 2_000_000_000
# CloudCompare writes scalar fields with this prefix.
_PREFIX = "scalar_"


def scan_of(columns: Columns, path: Path, stamp_ns: int, frame_id: str) -> tuple[Scan, Columns]:
    """Build a scan from the columns it knows and return the rest.

    Raises:
        BagError: x, y or z is missing.
    """
    if missing := [axis for axis in "xyz" if axis not in columns]:
        raise BagError(
            f"{path} has no column {', '.join(missing)} (columns: {', '.join(columns) or 'none'}); it is no point cloud in metres"
        )
    rest = dict(columns)
    with np.errstate(over="ignore", invalid="ignore"):
        points = np.stack([rest.pop(axis).astype(np.float32) for axis in "xyz"], axis=1)
        intensity = _take(rest, INTENSITY_FIELDS, np.float32)
        ring = _take(rest, RING_FIELDS, np.uint16)
    return Scan(points, intensity, stamp_ns, frame_id, ring), rest


def check_size(path: Path) -> None:
    """Refuse a file that no scan can fill.

    Raises:
        BagError: missing, unreadable or too large.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BagError(f"cannot read {path}: {error.strerror}") from error
    if size > LARGEST_FILE_BYTES:
        raise BagError(f"{path} has {size / 1e9:.1f} GB; a scan has megabytes: is this a map? cut it into scans")


def split_lines(path: Path, text: bytes, rows: int, names: list[str]) -> Columns:
    """Read whitespace-separated numbers, one point per line.

    Args:
        path: For errors.
        text: The lines.
        rows: How many points the header promises.
        names: Name of each column; more of them than names are ignored.
    Raises:
        BagError: fewer numbers than promised, or text between them.
    """
    # Two characters per number is the least there can be: checked before anything is allocated.
    if rows * len(names) * 2 > len(text) + 2:
        raise BagError(f"{path} promises {rows} points of {len(names)} numbers but holds {len(text)} characters: cut off")
    if not rows:
        return {name: np.zeros(0) for name in names}
    lines = [line for line in text.split(b"\n") if line.strip()][:rows]
    if len(lines) < rows:
        raise BagError(f"{path} promises {rows} points but holds {len(lines)}: cut off")
    try:
        table = np.loadtxt(lines, np.float64, comments=None, usecols=range(len(names)), ndmin=2)
    except ValueError as error:
        raise BagError(f"{path} has a line that is not {len(names)} numbers: {error}") from error
    return {name: table[:, column] for column, name in enumerate(names)}


def _take(columns: Columns, names: tuple[str, ...], dtype: type) -> np.ndarray | None:
    for name in names:
        for key in (name, _PREFIX + name, _PREFIX + name.capitalize()):
            if key in columns:
                return columns.pop(key).astype(dtype)
    return None
