"""Writes pairs to a bag as they are made; the bag appears under its name when it is closed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, PointCloud2

from xkd_ros.bags.ros2_form import ros2_types
from xkd_ros.bags.topics import LATCHED, RecordedQos
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core import se3
from xkd_ros.core.errors import BagError, CalibrationError
from xkd_ros.msgs.build import make_transforms
from xkd_ros.nodes.camera_stream import CameraStream
from xkd_ros.nodes.restamp import header_frame_id, header_stamp_ns

FindTransform = Callable[[CameraStream, str, str], np.ndarray | None]
"""Gives cam_from_lidar (4, 4) of a camera, its frame and the lidar's; None while it is not known."""

# A full disk in the middle of a message would cost the whole bag: it ends while there is room to end it.
_ROOM_BYTES = 64 << 20


class PairRecorder:
    """A new mcap bag of scans, images, their CameraInfo and the extrinsics, ready for training. Nothing is decoded for it.

    Attributes:
        path: Where the bag will be.
        pairs: How many are written.
    """

    def __init__(self, path: str | Path, points_topic: str, cameras: Sequence[CameraStream], cam_from_lidar: FindTransform) -> None:
        """Open the bag.

        Args:
            path: New folder.
            points_topic: Name that the scans get in it.
            cameras: Their topics and CameraInfo.
            cam_from_lidar: Asked with each pair until all cameras are known.
        Raises:
            BagError: the path exists or cannot be written.
        """
        self.path = Path(path)
        self.pairs = 0
        self._points_topic, self._cameras, self._cam_from_lidar = points_topic, cameras, cam_from_lidar
        self._extrinsics: dict[str, tuple[tuple[str, str], np.ndarray]] = {}  # by camera: (parent, child), parent_from_child
        self._intrinsics: dict[str, str] = {}  # by camera: what is wrong with them, or ""
        self._qos = RecordedQos()
        self._writer = BagWriter(path).__enter__()

    def record(self, scan: bytes, images: Sequence[bytes | None], stamp_ns: int) -> None:
        """Write a pair as it came.

        Args:
            scan: Serialized PointCloud2.
            images: Serialized image of each camera, or None.
            stamp_ns: Of the scan.
        Raises:
            BagError: the disk is nearly full or refuses. Nothing more can be recorded; `close` may still keep what was.
        """
        if (free := shutil.disk_usage(self.path.parent).free) < _ROOM_BYTES:
            raise BagError(f"no room left for {self.path} ({free / 1e6:.0f} MB free); free space or choose another disk")
        self._find_extrinsics(header_frame_id(PointCloud2, scan), images, stamp_ns)
        self._write(self._points_topic, PointCloud2, scan, stamp_ns)
        for camera, image in zip(self._cameras, images):
            if image is None:
                continue
            image_stamp = header_stamp_ns(camera.image_type, image) or stamp_ns
            self._write(camera.source.image_topic, camera.image_type, image, image_stamp)
            if (info := camera.info_message(image, image_stamp)) is not None:
                self._write(camera.source.info_topic, CameraInfo, serialize_message(info), image_stamp)
                self._check_intrinsics(camera)
        self.pairs += 1

    def lacks(self) -> list[str]:
        """Say what keeps the pairs so far from being of use; one sentence each."""
        if not self.pairs:
            return []
        sources = [camera.source for camera in self._cameras]
        infos = [source.info_topic for source in sources if source.name not in self._intrinsics]
        wrong = [problem for problem in self._intrinsics.values() if problem]
        names = [source.name for source in sources if source.name not in self._extrinsics]
        sentences = [f"the recording lacks intrinsics: no CameraInfo on {', '.join(infos)}; start it or give a rig file"] if infos else []
        sentences += [f"the recording lacks intrinsics: {problem}" for problem in wrong]
        if names:
            sentences.append(f"the recording lacks extrinsics: nothing connects the scan with {', '.join(names)}; give a rig file or TF")
        return sentences

    def close(self) -> bool:
        """Finish the bag; one without pairs is not kept. Returns whether it is there.

        Raises:
            BagError: no room or no permission; nothing is kept then.
        """
        if not self.pairs:
            self._writer.__exit__(BagError, BagError("no pairs"), None)
            return False
        self._writer.__exit__(None, None, None)
        return True

    def _check_intrinsics(self, camera: CameraStream) -> None:
        if self._intrinsics.get(camera.source.name) == "":
            return
        try:
            camera.intrinsics()
            problem = ""
        except CalibrationError as error:
            problem = str(error)
        self._intrinsics[camera.source.name] = problem

    def _find_extrinsics(self, lidar_frame: str, images: Sequence[bytes | None], stamp_ns: int) -> None:
        """Write /tf_static once, when all cameras are known."""
        missing = [camera for camera in self._cameras if camera.source.name not in self._extrinsics]
        if not missing:
            return
        for camera, image in zip(self._cameras, images):
            if camera in missing and image is not None:
                frame = camera.frame(image)
                transform = self._cam_from_lidar(camera, frame, lidar_frame)
                if transform is not None:
                    self._extrinsics[camera.source.name] = (lidar_frame, frame), se3.invert(transform)
        if len(self._extrinsics) == len(self._cameras):
            message = make_transforms(dict(self._extrinsics.values()), stamp_ns, ros2_types())
            self._writer.write("/tf_static", message, max(0, stamp_ns), LATCHED)

    def _write(self, topic: str, message_type: Any, raw: bytes, stamp_ns: int) -> None:
        package = message_type.__module__.partition(".msg")[0]
        # Bags know no time before 1970; a driver that knows no better must not cost the others their recording.
        self._writer.write_serialized(topic, f"{package}/msg/{message_type.__name__}", raw, max(0, stamp_ns), self._qos)
