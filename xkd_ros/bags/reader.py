"""Read any recording that `rosbags` opens: a rosbag2 folder (sqlite3, mcap), a bare .mcap or .db3, a ROS 1 .bag.

A path comes in, messages, scans and images go out in the order they were recorded; next: `pairs`, `runtime`, `nodes`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from xkd_ros.bags.livox import livox_cloud
from xkd_ros.bags.ros2_form import jazzy, ros2_definitions
from xkd_ros.bags.topics import IMAGES, SCANS, UNDECODED_LIDARS, TopicInfo, qos_of
from xkd_ros.core.errors import BagError, XkdError, require
from xkd_ros.core.types import CameraImage, Scan
from xkd_ros.msgs.cloud import decode_cloud, field_names
from xkd_ros.msgs.image import decode_image
from xkd_ros.msgs.livox import LIVOX

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader
    from rosbags.interfaces import Connection
    from rosbags.typesys.store import Typestore

_LOG = logging.getLogger(__name__)
_FILES = (".mcap", ".db3", ".bag")
_DERIVED = {"label", "rgb", "rgba"}
_FIRST_TRIES = 20
T = TypeVar("T")


def as_it_is(message: Any) -> Any:
    """Read nothing out of a message."""
    return message


@dataclass(frozen=True, eq=False)
class Record:
    """One message as it lies in the bag.

    Attributes:
        stamp_ns: When it was recorded; its header may say otherwise.
        raw: Its bytes, in the bag's own serialisation.
    """

    topic: str
    type: str
    stamp_ns: int
    raw: bytes
    bag: Bag = field(repr=False)

    def message(self) -> Any:
        """Deserialise; a Livox CustomMsg comes as the PointCloud2 it stands for.

        Raises:
            BagError: the bytes do not fit the type.
            CloudError: those of a Livox CustomMsg do not.
        """
        return livox_cloud(self) if self.type in LIVOX else self.bag.deserialize(self)


class Bag:
    """A recording, open while used as a context manager."""

    def __init__(self, path: str | Path) -> None:
        """Check that the path can be a bag; nothing is read yet.

        Raises:
            BagError: no such path, a folder without metadata, or an unknown kind of file.
        """
        require("rosbags", "reading bags", "pip install rosbags")
        self.path = _find(Path(path))
        self.topics: dict[str, TopicInfo] = {}
        self._reader: AnyReader | None = None
        self._ros2: Typestore | None = None
        self._span_ns = (0, 0)

    def __enter__(self) -> Bag:
        from rosbags.highlevel import AnyReader

        try:
            reader = AnyReader([self.path], default_typestore=jazzy())
            reader.open()
            # Nothing checks the kinds of the values in metadata.yaml: a text would fail here, not in the middle of the work.
            self._span_ns = (int(reader.start_time), int(reader.end_time) - 1) if reader.message_count > 0 else (0, 0)
        except Exception as error:  # a damaged file makes its parser fail in every way there is
            raise BagError(f"{self.path} cannot be opened: {_reason(error)}") from error
        self._reader = reader
        self.topics = {name: _topic_info(name, info.connections) for name, info in sorted(reader.topics.items())}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._reader is not None:
            # A damaged file may fail to close as well; what mattered was reported when it was read.
            with suppress(Exception):
                self._reader.close()
            self._reader = None

    @property
    def is_ros1(self) -> bool:
        """Whether messages are in ROS 1 serialisation."""
        return not self._open().is2

    @property
    def typestore(self) -> Typestore:
        """Message classes of this bag."""
        return self._open().typestore

    @property
    def ros2_typestore(self) -> Typestore:
        """Definitions of this bag's types as ROS 2 has them; its own unless it is a ROS 1 bag."""
        if not self.is_ros1:
            return self.typestore
        if self._ros2 is None:
            self._ros2 = ros2_definitions(self.typestore, {info.type for info in self.topics.values()})
        return self._ros2

    @property
    def start_ns(self) -> int:
        """Time of the first message; 0 in an empty bag."""
        self._open()
        return self._span_ns[0]

    @property
    def end_ns(self) -> int:
        """Time of the last message; 0 in an empty bag."""
        self._open()
        return self._span_ns[1]

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last message."""
        return (self.end_ns - self.start_ns) * 1e-9

    def records(self, topics: Collection[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None) -> Iterator[Record]:
        """Yield messages as they lie in the bag, in recorded order.

        Args:
            topics: Only these; None is all.
            start_ns, stop_ns: Only messages recorded in [start, stop).
        Raises:
            BagError: a topic that is not there (lists those that are), or a damaged place; all before it was yielded.
        """
        reader = self._open()
        wanted = set(self.topics if topics is None else map(self._known, topics))
        connections = [connection for connection in reader.connections if connection.topic in wanted]
        if not connections:
            return
        stream = reader.messages(connections, start=start_ns, stop=stop_ns)
        count, last_ns = 0, self.start_ns
        while True:
            try:
                connection, stamp, raw = next(stream)
            except StopIteration:
                return
            except Exception as error:  # as in __enter__
                where = f"after {count} messages, {(last_ns - self.start_ns) * 1e-9:.1f} s from its start"
                raise BagError(f"{self.path} is damaged {where}: {_reason(error)}") from error
            count, last_ns = count + 1, stamp
            yield Record(connection.topic, connection.msgtype, stamp, raw, self)

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[tuple[str, int, Any]]:
        """Yield (topic, recorded stamp_ns, message); arguments and errors as for `records`."""
        yield from ((record.topic, record.stamp_ns, record.message()) for record in self.records(topics, start_ns, stop_ns))

    def deserialize(self, record: Record) -> Any:
        """Turn the bytes of a record into an object of its own type; see `Record.message`."""
        try:
            return self._open().deserialize(record.raw, record.type)
        except Exception as error:  # as in __enter__
            reason = f"its type is not defined in the bag ({error})" if isinstance(error, KeyError) else _reason(error)
            raise BagError(
                f"message of {record.topic} ({record.type}) at {record.stamp_ns} ns in {self.path} cannot be read: {reason}"
            ) from error

    def first(self, topic: str, read: Callable[[Any], T] = as_it_is) -> T | None:
        """Return what `read` makes of the first message of a topic that can be read, or None when there is none among the first ones."""
        for record in islice(self.records([topic]), _FIRST_TRIES):
            with suppress(XkdError):
                return read(record.message())
        return None

    def scans(self, topic: str | None = None, on_error: Literal["raise", "skip"] = "raise") -> Iterator[Scan]:
        """Yield the decoded clouds of a topic; see `find_points_topic` for None.

        A cloud whose header has no stamp gets the time it was recorded at.

        Raises:
            BagError, CloudError: with `on_error="skip"` a cloud that cannot be read is logged and left out.
        """
        for record in self.records([self.find_points_topic(topic)]):
            try:
                scan = decode_cloud(record.message())
            except XkdError as error:
                if on_error == "raise":
                    raise type(error)(f"{record.topic} at {record.stamp_ns} ns: {error}") from error
                _LOG.warning("skipped a cloud of %s at %d ns: %s", record.topic, record.stamp_ns, error)
                continue
            yield scan if scan.stamp_ns else replace(scan, stamp_ns=record.stamp_ns)

    def images(self, topic: str) -> Iterator[CameraImage]:
        """Yield the decoded images of a topic.

        Raises:
            BagError: no such topic, or not an image topic.
            XkdError: an image that cannot be decoded.
        """
        self._require_type(topic, IMAGES, "an image")
        for _, stamp, message in self.messages([topic]):
            image = decode_image(message)
            yield image if image.stamp_ns else replace(image, stamp_ns=stamp)

    def find_points_topic(self, topic: str | None = None) -> str:
        """Check the given lidar topic, or find the only one there is.

        Clouds that were already labelled or coloured (fields `label`, `rgb`) do not count while another one is there.

        Raises:
            BagError: no cloud at all, several to choose from, or the given one is neither PointCloud2 nor Livox CustomMsg.
        """
        if topic is not None:
            self._require_type(topic, SCANS, "a PointCloud2")
            return topic
        clouds = [info.name for info in self.topics.values() if info.type in SCANS and info.count]
        if len(clouds) > 1:
            clouds = [n for n in clouds if self.topics[n].type in LIVOX or not _DERIVED & set(self.first(n, field_names) or ())] or clouds
        if len(clouds) == 1:
            return clouds[0]
        if clouds:
            how = "choose one, by --topic where there is that option, else by a rig file"
            raise BagError(f"{self.path} has several lidar topics: {', '.join(clouds)}; {how}")
        raise BagError(f"{self.path} has no PointCloud2 messages; {self._instead()}")

    def _require_type(self, topic: str, types: Collection[str], what: str) -> None:
        if (found := self.topics[self._known(topic)].type) not in types:
            right = ", ".join(info.name for info in self.topics.values() if info.type in types) or "none"
            raise BagError(f"topic {topic} in {self.path} is {found}, not {what}; topics that are: {right}")

    def _known(self, topic: str) -> str:
        if topic not in self.topics:
            close = get_close_matches(topic, self.topics, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            listing = ", ".join(f"{info.name} [{info.type.replace('/msg/', '/')}]" for info in self.topics.values()) or "none"
            raise BagError(f"{self.path} has no topic {topic}{hint}; it has {listing}")
        return topic

    def _instead(self) -> str:
        for info in self.topics.values():
            if info.type in UNDECODED_LIDARS:
                return f"{info.name} is {info.type}: {UNDECODED_LIDARS[info.type]}"
        return f"it has {', '.join(self.topics) or 'no topics'}"

    def _open(self) -> AnyReader:
        if self._reader is None:
            raise BagError(f"{self.path} is not open; use it as `with Bag(path) as bag:`")
        return self._reader


def _topic_info(name: str, connections: list[Connection]) -> TopicInfo:
    first = connections[0]
    qos = next((qos for connection in connections if (qos := qos_of(connection)) is not None), None)
    return TopicInfo(name, first.msgtype, sum(connection.msgcount for connection in connections), qos)


def _find(path: Path) -> Path:
    """Check what kind of recording lies at a path."""
    if path.name == "metadata.yaml":
        path = path.parent
    if not path.exists():
        siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
        close = get_close_matches(path.name, siblings, n=1)
        raise BagError(f"bag {path} does not exist" + (f"; did you mean {path.with_name(close[0])}?" if close else "; check the path"))
    if path.is_dir():
        if not (path / "metadata.yaml").is_file():
            files = sorted(file.name for file in path.iterdir() if file.suffix in _FILES)
            within = sorted(folder.name for folder in path.iterdir() if (folder / "metadata.yaml").is_file())
            hint = f"open {path / files[0]} itself, or run `ros2 bag reindex {path}`" if files else "it is not a bag folder"
            if within and not files:
                hint = f"it holds {len(within)} recordings: name them one by one, such as {path / within[0]}, or all with {path}/*"
            raise BagError(f"folder {path} has no metadata.yaml; {hint}")
    elif path.suffix not in _FILES:
        hint = "; run `rosbag reindex` on it first" if path.name.endswith(".bag.active") else ""
        raise BagError(f"{path} is not a bag: a rosbag2 folder, {', '.join(_FILES)} are{hint}")
    elif path.stat().st_size == 0:
        raise BagError(f"{path} is empty (0 bytes): the recording was never written")
    return path


def _reason(error: Exception) -> str:
    """Say in one line why a parser failed."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if "end magic" in text or "footer" in text:
        return "it was cut off (recording killed or copy incomplete); repair it with `mcap recover` or `ros2 bag reindex`"
    if "not indexed" in text or "Bag index" in text:
        return "it was cut off before its index was written; run `rosbag reindex` on it"
    if "Profile is not ros2" in text:
        return "it is an mcap file of something else than ROS 2"
    if isinstance(error, (TypeError, ValueError, KeyError, AssertionError, IndexError)) or len(text) > 300:
        return f"its content is damaged ({type(error).__name__}: {text[:150]})"
    return text
