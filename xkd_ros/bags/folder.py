"""A folder of point cloud files as a recording with one lidar topic, so that whatever reads bags reads it too."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from xkd_ros.bags.columns import Columns, scan_of
from xkd_ros.bags.pcd import read_pcd
from xkd_ros.bags.ply import read_ply
from xkd_ros.bags.reader import Bag, Record, as_it_is
from xkd_ros.bags.ros2_form import jazzy
from xkd_ros.bags.topics import POINT_CLOUD, TopicInfo
from xkd_ros.core.errors import BagError, require
from xkd_ros.core.types import Scan
from xkd_ros.msgs.build import make_cloud

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

T = TypeVar("T")
_READERS = {".pcd": read_pcd, ".ply": read_ply}
POINTS_TOPIC = "/points"
FRAME = "lidar"
# Files without a time in their name are taken as recorded at the usual rate of a spinning lidar.
_PERIOD_NS = 100_000_000
_FIRST_NS = 1_000_000_000


class ScanFolder:
    """PLY and PCD files in the order of their names; the interface of `Bag`."""

    is_ros1 = False

    def __init__(self, path: str | Path) -> None:
        """List the files.

        Raises:
            BagError: the path holds none.
        """
        self.path = Path(path)
        self.files = cloud_files(self.path)
        if not self.files:
            raise BagError(f"{self.path} holds no {' or '.join(_READERS)} files")
        named = [stamp for file in self.files if (stamp := _stamp_in(file.stem)) is not None]
        even = [_FIRST_NS + index * _PERIOD_NS for index in range(len(self.files))]
        self.stamps_ns = named if len(named) == len(self.files) and named == sorted(set(named)) else even
        self.topics = {POINTS_TOPIC: TopicInfo(POINTS_TOPIC, POINT_CLOUD, len(self.files))}
        self._store: Typestore | None = None

    def __enter__(self) -> ScanFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    @property
    def typestore(self) -> Typestore:
        """Message classes of ROS 2 Jazzy."""
        if self._store is None:
            require("rosbags", "making messages", "pip install rosbags")
            self._store = jazzy()
        return self._store

    ros2_typestore = typestore

    @property
    def start_ns(self) -> int:
        """Time of the first scan."""
        return self.stamps_ns[0]

    @property
    def end_ns(self) -> int:
        """Time of the last scan."""
        return self.stamps_ns[-1]

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last scan."""
        return (self.end_ns - self.start_ns) * 1e-9

    def find_points_topic(self, topic: str | None = None) -> str:
        """Return the one topic; raises BagError for another."""
        if topic not in (None, POINTS_TOPIC):
            raise BagError(f"{self.path} is a folder of clouds and has no topic {topic}; its scans are {POINTS_TOPIC}")
        return POINTS_TOPIC

    def scans(self, topic: str | None = None, on_error: Literal["raise", "skip"] = "raise") -> Iterator[Scan]:
        """Yield the scans; see `Bag.scans`. Files that cannot be read raise BagError in both modes: they were named by hand."""
        self.find_points_topic(topic)
        for file, stamp in zip(self.files, self.stamps_ns):
            yield scan_of(_READERS[file.suffix.lower()](file), file, stamp, FRAME)[0]

    def records(self, topics: Collection[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None) -> Iterator[Record]:
        """Yield the scans as serialised PointCloud2, every column of the file a field; see `Bag.records`."""
        for topic, stamp, message in self.messages(topics, start_ns, stop_ns):
            yield Record(topic, POINT_CLOUD, stamp, bytes(self.typestore.serialize_cdr(message, POINT_CLOUD)), self)  # type: ignore[arg-type]

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[str, int, Any]]:
        """Yield (topic, stamp_ns, PointCloud2); see `Bag.messages`."""
        for topic in topics or ():
            self.find_points_topic(topic)
        for file, stamp in zip(self.files, self.stamps_ns):
            if (start_ns is None or stamp >= start_ns) and (stop_ns is None or stamp < stop_ns):
                scan, rest = scan_of(_READERS[file.suffix.lower()](file), file, stamp, FRAME)
                yield POINTS_TOPIC, stamp, make_cloud(scan, self.typestore.types, _as_fields(rest))

    def deserialize(self, record: Record) -> Any:
        """Turn a record back into its message."""
        return self.typestore.deserialize_cdr(record.raw, record.type)

    def first(self, topic: str, read: Callable[[Any], T] = as_it_is) -> T | None:
        """Return what `read` makes of the first cloud."""
        return next((read(message) for _, _, message in self.messages([topic])), None)


Recording = Bag | ScanFolder


def open_recording(path: str | Path) -> Recording:
    """Choose the reader for a path: a folder of PLY/PCD files (or one such file), else a bag.

    Raises:
        BagError: it is neither.
    """
    path = Path(path)
    is_bag = path.is_dir() and (path / "metadata.yaml").exists()
    return ScanFolder(path) if not is_bag and cloud_files(path) else Bag(path)


def cloud_files(path: Path) -> list[Path]:
    """List the PLY and PCD files of a folder, numbers in names counted as numbers; one such file is a list of itself."""
    if path.is_file():
        return [path] if path.suffix.lower() in _READERS else []
    if not path.is_dir():
        return []
    # Copied by a Mac, x.ply has a companion ._x.ply that is none.
    files = [file for file in path.iterdir() if file.suffix.lower() in _READERS and file.is_file() and not file.name.startswith("._")]
    return sorted(files, key=lambda file: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.stem)])


def _stamp_in(stem: str) -> int | None:
    """Read a time from a file name: 19 digits are nanoseconds, 10 digits with a fraction seconds."""
    if re.fullmatch(r"\d{19}", stem):
        return int(stem)
    if match := re.fullmatch(r"(\d{10})[._](\d{1,9})", stem):
        return int(match[1]) * 1_000_000_000 + int(match[2].ljust(9, "0"))
    return None


def _as_fields(columns: Columns) -> Columns:
    """Keep the columns that a PointField can hold; 64-bit integers cannot."""
    return {
        name: values
        for name, values in columns.items()
        if values.dtype.kind in "iuf" and values.dtype not in (np.int64, np.uint64, np.float16)
    }
