"""Write a rosbag2 recording that appears under its name only when it is complete."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, get_args

from xkd_ros.bags.reader import Record
from xkd_ros.bags.ros2_form import jazzy, ros2_bytes, ros2_type
from xkd_ros.bags.topics import RecordedQos
from xkd_ros.core.errors import BagError, ConfigError, XkdError, require
from xkd_ros.core.files import atomic_path

if TYPE_CHECKING:
    from rosbags.interfaces import Connection
    from rosbags.rosbag2 import Writer
    from rosbags.typesys.store import Typestore

Storage = Literal["mcap", "sqlite3"]
_SUFFIXES: dict[str, Storage] = {".mcap": "mcap", ".db3": "sqlite3"}
# The metadata version that ROS 2 Jazzy writes.
_VERSION: Literal[9] = 9
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class BagWriter:
    """A recording in the making.

    A path ending in .mcap or .db3 becomes that single file, any other a rosbag2 folder. Until the block ends well
    everything lies in a temporary sibling, which is removed when it does not.
    """

    def __init__(
        self,
        path: str | Path,
        storage: Storage | None = None,
        overwrite: bool = False,
        typestore: Typestore | None = None,
    ) -> None:
        """Choose the target.

        Args:
            path: File or folder to write.
            storage: Kind of storage; None is the one the path's ending names, else mcap.
            overwrite: Replace what is there, once the new recording is complete.
            typestore: Message definitions; None is ROS 2 Jazzy.
        Raises:
            BagError: the path exists and may not be overwritten.
            ConfigError: unknown storage, one that contradicts the ending of the path, or the ending of ROS 1.
        """
        require("rosbags", "writing bags", "pip install rosbags")
        self.path = Path(path)
        named = _SUFFIXES.get(self.path.suffix)
        if self.path.suffix == ".bag":
            raise ConfigError(f"{self.path} is a name of ROS 1; write {self.path.with_suffix('.mcap')}, or a folder without an ending")
        if storage is not None and storage not in get_args(Storage):
            raise ConfigError(f"bag storage '{storage}' is unknown; use {' or '.join(get_args(Storage))}")
        if storage is not None and named is not None and storage != named:
            raise ConfigError(f"{self.path} ends like {named} but storage {storage} was asked for; make them agree")
        if self.path.exists() and not overwrite:
            raise BagError(f"{self.path} exists already; choose another name, or remove it")
        self.storage: Storage = storage or named or "mcap"
        self._single_file = named is not None
        self._typestore = typestore or jazzy()
        self._stack = ExitStack()
        self._writer: Writer | None = None
        self._broken: BagError | None = None
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> BagWriter:
        from rosbags.rosbag2 import StoragePlugin, Writer

        try:
            self._part = self._stack.enter_context(atomic_path(self.path))
            # rosbags names the file inside after the folder, hence a folder of the final name inside the temporary one.
            self._folder = self._part / self.path.stem if self._single_file else self._part / self.path.name
            writer = Writer(self._folder, version=_VERSION, storage_plugin=StoragePlugin[self.storage.upper()])
            writer.open()
        except (OSError, sqlite3.Error, XkdError) as error:
            self._discard(error)
            raise self._failure(error) from error
        self._writer = writer
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        failed = error or self._broken
        try:
            if failed is None:
                writer.close()
                self._settle()
                self._stack.close()
        except (OSError, sqlite3.Error, XkdError) as problem:
            failed = problem
            raise self._failure(problem) from problem
        finally:
            if failed is not None:
                with suppress(Exception):
                    writer.abort()
                self._discard(failed)
        if error is None and failed is not None:
            raise failed

    def _discard(self, error: BaseException) -> None:
        """Remove what was written; whatever goes wrong with it must not hide `error`."""
        with suppress(Exception):
            self._stack.__exit__(type(error), error, error.__traceback__)

    def write(self, topic: str, message: Any, stamp_ns: int, qos: RecordedQos | None = None) -> None:
        """Append a message.

        Args:
            topic: Its topic; keeps the type and qos of the first message.
            message: A rosbags message object. For rclpy messages serialise first and use `write_serialized`.
            stamp_ns: Time of recording.
            qos: Quality of service to replay it with.
        Raises:
            BagError: no room or no permission, after which nothing is kept; or a message that does not fit its type.
        """
        kind = getattr(message, "__msgtype__", None)
        if kind is None:
            raise BagError(f"{type(message).__name__} for {topic} is no rosbags message; serialise it and use write_serialized")
        try:
            raw = self._typestore.serialize_cdr(message, kind)
        except Exception as error:  # whatever a wrong field value makes the generated serialiser do
            raise BagError(f"message for {topic} does not fit {kind}: {error}") from error
        self.write_serialized(topic, kind, raw, stamp_ns, qos)

    def write_serialized(
        self,
        topic: str,
        type_name: str,
        raw: bytes | memoryview,
        stamp_ns: int,
        qos: RecordedQos | None = None,
        typestore: Typestore | None = None,
    ) -> None:
        """Append a message that is already in CDR serialisation, such as rclpy's `serialize_message` gives.

        Args:
            typestore: Where the definition of the type stands when it is not a ROS 2 standard type.
        Raises:
            BagError: as for `write`, or a type without definition.
        """
        if self._writer is None:
            raise BagError(f"{self.path} is not open; use it as `with BagWriter(path) as writer:`")
        try:
            if topic not in self._connections:
                self._connections[topic] = self._connect(topic, type_name, qos, typestore or self._typestore)
            elif self._connections[topic].msgtype != type_name:
                raise BagError(f"topic {topic} holds {self._connections[topic].msgtype}, not {type_name}; use another topic")
            self._writer.write(self._connections[topic], stamp_ns, raw)
        except (OSError, sqlite3.Error) as error:
            # Half a message may stand in the file now: closing it well would pass it off as whole.
            self._broken = self._failure(error)
            raise self._broken from error

    def copy(self, record: Record, topic: str | None = None) -> None:
        """Append a message of another bag unchanged; one of a ROS 1 bag is translated to ROS 2.

        Args:
            record: From `Bag.records`.
            topic: New name of its topic; None keeps it.
        Raises:
            BagError: as for `write`; a ROS 1 type that has no ROS 2 form.
        """
        qos = record.bag.topics[record.topic].qos
        kind = ros2_type(record.type)
        self.write_serialized(topic or record.topic, kind, ros2_bytes(record), record.stamp_ns, qos, record.bag.ros2_typestore)

    def _connect(self, topic: str, type_name: str, qos: RecordedQos | None, typestore: Typestore) -> Connection:
        assert self._writer is not None
        if type_name not in typestore.fielddefs:
            raise BagError(f"type {type_name} of topic {topic} has no definition here; pass a typestore that knows it")
        profiles = [qos.to_rosbags()] if qos is not None else []
        return self._writer.add_connection(topic, type_name, typestore=typestore, offered_qos_profiles=profiles)

    def _settle(self) -> None:
        """Move what was written from the inner folder to where the temporary path itself must lead."""
        if not self._single_file:
            for file in self._folder.iterdir():
                file.rename(self._part / file.name)
            self._folder.rmdir()
            return
        aside = self._part.with_name(self._part.name + ".file")
        next(self._folder.glob(f"*{self.path.suffix}")).rename(aside)
        shutil.rmtree(self._part)
        aside.rename(self._part)

    def _failure(self, error: Exception) -> BagError:
        """Name the two things that go wrong with disks."""
        cause = error if isinstance(error, OSError) else error.__cause__
        number = cause.errno if isinstance(cause, OSError) else None
        text = " ".join(str(error).split())
        if number in _NO_ROOM or "disk is full" in text or "disk I/O error" in text:
            reason = "the disk refuses" if "I/O" in text else "no room left for"
            free = shutil.disk_usage(_existing(self.path)).free / 1e6
            return BagError(f"{reason} {self.path} ({free:.0f} MB free); nothing was kept: free space or choose another disk")
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            return BagError(f"no permission to write {self.path}; choose another folder or change its owner")
        return BagError(text if str(self.path) in text else f"cannot write {self.path}: {text}")


def _existing(path: Path) -> Path:
    """Return the nearest folder above a path that exists."""
    return next(parent for parent in path.absolute().parents if parent.exists())
