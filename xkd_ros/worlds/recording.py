"""What a walkthrough measures, as ROS messages: the same fields, topics and stamps that the real drivers publish.

Comes in: scans, pictures, poses. Goes out: rosbags messages, for `simulate` to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from xkd_ros.core.errors import XkdError
from xkd_ros.core.rig import CameraConfig
from xkd_ros.core.se3 import invert, quaternion_from_rotation
from xkd_ros.core.types import CameraImage, Scan
from xkd_ros.msgs.build import make_camera_info, make_cloud, make_image, make_transforms
from xkd_ros.msgs.header import make_header
from xkd_ros.worlds.simulated_rig import ImageKind, SimulatedRig

BASE_FRAME, ODOM_FRAME = "base_link", "odom"
_JPEG_QUALITY = 92


def make_ouster_cloud(scan: Scan, rows: int, types: Mapping[str, Any]) -> Any:
    """Build the organised cloud of an Ouster driver: x y z intensity t reflectivity ring noise range, one row per beam."""
    if scan.intensity is None or scan.ring is None or scan.time_s is None:
        raise XkdError("an Ouster cloud needs intensity, ring and time of every point")
    distance = np.sqrt(np.einsum("ij,ij->i", scan.points_m, scan.points_m))
    extra = {
        "t": np.rint(scan.time_s.astype(float) * 1e9).astype(np.uint32),
        # The driver's reflectivity is the signal corrected for range.
        "reflectivity": np.clip(scan.intensity * np.square(distance) / 64, 0, 65535).astype(np.uint16),
        "ring": scan.ring.astype(np.uint8),
        "noise": np.clip(40 + 0.02 * scan.intensity, 0, 65535).astype(np.uint16),
        "range": np.rint(distance * 1000).astype(np.uint32),
    }
    return make_cloud(Scan(scan.points_m, scan.intensity, scan.stamp_ns, scan.frame_id), types, extra, rows)


def make_hesai_cloud(scan: Scan, types: Mapping[str, Any]) -> Any:
    """Build the cloud of a Hesai driver: x y z intensity ring timestamp (absolute seconds, float64), without missing returns."""
    if scan.time_s is None:
        raise XkdError("a Hesai cloud needs the time of every point")
    return make_cloud(replace(scan, time_s=None), types, {"timestamp": scan.stamp_ns * 1e-9 + scan.time_s.astype(float)})


def make_scan_message(scan: Scan, rig: SimulatedRig, rows: int, types: Mapping[str, Any]) -> Any:
    """Build the PointCloud2 of the rig's driver; Velodyne's is x y z intensity ring time, without missing returns."""
    driver = rig.simulation.driver
    if driver == "ouster":
        return make_ouster_cloud(scan, rows, types)
    return make_hesai_cloud(scan, types) if driver == "hesai" else make_cloud(scan, types)


def make_picture_message(image: CameraImage, kind: ImageKind, types: Mapping[str, Any]) -> Any:
    """Build an Image, or a CompressedImage as the compressed image transport writes it."""
    if kind != "jpeg":
        return make_image(image, types, grey=kind == "mono")
    import cv2

    good, data = cv2.imencode(".jpg", np.ascontiguousarray(image.rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not good:
        raise XkdError(f"picture of {image.rgb.shape} could not be compressed")
    header = make_header(image.stamp_ns, image.frame_id, types)
    return types["sensor_msgs/msg/CompressedImage"](header=header, format="rgb8; jpeg compressed bgr8", data=data.reshape(-1))


def make_info_message(config: CameraConfig, stamp_ns: int, types: Mapping[str, Any]) -> Any:
    """Build the CameraInfo that goes with a picture."""
    return make_camera_info(config.camera(), stamp_ns, config.frame_id, types)


def info_topic(image_topic: str) -> str:
    """Name the CameraInfo topic beside an image topic."""
    return image_topic.removesuffix("/compressed").rpartition("/")[0] + "/camera_info"


def make_static_transforms(rig: SimulatedRig, stamp_ns: int, types: Mapping[str, Any]) -> Any:
    """Build tf_static: base_link to lidar to every camera's optical frame."""
    lidar = rig.rig.lidar.frame_id
    transforms = {(BASE_FRAME, lidar): rig.base_from_lidar()}
    transforms |= {(lidar, camera.frame_id): invert(camera.transform()) for camera in rig.rig.cameras}
    return make_transforms(transforms, stamp_ns, types)


def make_odometry(stamp_ns: int, pose: np.ndarray, velocity_mps: np.ndarray, yaw_rate_radps: float, types: Mapping[str, Any]) -> Any:
    """Build a nav_msgs/Odometry of base_link in odom.

    Args:
        stamp_ns: Time of the pose.
        pose: (4, 4) odom_from_base.
        velocity_mps: (3,) in the base frame.
        yaw_rate_radps: Turn about the base's z axis.
        types: Message classes by ROS type name.
    """

    def vector(x: float, y: float, z: float) -> Any:
        return types["geometry_msgs/msg/Vector3"](x=float(x), y=float(y), z=float(z))

    qx, qy, qz, qw = (float(v) for v in quaternion_from_rotation(pose[:3, :3]))
    px, py, pz = (float(v) for v in pose[:3, 3])
    uncertain = np.diag([0.01, 0.01, 0.001, 0.001, 0.001, 0.01]).reshape(-1)
    return types["nav_msgs/msg/Odometry"](
        header=make_header(stamp_ns, ODOM_FRAME, types),
        child_frame_id=BASE_FRAME,
        pose=types["geometry_msgs/msg/PoseWithCovariance"](
            pose=types["geometry_msgs/msg/Pose"](
                position=types["geometry_msgs/msg/Point"](x=px, y=py, z=pz),
                orientation=types["geometry_msgs/msg/Quaternion"](x=qx, y=qy, z=qz, w=qw),
            ),
            covariance=uncertain,
        ),
        twist=types["geometry_msgs/msg/TwistWithCovariance"](
            twist=types["geometry_msgs/msg/Twist"](linear=vector(*velocity_mps), angular=vector(0, 0, yaw_rate_radps)),
            covariance=uncertain.copy(),
        ),
    )
