"""One camera of the synchronizer: its input, and the topics that the images of its pairs go out on."""

from __future__ import annotations

from collections.abc import Callable

from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, RegionOfInterest
from std_msgs.msg import Header

from xkd_ros.msgs.build import make_camera_info
from xkd_ros.msgs.header import make_time
from xkd_ros.nodes.camera_input import CameraInput, CameraSource
from xkd_ros.nodes.restamp import header_frame_id, header_stamp_ns, shift_stamp

_INFO_TYPES = {
    "sensor_msgs/msg/CameraInfo": CameraInfo,
    "sensor_msgs/msg/RegionOfInterest": RegionOfInterest,
    "std_msgs/msg/Header": Header,
    "builtin_interfaces/msg/Time": Time,
}


class CameraStream(CameraInput):
    """An input that also publishes the images of pairs."""

    def __init__(
        self,
        node: Node,
        source: CameraSource,
        qos_in: QoSProfile,
        qos_out: QoSProfile,
        on_image: Callable[[bytes], None],
    ) -> None:
        """Create the topics.

        Args:
            node: Owns them.
            source: Names of the inputs.
            qos_in, qos_out: Of images.
            on_image: Gets each image, serialized.
        """
        self._qos_out = qos_out
        self._image_output: Publisher | None = None
        self._info_output = node.create_publisher(CameraInfo, f"synced/{source.name}/camera_info", qos_out)
        super().__init__(node, source, qos_in, on_image)

    def _subscribe(self, type_name: str) -> None:
        super()._subscribe(type_name)
        topic = f"synced/{self.source.name}/image"
        topic += "/compressed" if self.image_type is CompressedImage else ""
        self._image_output = self._node.create_publisher(self.image_type, topic, self._qos_out)

    def publish(self, raw: bytes, stamp_ns: int | None) -> None:
        """Send the image of a pair and its CameraInfo.

        Args:
            raw: The serialized image.
            stamp_ns: Stamp for both headers; None keeps the image's own.
        """
        assert self._image_output is not None  # the image came through this stream
        if self._image_output.get_subscription_count():
            self._image_output.publish(raw if stamp_ns is None else shift_stamp(self.image_type, raw, lambda _: stamp_ns))
        if self._info_output.get_subscription_count():
            info = self.info_message(raw, stamp_ns)
            if info is not None:
                self._info_output.publish(info)

    def frame(self, raw: bytes) -> str:
        """Return the frame of an image; of one without, that of the rig file, of its CameraInfo, or the camera's name."""
        given = self.source.config.frame_id if self.source.config is not None else ""
        sent = self.info.header.frame_id.lstrip("/") if self.info is not None else ""
        return header_frame_id(self.image_type, raw) or given or sent or self.source.name

    def info_message(self, raw: bytes, stamp_ns: int | None = None) -> CameraInfo | None:
        """Build the CameraInfo of an image: what the rig file says, else what the camera sent, else None.

        Args:
            raw: The serialized image; its frame is that of a CameraInfo without.
            stamp_ns: None takes the image's own.
        """
        stamp = header_stamp_ns(self.image_type, raw) or 0 if stamp_ns is None else stamp_ns
        config = self.source.config
        if config is not None:
            return make_camera_info(config.camera(), stamp, config.frame_id or self.frame(raw), _INFO_TYPES)
        if self.info is not None:
            self.info.header.stamp = make_time(stamp, _INFO_TYPES)
            self.info.header.frame_id = self.info.header.frame_id or self.frame(raw)
        return self.info
