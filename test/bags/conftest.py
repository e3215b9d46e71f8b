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

from xkd_ros.core.camera import Camera
from xkd_ros.core.se3 import invert, make_transform
from xkd_ros.core.types import CameraImage, Scan
from xkd_ros.msgs.build import make_camera_info, make_cloud, make_image, make_transforms

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
