"""Numpy to ROS messages, for simulation and offline work. Message classes come in as a mapping by ROS type name.

`rosbags` typestores have that mapping ready (`typestore.types`); a node passes the classes it needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xkd_ros.core.camera import Camera
from xkd_ros.core.errors import ShapeError
from xkd_ros.core.se3 import quaternion_from_rotation
from xkd_ros.core.types import CameraImage, Scan
from xkd_ros.msgs.header import Types, make_header
from xkd_ros.msgs.layout import FIELD_TYPES

_DATATYPE_OF = {np.dtype(code): number for number, (_, code) in FIELD_TYPES.items()}


def make_cloud(scan: Scan, types: Types, extra: Mapping[str, np.ndarray] | None = None, height: int = 1) -> Any:
    """Build a PointCloud2 with x, y, z and whatever else the scan has, each field aligned.

    Args:
        scan: Points with stamp and frame; intensity, ring and time become fields of these names when present.
        types: Classes of PointCloud2, PointField, Header and Time.
        extra: Further fields, (N,) each, of any PointField datatype, such as true labels.
        height: Rows of an organised cloud, row by row; must divide N.
    Raises:
        ShapeError: it does not.
    """
    if len(scan) % height:
        raise ShapeError(f"{len(scan)} points do not fill {height} rows of equal length")
    columns: dict[str, np.ndarray] = {name: scan.points_m[:, axis] for axis, name in enumerate("xyz")}
    optional = {"intensity": scan.intensity, "ring": scan.ring, "time": scan.time_s, **(extra or {})}
    columns |= {name: values for name, values in optional.items() if values is not None}
    point = np.dtype([(name, values.dtype.newbyteorder("<")) for name, values in columns.items()], align=True)
    cloud = np.zeros(len(scan), point)
    for name, values in columns.items():
        cloud[name] = values
    field = types["sensor_msgs/msg/PointField"]
    offsets: Mapping[str, Any] = point.fields or {}
    width = len(scan) // height
    return types["sensor_msgs/msg/PointCloud2"](
        header=make_header(scan.stamp_ns, scan.frame_id, types),
        height=height,
        width=width,
        fields=[
            field(name=name, offset=offsets[name][1], datatype=_DATATYPE_OF[values.dtype], count=1) for name, values in columns.items()
        ],
        is_bigendian=False,
        point_step=point.itemsize,
        row_step=width * point.itemsize,
        data=_bytes(cloud, types["sensor_msgs/msg/PointCloud2"]),
        is_dense=bool(np.isfinite(scan.points_m).all()),
    )


def make_image(image: CameraImage, types: Types, grey: bool = False) -> Any:
    """Build a sensor_msgs/Image of encoding rgb8, or mono8 from the green channel of a grey picture."""
    height, width = image.rgb.shape[:2]
    pixels = image.rgb[..., 1] if grey else image.rgb
    return types["sensor_msgs/msg/Image"](
        header=make_header(image.stamp_ns, image.frame_id, types),
        height=height,
        width=width,
        encoding="mono8" if grey else "rgb8",
        is_bigendian=0,
        step=width if grey else 3 * width,
        data=_bytes(pixels, types["sensor_msgs/msg/Image"]),
    )


def make_camera_info(camera: Camera, stamp: int, frame: str, types: Types) -> Any:
    """Build a sensor_msgs/CameraInfo of an unrectified camera."""
    return types["sensor_msgs/msg/CameraInfo"](
        header=make_header(stamp, frame, types),
        height=camera.height,
        width=camera.width,
        distortion_model=camera.model,
        d=np.array(camera.D, np.float64),
        k=np.array(camera.K, np.float64).reshape(-1),
        r=np.eye(3).reshape(-1),
        p=np.concatenate([camera.K, np.zeros((3, 1))], axis=1).reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
    )


def make_transforms(transforms: Mapping[tuple[str, str], np.ndarray], stamp: int, types: Types) -> Any:
    """Build a tf2_msgs/TFMessage.

    Args:
        transforms: (parent frame, child frame) to parent_from_child (4, 4).
        stamp: Time of all of them, nanoseconds.
        types: Classes of TFMessage, TransformStamped, Transform, Vector3, Quaternion, Header and Time.
    """
    stamped = []
    for (parent, child), matrix in transforms.items():
        x, y, z, w = (float(value) for value in quaternion_from_rotation(matrix[:3, :3]))
        px, py, pz = (float(value) for value in matrix[:3, 3])
        stamped.append(
            types["geometry_msgs/msg/TransformStamped"](
                header=make_header(stamp, parent, types),
                child_frame_id=child,
                transform=types["geometry_msgs/msg/Transform"](
                    translation=types["geometry_msgs/msg/Vector3"](x=px, y=py, z=pz),
                    rotation=types["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w),
                ),
            )
        )
    return types["tf2_msgs/msg/TFMessage"](transforms=stamped)


def _bytes(values: np.ndarray, message_class: Any) -> Any:
    """Give the bytes in the form that the class takes fast: ndarray for rosbags, bytes for rclpy."""
    flat = np.ascontiguousarray(values)
    return flat.reshape(-1).view(np.uint8) if hasattr(message_class, "__msgtype__") else flat.tobytes()
