"""What a recording says about its topics, in the words of ROS and without the reader's own types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from xkd_ros.msgs.livox import LIVOX

if TYPE_CHECKING:
    from rosbags.interfaces import Connection, Qos

POINT_CLOUD = "sensor_msgs/msg/PointCloud2"
SCANS = (POINT_CLOUD, *LIVOX)
IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
ODOMETRY = "nav_msgs/msg/Odometry"
TRANSFORMS = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")

# What lidar drivers record before their own decoder has run, and what turns it into a PointCloud2.
UNDECODED_LIDARS = {
    "velodyne_msgs/msg/VelodyneScan": "replay it through velodyne_pointcloud",
    "ouster_msgs/msg/PacketMsg": "replay it through ouster_ros",
    "ouster_ros/msg/PacketMsg": "replay it through ouster_ros",
    "ouster_sensor_msgs/msg/PacketMsg": "replay it through ouster_ros",
    "nebula_msgs/msg/NebulaPackets": "replay it through nebula_ros",
    "sensor_msgs/msg/PointCloud": "replay it through point_cloud_converter",
    "sensor_msgs/msg/LaserScan": "a planar scanner is not enough; record a 3D lidar",
}

# rmw's "infinite" duration.
_FOREVER = (9223372036, 854775807)


@dataclass(frozen=True)
class RecordedQos:
    """Quality of service a topic was recorded with, for publishing it again in the same way."""

    reliability: Literal["reliable", "best_effort"] = "reliable"
    durability: Literal["volatile", "transient_local"] = "volatile"
    history: Literal["keep_last", "keep_all"] = "keep_last"
    depth: int = 10

    def to_rosbags(self) -> Qos:
        """Build the record that rosbags writes."""
        from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

        forever = QosTime(*_FOREVER)
        return Qos(
            QosHistory[self.history.upper()],
            self.depth,
            QosReliability[self.reliability.upper()],
            QosDurability[self.durability.upper()],
            forever,
            forever,
            QosLiveliness.AUTOMATIC,
            forever,
            False,
        )


LATCHED = RecordedQos(durability="transient_local", depth=1)


@dataclass(frozen=True)
class TopicInfo:
    """One topic of a recording; `qos` is None where the recording does not say."""

    name: str
    type: str
    count: int
    qos: RecordedQos | None = None


def qos_of(connection: Connection) -> RecordedQos | None:
    """Read the recorded quality of service of a rosbags connection; ROS 1 knows only latching."""
    ext: Any = connection.ext
    if hasattr(ext, "latching"):
        return LATCHED if ext.latching else None
    if not ext.offered_qos_profiles:
        return None
    qos = ext.offered_qos_profiles[0]
    return RecordedQos(
        "best_effort" if qos.reliability.name == "BEST_EFFORT" else "reliable",
        "transient_local" if qos.durability.name == "TRANSIENT_LOCAL" else "volatile",
        "keep_all" if qos.history.name == "KEEP_ALL" else "keep_last",
        max(1, int(qos.depth)),
    )
