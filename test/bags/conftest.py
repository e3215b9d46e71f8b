"""Tiny recordings in every container, written by rosbags itself and not by the package."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.camera import Camera
from xkd_ros.core.se3 import apply, invert, make_transform, rotation_from_rpy
from xkd_ros.core.types import CameraImage, Scan
from xkd_ros.msgs.build import make_camera_info, make_cloud, make_image, make_transforms
from xkd_ros.msgs.header import make_header

MS = 1_000_000
START_NS = 1_700_000_000_000_000_000
CAMERA = Camera(32, 24, np.array([[30.0, 0, 15.5], [0, 30, 11.5], [0, 0, 1]]), "plumb_bob", np.array([-0.1, 0.01, 0, 0, 0]))
# Optical axes in a lidar frame of x forward, y left, z up; the camera sits 10 cm above.
CAM_FROM_LIDAR = make_transform(np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), [0.0, 0.1, 0.0])
KINDS = ("sqlite3", "mcap", "ros1", "bare mcap", "bare db3")
LATCHED = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, QosTime(0, 0), QosTime(0, 0), QosLiveliness.AUTOMATIC,
    QosTime(0, 0), False,
)  # fmt: skip


def make_scan(number: int, count: int = 1500) -> Scan:
    rng = np.random.default_rng(number)
    points = rng.uniform([-8, -8, -1], [8, 8, 2], (count, 3)).astype(np.float32)
    return Scan(points, rng.uniform(0, 100, count).astype(np.float32), START_NS + number * 100 * MS, "lidar")


def make_picture(number: int) -> CameraImage:
    rgb = np.random.default_rng(100 + number).integers(0, 255, (24, 32, 3)).astype(np.uint8)
    return CameraImage(rgb, START_NS + (number * 100 + 4 + number) * MS, "camera_optical")


class Noetic(dict):
    """ROS 1 classes by the names and arguments of ROS 2."""

    def __init__(self) -> None:
        self.store = get_typestore(Stores.ROS1_NOETIC)
        self.store.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms\n", "tf2_msgs/msg/TFMessage"))
        super().__init__(self.store.types)
        header, info = self["std_msgs/msg/Header"], self["sensor_msgs/msg/CameraInfo"]
        self["std_msgs/msg/Header"] = lambda **values: header(seq=3, **values)
        self["sensor_msgs/msg/CameraInfo"] = lambda d, k, r, p, **values: info(D=d, K=k, R=r, P=p, **values)


def write_messages(write: Any, types: Any, scans: int = 5, info: bool = True, tf: bool = True) -> None:
    """Call `write(topic, type, stamp_ns, message)` for a short drive: lidar at 10 Hz, images 4 to 8 ms later."""
    if tf:
        edges = {("base_link", "lidar"): make_transform(np.eye(3), [0, 0, 0.5]), ("lidar", "camera_optical"): invert(CAM_FROM_LIDAR)}
        write("/tf_static", "tf2_msgs/msg/TFMessage", START_NS, make_transforms(edges, START_NS, types))
    for number in range(scans):
        scan, picture = make_scan(number), make_picture(number)
        write("/points", "sensor_msgs/msg/PointCloud2", scan.stamp_ns + 20 * MS, make_cloud(scan, types))
        write("/cam/image_raw", "sensor_msgs/msg/Image", picture.stamp_ns + 30 * MS, make_image(picture, types))
        if info:
            message = make_camera_info(CAMERA, picture.stamp_ns, "camera_optical", types)
            write("/cam/camera_info", "sensor_msgs/msg/CameraInfo", picture.stamp_ns + 30 * MS, message)


def write_bag(folder: Path, kind: str, name: str = "drive", **content: Any) -> Path:
    """Write a recording of one of KINDS and return its path."""
    connections: dict[str, Any] = {}
    if kind == "ros1":
        noetic = Noetic()
        path = folder / f"{name}.bag"
        with Writer1(path) as writer:

            def write1(topic: str, type_name: str, stamp: int, message: Any) -> None:
                if topic not in connections:
                    latching = 1 if topic == "/tf_static" else None
                    connections[topic] = writer.add_connection(topic, type_name, typestore=noetic.store, latching=latching)
                writer.write(connections[topic], stamp, noetic.store.serialize_ros1(message, type_name))

            write_messages(write1, noetic, **content)
        return path
    store = get_typestore(Stores.ROS2_JAZZY)
    plugin = StoragePlugin.MCAP if "mcap" in kind else StoragePlugin.SQLITE3
    path = folder / name
    with Writer2(path, version=9, storage_plugin=plugin) as writer2:

        def write2(topic: str, type_name: str, stamp: int, message: Any) -> None:
            if topic not in connections:
                profiles = [LATCHED] if topic == "/tf_static" else []
                connections[topic] = writer2.add_connection(topic, type_name, typestore=store, offered_qos_profiles=profiles)
            writer2.write(connections[topic], stamp, store.serialize_cdr(message, type_name))

        write_messages(write2, store.types, **content)
    if kind.startswith("bare"):
        (path / "metadata.yaml").unlink()
        return next(path.iterdir())
    return path


def write_old_db3(path: Path) -> Path:
    """Write the sqlite3 schema of ROS 2 Foxy: no message definitions anywhere."""
    store = get_typestore(Stores.ROS2_JAZZY)
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT, offered_qos_profiles TEXT)"
        )
        database.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB)")
        database.execute("INSERT INTO topics VALUES(1, '/points', 'sensor_msgs/msg/PointCloud2', 'cdr', '')")
        for number in range(3):
            raw = store.serialize_cdr(make_cloud(make_scan(number), store.types), "sensor_msgs/msg/PointCloud2")
            database.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES(1, ?, ?)", (make_scan(number).stamp_ns, bytes(raw)))
    database.close()
    return path


@pytest.fixture(scope="session")
def bags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same drive in every container."""
    return {kind: write_bag(tmp_path_factory.mktemp("bags"), kind) for kind in KINDS}


@pytest.fixture(scope="session")
def drive() -> Any:
    """What is in the recordings: `scan(number)`, `picture(number)`, the camera and its place, and the functions that write."""
    from types import SimpleNamespace

    return SimpleNamespace(
        scan=make_scan, picture=make_picture, camera=CAMERA, cam_from_lidar=CAM_FROM_LIDAR, start_ns=START_NS, write_bag=write_bag,
        write_messages=write_messages, write_old_db3=write_old_db3,
    )  # fmt: skip


BASE_FROM_LIDAR = make_transform(rotation_from_rpy(0.0, 0.0, 0.3), [0.2, 0.0, 0.5])
SWEEP_S = 0.1


def walk_pose(time_s: float) -> np.ndarray:
    """world_from_lidar of a robot that drives and turns in a room of 10 x 8 x 3 metres."""
    yaw = 0.6 * time_s
    place = [1.2 * np.sin(0.5 * time_s), 1.0 * np.cos(0.5 * time_s), 0.3]
    return make_transform(rotation_from_rpy(0.01 * np.sin(3 * time_s), 0.0, yaw), place) @ BASE_FROM_LIDAR


def walk_points(number: int, count: int) -> np.ndarray:
    """Points on the walls, floor and ceiling of the room, world frame; a body of 20 points stays out."""
    rng = np.random.default_rng([7, number])
    points = rng.uniform([-5, -4, 0], [5, 4, 3], (count, 3))
    side = rng.integers(0, 3, count)
    points[np.arange(count), side] = np.where(rng.random(count) < 0.5, np.array([-5, -4, 0])[side], np.array([5, 4, 3])[side])
    return points


def walk_scan(number: int, count: int = 1200) -> Scan:
    """Measure the room while driving, and at the end 20 points of the robot's own mast."""
    columns = np.linspace(0, SWEEP_S, 40, endpoint=False)
    world = np.array_split(walk_points(number, count), len(columns))
    points = np.concatenate([apply(invert(walk_pose(0.1 * number + t)), part) for t, part in zip(columns, world)])
    time_s = np.repeat(columns, [len(part) for part in world])
    mast = np.random.default_rng(number).uniform([-0.38, 0.12, 0.12], [-0.32, 0.18, 0.18], (20, 3))
    points[-20:] = mast
    points[5], points[6] = np.nan, 0.0
    intensity = np.random.default_rng(50 + number).integers(0, 255, count).astype(np.float32)
    return Scan(points.astype(np.float32), intensity, START_NS + number * 100 * MS, "lidar", None, time_s.astype(np.float32))


def make_odometry(stamp: int, pose: np.ndarray, types: Any) -> Any:
    stamped = make_transforms({("odom", "base_link"): pose}, stamp, types).transforms[0].transform
    point = types["geometry_msgs/msg/Point"](x=stamped.translation.x, y=stamped.translation.y, z=stamped.translation.z)
    zero = types["geometry_msgs/msg/Vector3"](x=0.0, y=0.0, z=0.0)
    still = types["geometry_msgs/msg/Twist"](linear=zero, angular=zero)
    return types["nav_msgs/msg/Odometry"](
        header=make_header(stamp, "odom", types),
        child_frame_id="base_link",
        pose=types["geometry_msgs/msg/PoseWithCovariance"](
            pose=types["geometry_msgs/msg/Pose"](position=point, orientation=stamped.rotation), covariance=np.zeros(36)
        ),
        twist=types["geometry_msgs/msg/TwistWithCovariance"](twist=still, covariance=np.zeros(36)),
    )


def write_walk(
    path: Path,
    scans: int = 12,
    count: int = 1200,
    poses: str = "odometry",
    cam_from_lidar: np.ndarray = CAM_FROM_LIDAR,
    image_shift_ns: int = 0,
    jpeg: bool = False,
    camera: bool = True,
) -> Path:
    """Write a drive through the room: lidar at 10 Hz, a picture 20 ms after each stamp, poses at 50 Hz as odometry or transforms."""
    types = get_typestore(Stores.ROS2_JAZZY).types
    base_from_lidar = invert(BASE_FROM_LIDAR)
    with BagWriter(path) as writer:
        edges = {("base_link", "lidar"): BASE_FROM_LIDAR, ("lidar", "camera_optical"): invert(cam_from_lidar)}
        writer.write("/tf_static", make_transforms(edges, START_NS, types), START_NS)
        for step in range(5 * scans + 1 if poses else 0):
            stamp, pose = START_NS + step * 20 * MS, walk_pose(0.02 * step) @ base_from_lidar
            if poses == "odometry":
                writer.write("/odom", make_odometry(stamp, pose, types), stamp)
            else:
                writer.write("/tf", make_transforms({("odom", "base_link"): pose}, stamp, types), stamp)
        for number in range(scans):
            scan, stamp = walk_scan(number, count), START_NS + (100 * number + 20) * MS + image_shift_ns
            writer.write("/points", make_cloud(scan, types), scan.stamp_ns + 100 * MS)
            if not camera:
                continue
            image = CameraImage(make_picture(number).rgb, stamp, "camera_optical")
            message = compressed(image, types) if jpeg else make_image(image, types)
            writer.write("/cam/image_raw", message, START_NS + (100 * number + 50) * MS)
            writer.write("/cam/camera_info", make_camera_info(CAMERA, stamp, "camera_optical", types), START_NS + (100 * number + 50) * MS)
    return path


def compressed(image: CameraImage, types: Any) -> Any:
    import cv2

    data = cv2.imencode(".jpg", image.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1].reshape(-1)
    header = make_header(image.stamp_ns, image.frame_id, types)
    return types["sensor_msgs/msg/CompressedImage"](header=header, format="rgb8; jpeg compressed bgr8", data=data)


@pytest.fixture(scope="session")
def room_walk() -> Any:
    """A drive with poses: `write`, `scan(number)`, `points(number)` in the world, `pose(seconds)`, the camera and its place."""
    from types import SimpleNamespace

    return SimpleNamespace(
        write=write_walk, scan=walk_scan, points=walk_points, pose=walk_pose, start_ns=START_NS, camera=CAMERA,
        cam_from_lidar=CAM_FROM_LIDAR, base_from_lidar=BASE_FROM_LIDAR, sweep_s=SWEEP_S,
    )  # fmt: skip
