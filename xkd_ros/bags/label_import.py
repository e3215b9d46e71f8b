"""Labels made by hand: clouds that CloudCompare (or another editor) exported with a scalar field, brought back to the scans.

A file and the points of a scan come in, one label per point of the scan goes out; next: `truth`, evaluate.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from xkd_ros.bags.columns import Columns
from xkd_ros.bags.delimited import read_delimited
from xkd_ros.bags.pcd import read_pcd
from xkd_ros.bags.ply import read_ply
from xkd_ros.core.errors import BagError
from xkd_ros.core.types import UNKNOWN

_LOG = logging.getLogger(__name__)
READERS: dict[str, Callable[[Path], Columns]] = {
    ".ply": read_ply,
    ".pcd": read_pcd,
    **dict.fromkeys((".csv", ".txt", ".asc", ".xyz"), read_delimited),
}
"""File ending to reader of a labelled cloud."""
# CloudCompare puts this before the name of a scalar field.
_PREFIX = "scalar_"
_LABEL_NAMES = ("label", "labels", "class", "class_id", "classification", "semantic", "category", "annotation", "gt")
_GEOMETRY = {"x", "y", "z", "nx", "ny", "nz", "r", "g", "b", "a", "red", "green", "blue", "alpha", "rgb", "rgba"}
_MEASURED = {"intensity", "reflectivity", "reflectance", "ring", "channel", "time", "t", "timestamp", "gps_time", "range", "noise"}
_MEASURED |= {"near_ir", "ambient", "line", "tag", "return_number", "number_of_returns", "return_type", "scan_angle", "scan_angle_rank"}
_MEASURED |= {"point_source_id", "user_data", "original_cloud_index", "probability", "entropy"}
# An exported point is the scan's own, but for the digits that were written.
NEAREST_M = 0.02
# Fewer common points than this are another scan, or a cloud that was moved.
_LEAST_COMMON = 0.5


def import_labels(
    file: Path,
    points_m: np.ndarray,
    class_map: dict[int, int] | None = None,
    column: str | None = None,
) -> np.ndarray:
    """Read the labels of one scan.

    Points are matched by order where the file has as many as the scan, in the same places; else each point of the scan takes
    the label of the nearest point of the file within NEAREST_M.

    Args:
        file: PLY, PCD, CSV or TXT with x, y, z and a label.
        points_m: (N, 3) metres, the scan as it was exported; NaN and (0, 0, 0) get no label.
        class_map: Number in the file to class id; numbers that are not in it become 255. None: they are class ids already.
        column: Name of the label column, with or without CloudCompare's "scalar_"; None finds it.
    Returns:
        (N,) uint8, 255 where unknown.
    Raises:
        BagError: unreadable file, no label column (names the columns found), values that are no classes, or another scan.
    """
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise BagError(f"{file} is no labelled cloud; {', '.join(READERS)} are")
    columns = {_plain(name): values for name, values in reader(file).items()}
    if missing := [axis for axis in "xyz" if axis not in columns]:
        raise BagError(f"{file} has no column {', '.join(missing)} (columns: {', '.join(columns)}): export the points with their labels")
    labels = _classes(file, columns, _label_column(file, columns, column), class_map)
    exported = np.stack([columns[axis].astype(np.float64) for axis in "xyz"], axis=1)
    return _match(file, exported, labels, np.asarray(points_m, np.float64))


def stamp_of(path: Path) -> int | None:
    """Find the time in a file name: 19 digits are nanoseconds, 10 digits with a fraction seconds; words around it do not matter."""
    if match := re.search(r"(?<!\d)\d{19}(?!\d)", path.stem):
        return int(match[0])
    if match := re.search(r"(?<!\d)(\d{10})[._](\d{1,9})(?!\d)", path.stem):
        return int(match[1]) * 1_000_000_000 + int(match[2].ljust(9, "0"))
    return None


def _plain(name: str) -> str:
    """Write a column name as we do: lower case, without CloudCompare's prefix, words joined by underscores."""
    plain = re.sub(r"\W+", "_", name.strip().lower()).strip("_")
    return plain.removeprefix(_PREFIX)


def _label_column(file: Path, columns: Columns, column: str | None) -> str:
    found = ", ".join(columns)
    if column is not None:
        if _plain(column) not in columns:
            raise BagError(f"{file} has no column '{column}' (columns: {found}); name one of them")
        return _plain(column)
    others = [name for name in columns if name not in _GEOMETRY | _MEASURED]
    named = [name for name in _LABEL_NAMES if name in others]
    # Beside a column that is called label, only one that holds classes too makes it a guess.
    rivals = [name for name in others if name not in named and (not named or _may_be_classes(columns[name]))]
    if len(named) + len(rivals) == 1:
        return (named + rivals)[0]
    what = f"several columns that may be labels ({', '.join(named + rivals)})" if named or rivals else "no column of labels"
    raise BagError(f"{file} has {what} (columns: {found}); name the one to read: --set frames.label_column=NAME")


def _may_be_classes(values: np.ndarray) -> bool:
    known = values[np.isfinite(values.astype(np.float64))]
    return bool(len(known)) and bool(((known >= 0) & (known <= UNKNOWN) & (known == np.rint(known))).all())


def _classes(file: Path, columns: Columns, column: str, class_map: dict[int, int] | None) -> np.ndarray:
    """Turn the numbers of a column, floats as CloudCompare writes them, into (M,) uint8 classes."""
    values = columns[column].astype(np.float64)
    # Points that were never given a value.
    known = np.isfinite(values)
    whole = np.rint(np.where(known, values, -1.0))
    strange = np.flatnonzero(known & (np.abs(values - whole) > 1e-3))
    if len(strange):
        raise BagError(f"column '{column}' of {file} holds {values[strange[0]]:g}: not the number of a class; name another column")
    labels = np.full(len(values), UNKNOWN, np.uint8)
    for number in np.unique(whole).tolist():
        target = int(number) if class_map is None else class_map.get(int(number), UNKNOWN)
        if number < 0 and (class_map is None or int(number) not in class_map):
            target = UNKNOWN
        if not 0 <= target <= UNKNOWN:
            raise BagError(
                f"column '{column}' of {file} holds {number:g}: classes are 0 to 254, 255 is unknown; "
                "give a class map: --set 'frames.label_map={300: 4}'"
            )
        labels[known & (whole == number)] = target
    return labels


def _match(file: Path, exported: np.ndarray, labels: np.ndarray, points_m: np.ndarray) -> np.ndarray:
    valid = np.isfinite(points_m).all(axis=1) & points_m.any(axis=1)
    usable = np.isfinite(exported).all(axis=1)
    if len(exported) == len(points_m) and valid.any():
        apart = np.abs(exported - points_m)[valid & usable]
        if len(apart) and apart.max() <= NEAREST_M:
            return np.where(valid & usable, labels, np.uint8(UNKNOWN))
    found = np.full(len(points_m), UNKNOWN, np.uint8)
    if not usable.any() or not valid.any():
        raise BagError(f"{file} or its scan holds no finite point")
    from scipy.spatial import cKDTree

    exported, labels = exported[usable], labels[usable]
    # Labelled points come first among equally near ones: an editor may keep a point in two parts.
    order = np.argsort(labels == UNKNOWN, kind="stable")
    distance, nearest = cKDTree(exported[order]).query(points_m[valid], distance_upper_bound=NEAREST_M)
    hit = np.isfinite(distance)
    common = len(np.unique(nearest[hit])) / len(np.unique(exported, axis=0))
    if common < _LEAST_COMMON:
        raise BagError(
            f"{common:.0%} of the {len(exported)} points of {file} are in the scan of its stamp: labels of another scan, or exported "
            "moved; export without a shift, in the lidar frame"
        )
    found[np.flatnonzero(valid)[hit]] = labels[order][nearest[hit]]
    _LOG.info("%s: %d of %d points of the scan found by place", file, int(hit.sum()), len(points_m))
    return found
