"""Writes pairs to a bag as they are made; the bag appears under its name when it is closed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message

from xkd_ros.bags.ros2_form import ros2_types
from xkd_ros.bags.topics import LATCHED, RecordedQos
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import BagError
from xkd_ros.msgs.build import make_transforms


class PairRecorder:
    """A new mcap bag of scans, images, their CameraInfo and the extrinsics, ready for training."""

    def __init__(self, path: str | Path) -> None:
        """Open the bag.

        Raises:
            BagError: the path exists or cannot be written.
        """
        self._writer = BagWriter(path).__enter__()
        self._qos = RecordedQos()
        self.has_transforms = False

    def write(self, topic: str, message_type: Any, raw: bytes, stamp_ns: int) -> None:
        """Append a serialized message of an rclpy type."""
        package, _, kind = message_type.__module__.partition(".msg")[0], "", message_type.__name__
        self._writer.write_serialized(topic, f"{package}/msg/{kind}", raw, stamp_ns, self._qos)

    def write_message(self, topic: str, message: Any, stamp_ns: int) -> None:
        """Append an rclpy message."""
        self.write(topic, type(message), serialize_message(message), stamp_ns)

    def write_transforms(self, transforms: Mapping[tuple[str, str], np.ndarray], stamp_ns: int) -> None:
        """Write the extrinsics once, as /tf_static: (parent, child) to parent_from_child."""
        self._writer.write("/tf_static", make_transforms(transforms, stamp_ns, ros2_types()), stamp_ns, LATCHED)
        self.has_transforms = True

    def close(self) -> None:
        """Finish the bag.

        Raises:
            BagError: no room or no permission.
        """
        self._writer.__exit__(None, None, None)

    def discard(self) -> None:
        """Forget everything; nothing appears under the bag's name."""
        self._writer.__exit__(BagError, BagError("discarded"), None)
