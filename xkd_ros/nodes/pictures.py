"""The pictures next to the stamp of a scan, from live topics and calibrated, for the fused head. Without one there is a reason."""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from types import SimpleNamespace

from rclpy.node import Node

from xkd_ros.bags.frame import DecodedView, View
from xkd_ros.core.errors import CalibrationError, XkdError
from xkd_ros.core.rig import load_rig
from xkd_ros.nodes.camera_input import CameraInput, list_sources
from xkd_ros.nodes.extrinsics import Extrinsics
from xkd_ros.nodes.qos import make_profile
from xkd_ros.nodes.restamp import header_stamp_ns

_DEPTH = 5
# A scan may wait for the one in work; its picture must still be there then.
_KEPT_NS, _KEPT_BYTES = 3_000_000_000, 128 << 20


class Pictures:
    """Listens to cameras and remembers their last seconds, as they came: only what is looked at is decoded."""

    def __init__(self, node: Node, values: SimpleNamespace) -> None:
        """Begin to listen.

        Args:
            node: Owns the subscriptions.
            values: rig, images, camera_infos, input_reliability, and fused_max_dt_s, the largest time between scan and picture.
        Raises:
            ConfigError: no camera is named, or the rig file is wrong.
        """
        rig = load_rig(values.rig) if values.rig else None
        sources = list_sources(rig, values.images, values.camera_infos, "")
        self._max_dt_ns = round(values.fused_max_dt_s * 1e9)
        self._extrinsics = Extrinsics(node) if rig is None else None
        self._lock = threading.Lock()
        self._kept: list[deque[tuple[int, bytes]]] = [deque() for _ in sources]
        profile = make_profile(values.input_reliability, _DEPTH)
        self._cameras = [CameraInput(node, source, profile, partial(self._on_image, number)) for number, source in enumerate(sources)]

    def deaf_to(self) -> tuple[str, ...]:
        """Name the publishers of images and of CameraInfo that are not heard; one sentence each."""
        return tuple(sentence for camera in self._cameras for sentence in camera.deaf_to())

    def views(self, stamp_ns: int, lidar_frame: str) -> tuple[tuple[View, ...], str]:
        """Find the nearest picture of each camera, without waiting.

        Args:
            stamp_ns: Of the scan.
            lidar_frame: Of the scan.
        Returns:
            The pictures that are near enough in time and calibrated; and why a camera gives none, "" where all give one.
        """
        views, reasons = [], []
        for number, camera in enumerate(self._cameras):
            try:
                views.append(self._view(number, camera, stamp_ns, lidar_frame))
            except XkdError as error:
                reasons.append(str(error))
        return tuple(views), "; ".join(reasons)

    def _view(self, number: int, camera: CameraInput, stamp_ns: int, lidar_frame: str) -> View:
        topic = camera.source.image_topic
        with self._lock:
            nearest = min(self._kept[number], key=lambda item: abs(item[0] - stamp_ns), default=None)
        if nearest is None:
            raise XkdError(f"no picture has arrived on {topic}")
        at_ns, raw = nearest
        if abs(at_ns - stamp_ns) > self._max_dt_ns:
            raise XkdError(f"no picture on {topic} within {1e-6 * self._max_dt_ns:.0f} ms of the scan")
        image = camera.decode(raw)
        intrinsics = camera.camera(image)
        if intrinsics is None:
            raise CalibrationError(f"no CameraInfo has arrived on {camera.source.info_topic}")
        transform = camera.cam_from_lidar()
        if transform is None:
            assert self._extrinsics is not None  # a camera without a rig file
            transform = camera.turned_as_pictures(self._extrinsics.find(image.frame_id, lidar_frame))
        return DecodedView(camera.source.name, intrinsics, transform, at_ns - stamp_ns, b"", image.rgb)

    def _on_image(self, number: int, raw: bytes) -> None:
        at_ns = header_stamp_ns(self._cameras[number].image_type, raw)
        if at_ns is None:
            return
        with self._lock:
            kept = self._kept[number]
            if kept and at_ns < kept[-1][0] - _KEPT_NS // 10:
                kept.clear()  # a bag that begins anew
            kept.append((at_ns, raw))
            while len(kept) > 1 and (kept[0][0] < at_ns - _KEPT_NS or len(kept) * len(raw) > _KEPT_BYTES):
                kept.popleft()
