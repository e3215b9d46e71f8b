"""True labels beside a recording, by stamp: of a simulation, or made by hand. For evaluation; nothing learns from them unasked."""

from __future__ import annotations

import json
import zipfile
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.label_import import READERS, import_labels, stamp_of
from xkd_ros.core.errors import BagError, XkdError
from xkd_ros.core.labels import INDOOR12, STRUCT4, LabelSet
from xkd_ros.core.types import UNKNOWN, Scan

SIMULATION_FILE, SIMULATION_FOLDER = "truth.json", "truth"
"""What a simulated recording holds besides the bag."""
_LABEL_SETS: dict[str, LabelSet] = {"indoor12": INDOOR12, "struct4": STRUCT4}
# File names with microseconds or less do not give the last digits of a stamp.
_SAME_NS = 1_000_000
_LARGEST_JSON = 1_000_000


@dataclass(eq=False)
class Truth:
    """Labels of the scans of one recording.

    Attributes:
        names: Class names, id by id.
        class_hash: Identifies them, as `LabelSet.hash` does.
        files: Stamp to file.
        key: Array of a .npz file that holds the labels.
        given: They are from a folder that was named, not the recording's own.
        class_map, column: How other files are read, see `import_labels`.
    """

    names: tuple[str, ...]
    class_hash: str
    files: dict[int, Path] = field(default_factory=dict)
    key: str = "labels"
    given: bool = False
    class_map: dict[int, int] | None = None
    column: str | None = None

    @cached_property
    def _stamps(self) -> list[int]:
        return sorted(self.files)

    def labels(self, scan: Scan, stamp_ns: int) -> np.ndarray | None:
        """Return (N,) uint8 labels of a scan as it was recorded, 255 unknown; None where there is no file for it.

        Raises:
            BagError: a file that cannot be read, or that belongs to another scan.
        """
        path = self.file(stamp_ns)
        if path is None:
            return None
        if path.suffix == ".npz":
            labels = read_labels(path, self.key, len(scan))
        else:
            labels = import_labels(path, scan.points_m, self.class_map, self.column)
        strange = labels[(labels >= len(self.names)) & (labels != UNKNOWN)]
        if len(strange):
            raise BagError(f"{path} holds label {strange[0]}, but there are {len(self.names)} classes ({', '.join(self.names)})")
        return labels

    def file(self, stamp_ns: int) -> Path | None:
        """Find the label file of a scan by its stamp."""
        if stamp_ns in self.files or not self.files:
            return self.files.get(stamp_ns)
        place = bisect_left(self._stamps, stamp_ns)
        nearest = min(self._stamps[max(0, place - 1) : place + 1], key=lambda stamp: abs(stamp - stamp_ns))
        return self.files[nearest] if abs(nearest - stamp_ns) < _SAME_NS else None


def find_truth(bag: Path, labels: Path | None, config: FrameConfig) -> Truth | None:
    """Look for the labels of a recording.

    Args:
        bag: The recording; a simulated one has its labels inside.
        labels: Folder of files named after the stamps of the scans: .npz (keys indoor12 or struct4, in point order), or PLY,
            PCD, CSV and TXT with a label column. None: only the simulation's own.
        config: How to read them.
    Raises:
        BagError: a folder without any such file, or a damaged truth.json.
    """
    if labels is not None:
        return _from_folder(labels, config)
    if not (bag / SIMULATION_FILE).is_file():
        return None
    facts = simulation_facts(bag)
    try:
        names, class_hash = tuple(str(name) for name in facts["class_names"]), str(facts["class_hash"])
    except (KeyError, TypeError) as error:
        raise BagError(f"{bag / SIMULATION_FILE} names no classes ({error}): simulate again") from error
    files = {int(path.stem): path for path in (bag / SIMULATION_FOLDER).glob("*.npz") if path.stem.isdigit()}
    return Truth(names, class_hash, files)


def simulation_facts(bag: Path) -> dict[str, Any]:
    """Read what a simulation says about itself; empty for every other recording.

    Raises:
        BagError: damaged.
    """
    path = bag / SIMULATION_FILE
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ValueError(f"{path.stat().st_size} bytes")
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BagError(f"{path} cannot be read ({error}): simulate again") from error
    return facts if isinstance(facts, dict) else {}


def _from_folder(folder: Path, config: FrameConfig) -> Truth:
    if not folder.is_dir():
        raise BagError(f"label folder {folder} does not exist")
    candidates = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".npz", *READERS) and not path.name.startswith("._")]
    files: dict[int, Path] = {}
    for path in candidates:
        stamp = stamp_of(path)
        if stamp in files:
            raise BagError(f"{folder} has two label files of one scan, {files[stamp].name} and {path.name}; keep the one that counts")
        if stamp is not None:
            files[stamp] = path
    if not files:
        seen = ", ".join(path.name for path in (candidates or sorted(folder.iterdir()))[:4]) or "nothing"
        raise BagError(f"{folder} has no label file with the stamp of a scan in its name (found: {seen}); name them <stamp_ns>.ply or .npz")
    archives = [path for path in files.values() if path.suffix == ".npz"]
    kind: str = config.label_set
    if archives:
        keys = label_keys(archives[0])
        kind = next((name for name in (config.label_set, *_LABEL_SETS) if name in keys), "")
        if not kind:
            raise BagError(f"{archives[0]} has {', '.join(keys) or 'no arrays'}; the labels must be called {' or '.join(_LABEL_SETS)}")
    label_set = _LABEL_SETS[kind]
    return Truth(label_set.names, label_set.hash, files, kind, True, config.label_map, config.label_column)


def label_keys(path: Path) -> list[str]:
    """Name the arrays of an .npz file.

    Raises:
        BagError: it is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except Exception as error:  # a damaged archive fails in every way there is
        raise BagError(f"{path} is no .npz file ({_one_line(error)})") from error


def read_labels(path: Path, key: str, count: int) -> np.ndarray:
    """Read (count,) uint8 labels from an .npz file, after a look at how large it says it is.

    Raises:
        BagError: damaged, no such array, or not one label per point.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = archive.getinfo(f"{key}.npy").file_size
        # An eight-byte integer each and a header are the most that labels of this scan can take.
        if size > 8 * count + 4096:
            raise BagError(f"{path} labels {size} bytes of points, its scan has {count}: labels of another recording?")
        with np.load(path, allow_pickle=False) as arrays:
            labels = arrays[key]
    except XkdError:
        raise
    except KeyError as error:
        raise BagError(f"{path} has no array '{key}' but {', '.join(label_keys(path)) or 'nothing'}") from error
    except Exception as error:
        raise BagError(f"{path} cannot be read: {_one_line(error)}") from error
    if not isinstance(labels, np.ndarray):  # numpy hands over as bytes what is no array
        raise BagError(f"{path} holds '{key}', but not as an array: damaged")
    if labels.dtype.kind not in "ui":
        raise BagError(f"{path} holds '{key}' as {labels.dtype}: labels are whole numbers; save them as uint8")
    if labels.ndim != 1 or len(labels) != count:
        raise BagError(f"{path} labels {labels.shape} points, its scan has {count}: labels of another recording?")
    return np.where((labels < 0) | (labels > UNKNOWN), UNKNOWN, labels).astype(np.uint8)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
