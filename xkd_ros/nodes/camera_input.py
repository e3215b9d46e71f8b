"""One camera that a node listens to: image topic, whatever its type, calibration from a rig file or CameraInfo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from xkd_ros.core.camera import Camera
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.rig import CameraConfig, RigConfig
from xkd_ros.core.se3 import make_transform
from xkd_ros.core.types import CameraImage
from xkd_ros.msgs.camera_info import base_topic, camera_from_info, is_rectified, rectification
from xkd_ros.msgs.image import decode_image
from xkd_ros.nodes.callbacks import every, guarded
from xkd_ros.nodes.parameters import split_names
from xkd_ros.nodes.qos import LATCHED, deaf_to, make_profile, subscription_events

_TYPES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}
_LOOK_EVERY_S = 0.2
# Best effort hears every publisher while it speaks. What a driver said once and keeps for whoever comes later, only a subscription
# that is latched itself is told; it hears no other.
_INFO_QOS = make_profile("best_effort", 1)


@dataclass(frozen=True)
class CameraSource:
    """Where a camera's data comes from; `config` is None without a rig file."""

    name: str
    image_topic: str
    info_topic: str
    config: CameraConfig | None = None


def list_sources(rig: RigConfig | None, images: str, camera_infos: str, camera_names: str) -> list[CameraSource]:
    """Find the cameras from the rig, or from the parameters; topics that are given stand before those of the rig.

    Raises:
        ConfigError: no camera, or lists of different lengths.
    """
    if rig is not None:
        topics = split_names(images) or [camera.topic for camera in rig.cameras] or _no_camera("the rig has no camera")
        infos = split_names(camera_infos) or [_info_beside(topic) for topic in topics]
        if not len(topics) == len(infos) == len(rig.cameras):
            raise ConfigError(f"{len(topics)} images, {len(infos)} camera_infos, {len(rig.cameras)} cameras of the rig: give one each")
        return [CameraSource(camera.name, topic, info, camera) for camera, topic, info in zip(rig.cameras, topics, infos)]
    topics = split_names(images) or _no_camera("no camera given: set rig to a rig YAML, or images to the image topics")
    infos = split_names(camera_infos) or [_info_beside(topic) for topic in topics]
    default = ["camera"] if len(topics) == 1 else [f"camera{number}" for number in range(len(topics))]
    names = split_names(camera_names) or default
    if not len(topics) == len(infos) == len(names) or len(set(names)) < len(names):
        raise ConfigError(f"{len(topics)} images, {len(infos)} camera_infos, {len(names)} camera_names: give one of each per camera")
    return [CameraSource(*source) for source in zip(names, topics, infos)]


def _no_camera(sentence: str) -> list[Any]:
    raise ConfigError(sentence)


def _info_beside(image_topic: str) -> str:
    """Guess the CameraInfo topic as image_transport does: the sibling of the image topic."""
    folder, slash, _ = base_topic(image_topic).rpartition("/")
    return f"{folder}{slash}camera_info"


class CameraInput:
    """Subscribes as soon as the type of the image topic is known.

    Attributes:
        source: Names of the inputs.
        info: The last CameraInfo, None before the first.
        image_type: Message class of the image topic, None while it is not known.
    """

    def __init__(self, node: Node, source: CameraSource, qos: QoSProfile, on_image: Callable[[bytes], None]) -> None:
        """Listen.

        Args:
            node: Owns the subscriptions.
            source: Names of the inputs.
            qos: Of images; CameraInfo is taken however it is offered.
            on_image: Gets each image, serialized.
        """
        self.source = source
        self.info: CameraInfo | None = None
        self.image_type: Any = None
        self._rectified = is_rectified(node.resolve_topic_name(source.image_topic))
        self._node, self._qos, self._on_image = node, qos, on_image
        take_info = guarded(node, self._on_info, "camera_info not used")
        node.create_subscription(CameraInfo, source.info_topic, take_info, _INFO_QOS)
        # What fits only one of the two is heard by that one; rclpy would call it lost.
        silent = SubscriptionEventCallbacks(use_default_callbacks=False)
        node.create_subscription(CameraInfo, source.info_topic, take_info, LATCHED, event_callbacks=silent)
        if source.image_topic.endswith("/compressed"):
            self._subscribe("sensor_msgs/msg/CompressedImage")
        else:
            every(node, _LOOK_EVERY_S, self._look_for_type, "image topics")

    @property
    def listening(self) -> bool:
        """Whether the image type is known and subscribed to."""
        return self.image_type is not None

    def deaf_to(self) -> list[str]:
        """Name the publishers of images and of CameraInfo that are not heard; one sentence each."""
        heard = [(self.source.info_topic, "sensor_msgs/msg/CameraInfo", _INFO_QOS)]
        heard += [(self.source.image_topic, name, self._qos) for name, image_type in _TYPES.items() if image_type is self.image_type]
        return [line for topic, kind, qos in heard for line in deaf_to(self._node, self._node.resolve_topic_name(topic), kind, qos)]

    def _look_for_type(self) -> None:
        """Subscribe when a publisher shows what the image topic carries."""
        if self.listening:
            return
        topic = self._node.resolve_topic_name(self.source.image_topic)
        for info in self._node.get_publishers_info_by_topic(topic):
            if info.topic_type in _TYPES:
                self._subscribe(info.topic_type)
                return

    def _subscribe(self, type_name: str) -> None:
        self.image_type = _TYPES[type_name]
        self._node.create_subscription(
            self.image_type,
            self.source.image_topic,
            guarded(self._node, self._on_image, "image not used"),
            self._qos,
            raw=True,
            event_callbacks=subscription_events(self._node, self.source.image_topic),
        )

    def _on_info(self, message: CameraInfo) -> None:
        self.info = message

    def decode(self, raw: bytes) -> CameraImage:
        """Decode a serialized image of this camera."""
        return decode_image(deserialize_message(raw, self.image_type))

    def intrinsics(self) -> Camera | None:
        """Return what the rig file says, else CameraInfo; None while nothing is known.

        Raises:
            CalibrationError: a CameraInfo that says nothing, such as that of an uncalibrated camera.
        """
        if self.source.config is not None:
            return self.source.config.camera()
        return None if self.info is None else camera_from_info(self.info, self._rectified)

    def camera(self, image: CameraImage) -> Camera | None:
        """Return the intrinsics for an image of this size; None and errors as for `intrinsics`."""
        camera = self.intrinsics()
        if camera is None:
            return None
        height, width = image.rgb.shape[:2]
        return camera if (camera.width, camera.height) == (width, height) else camera.scaled(width, height)

    def cam_from_lidar(self) -> np.ndarray | None:
        """Return the extrinsics of the rig file, (4, 4); None without one."""
        return None if self.source.config is None else self.source.config.transform()

    def turned_as_pictures(self, cam_from_lidar: np.ndarray) -> np.ndarray:
        """Turn extrinsics as pictures were turned when they were rectified; those of a rig file are so already.

        Args:
            cam_from_lidar: (4, 4), by TF, which knows the camera as it is mounted.
        """
        if self.source.config is not None or self.info is None or not self._rectified:
            return cam_from_lidar
        return make_transform(rectification(self.info), np.zeros(3)) @ cam_from_lidar
