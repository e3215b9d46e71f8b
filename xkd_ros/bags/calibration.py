"""From CameraInfo and transforms of a recording to a rig: intrinsics, extrinsics and the lidar's mounting."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xkd_ros.bags.cameras import CameraTopics, find_cameras
from xkd_ros.bags.folder import Recording, open_recording
from xkd_ros.bags.topics import TRANSFORMS
from xkd_ros.core.camera import Camera
from xkd_ros.core.errors import BagError, CalibrationError, XkdError
from xkd_ros.core.rig import CameraConfig, LidarConfig, RigConfig, load_rig, save_rig
from xkd_ros.core.se3 import make_transform
from xkd_ros.core.types import CameraImage
from xkd_ros.msgs.camera_info import camera_from_info, rectification
from xkd_ros.msgs.header import frame_id
from xkd_ros.msgs.image import decode_image
from xkd_ros.msgs.transform_tree import TransformTree

_LOG = logging.getLogger(__name__)
Message = tuple[str, int, Any]
WORLD_FRAMES = ("odom", "map", "world")
"""Frames that a robot moves in, best first: `odom` drifts but never jumps (REP 105)."""
BASE_FRAMES = ("base_footprint", "base_link")
"""Frames of the robot that are level with the ground while it stands (REP 105, REP 120), best first."""
# A smaller tilt in the transforms is as likely a placeholder as a measurement: the scans decide then.
_REAL_TILT_DEG = 0.5
# A rig does not move: what moves more than this between messages is a joint.
_STEADY_M, _STEADY_RAD = 0.02, 0.02


@dataclass
class Calibration:
    """A rig as far as the recording tells it, and what it does not tell.

    Attributes:
        rig: Lidar and the cameras that are complete.
        problems: One line per camera that is left out, and per thing that looks wrong.
        tree: The transforms that do not move; see `static_transforms`.
    """

    rig: RigConfig
    problems: list[str] = field(default_factory=list)
    tree: TransformTree = field(default_factory=TransformTree)


def rig_from_bag(path: str | Path, points: str | None = None, rig: str | Path | None = None) -> RigConfig:
    """Read the calibration of a recording.

    Args:
        path: Bag.
        points: Lidar topic; None finds it.
        rig: Rig YAML whose lidar and cameras win over what the bag says.
    Raises:
        BagError: no such bag or topic.
        CalibrationError: not one camera is calibrated; says what each one lacks. Otherwise that is logged.
    """
    with open_recording(path) as recording:
        calibration = read_calibration(recording, points, None if rig is None else load_rig(rig))
    if not calibration.rig.cameras:
        reasons = "; ".join(calibration.problems) or "it has no camera"
        raise CalibrationError(f"no calibrated camera in {path}: {reasons}")
    for problem in calibration.problems:
        _LOG.warning("%s", problem)
    return calibration.rig


def calib(bag: str | Path, out: str | Path, points: str | None = None, rig: str | Path | None = None) -> RigConfig:
    """Write the rig of a recording as YAML and return it (`xkd calib BAG -o OUT`); see `rig_from_bag`."""
    found = rig_from_bag(bag, points, rig)
    save_rig(found, out)
    return found


def read_calibration(recording: Recording, points: str | None = None, override: RigConfig | None = None) -> Calibration:
    """Collect what an open recording says about its lidar and cameras.

    Args:
        recording: Open bag or folder.
        points: Lidar topic; None finds it.
        override: Its lidar mounting and its cameras (matched by name or topic) win.
    Raises:
        BagError: no lidar topic.
    """
    points_topic = find_points(recording, points, override)
    cloud = recording.first(points_topic)
    lidar_frame = "" if cloud is None else frame_id(cloud)
    calibration = Calibration(
        RigConfig(name=recording.path.stem, lidar=LidarConfig(topic=points_topic, frame_id=lidar_frame, rpy_deg=None, height_m=None))
    )
    tree = calibration.tree = static_transforms(recording, calibration.problems)
    _read_mounting(calibration.rig.lidar, tree)
    given = {camera.topic for camera in override.cameras} if override is not None else set()
    for topics in find_cameras(recording):
        if topics.image in given:
            continue
        try:
            calibration.rig.cameras.append(_camera_config(recording, topics, lidar_frame, tree, calibration.problems))
        except XkdError as error:
            calibration.problems.append(f"camera {topics.image}: {error}")
    if override is not None:
        names = {camera.name for camera in override.cameras}
        absent = [camera.topic for camera in override.cameras if camera.topic not in recording.topics]
        calibration.problems += [f"camera {topic} of rig '{override.name}' has no topic in {recording.path}" for topic in absent]
        # A copy: each recording has its own topic and frame, of one rig file.
        calibration.rig.name, calibration.rig.lidar = override.name, override.lidar.model_copy()
        calibration.rig.cameras = [*override.cameras, *(c for c in calibration.rig.cameras if c.name not in names)]
    return calibration


def find_points(recording: Recording, points: str | None, rig: RigConfig | None) -> str:
    """Choose the lidar topic: the given one, else the rig's when the recording has it, else the only one; see `find_points_topic`."""
    if points is None and rig is not None and rig.lidar.topic in recording.topics:
        points = rig.lidar.topic
    return recording.find_points_topic(points)


def _camera_config(recording: Recording, topics: CameraTopics, lidar_frame: str, tree: TransformTree, problems: list[str]) -> CameraConfig:
    info = None if topics.info is None else recording.first(topics.info)
    if info is None:
        raise CalibrationError("no camera_info in the bag: record it, or give the intrinsics in a rig file")
    camera = camera_from_info(info, topics.rectified)
    # The frame of the picture is the one that counts, but some drivers leave it empty.
    frame = topics.frame_id or frame_id(info)
    cam_from_lidar = tree.lookup(frame, lidar_frame)
    if topics.rectified:
        cam_from_lidar = make_transform(rectification(info), np.zeros(3)) @ cam_from_lidar
    camera = at_image_size(camera, recording.first(topics.image, decode_image), topics.image, problems)
    if problem := _not_optical(cam_from_lidar):
        problems.append(f"camera {topics.image}: frame '{frame}' {problem}")
    return CameraConfig(
        name=topics.name,
        topic=topics.image,
        frame_id=frame,
        model=camera.model,
        width=camera.width,
        height=camera.height,
        K=camera.K.reshape(-1).tolist(),
        D=camera.D.tolist(),
        cam_from_lidar=cam_from_lidar.reshape(-1).tolist(),
    )


def at_image_size(camera: Camera, picture: CameraImage | None, topic: str, problems: list[str]) -> Camera:
    """Follow pictures that were made smaller after the CameraInfo was written; that is noted in `problems`.

    Raises:
        CalibrationError: pictures of another shape, or None.
    """
    if picture is None:
        raise CalibrationError(f"none of the first pictures on {topic} can be decoded")
    height, width = picture.rgb.shape[:2]
    across, down = camera.K[:2, 2] / (camera.width, camera.height)
    if not (0 < across < 1 and 0 < down < 1):
        problems.append(f"camera {topic}: its principal point lies outside the picture: is K that of another image size?")
    if (width, height) == (camera.width, camera.height):
        return camera
    sizes = f"the intrinsics are for {camera.width}x{camera.height}, the images are {width}x{height}"
    if abs(width * camera.height - height * camera.width) > 0.01 * width * camera.height:
        raise CalibrationError(f"{sizes}: not the same shape, so the crop is unknown; give the intrinsics in a rig file")
    problems.append(f"camera {topic}: {sizes}; scaled, check the overlay")
    return camera.scaled(width, height)


def _not_optical(cam_from_lidar: np.ndarray) -> str:
    """Notice a body frame (z up) where an optical frame (z forward, y down) must be; upright lidars assumed."""
    up_in_camera = cam_from_lidar[:3, 2]
    if abs(up_in_camera[2]) > 0.8:
        return (
            "has its z axis along the lidar's: it looks straight up or down, or is a body frame; use the optical frame (z forward, y down)"
        )
    return ""


def _read_mounting(lidar: LidarConfig, tree: TransformTree) -> None:
    for frame in BASE_FRAMES:
        if frame not in tree.frames or lidar.frame_id not in tree.frames:
            continue
        try:
            base_from_lidar = tree.lookup(frame, lidar.frame_id)
        except CalibrationError:
            continue
        rpy = np.degrees(_rpy(base_from_lidar[:3, :3]))
        if max(abs(rpy[0]), abs(rpy[1])) > _REAL_TILT_DEG and lidar.rpy_deg is None:
            lidar.rpy_deg = (round(float(rpy[0]), 4), round(float(rpy[1]), 4), round(float(rpy[2]), 4))
        if frame == "base_footprint":
            lidar.height_m = round(float(base_from_lidar[2, 3]), 4)


def _rpy(rotation: np.ndarray) -> np.ndarray:
    """Return roll, pitch, yaw in radians, the inverse of `rotation_from_rpy`."""
    return np.array(
        [
            np.arctan2(rotation[2, 1], rotation[2, 2]),
            -np.arcsin(np.clip(rotation[2, 0], -1, 1)),
            np.arctan2(rotation[1, 0], rotation[0, 0]),
        ]
    )


def static_transforms(recording: Recording, problems: list[str]) -> TransformTree:
    """Collect the static transforms, and of the moving ones those that do not move in the whole recording.

    Where the robot is in the world is odometry and no part of a rig, also while the robot stands.

    Args:
        recording: Open.
        problems: Gets one line for everything that is wrong.
    """
    tree = TransformTree()
    static, moving = transform_topics(recording)
    for _, _, message in until_damage(recording.messages(static), problems) if static else ():
        _add(tree, message, problems)
    if not moving:
        return tree
    seen: dict[tuple[str, str], np.ndarray] = {}
    unsteady: set[tuple[str, str]] = set()
    damaged: dict[tuple[str, str], str] = {}
    for _, _, message in until_damage(recording.messages(moving), problems):
        for stamped in message.transforms:
            edge = transform_frames(stamped)
            if edge[0] in WORLD_FRAMES or edge in unsteady:
                continue
            single = TransformTree()
            try:
                single.add_message(_One([stamped]))
            except CalibrationError as error:
                damaged.setdefault(edge, str(error))
            for matrix in single.edges.values():
                if _moved(seen.setdefault(edge, matrix), matrix):
                    unsteady.add(edge)
    problems += [problem for problem in damaged.values() if problem not in problems]
    known = {child for _, child in tree.edges}
    for edge, parent_from_child in seen.items():
        if edge not in unsteady and edge[1] not in known:
            tree.add(*edge, parent_from_child)
    return tree


def transform_topics(recording: Recording) -> tuple[list[str], list[str]]:
    """Name the topics of static and of moving transforms."""
    topics = [info for info in recording.topics.values() if info.type in TRANSFORMS and info.count]
    static = [info.name for info in topics if info.name.endswith("static") or (info.qos and info.qos.durability == "transient_local")]
    return static, [info.name for info in topics if info.name not in static]


def transform_frames(stamped: Any) -> tuple[str, str]:
    """Name parent and child of a geometry_msgs/TransformStamped, without the slash of ROS 1."""
    return frame_id(stamped), str(stamped.child_frame_id).lstrip("/")


def until_damage(messages: Iterator[Message], problems: list[str]) -> Iterator[Message]:
    """Yield the messages of a recording up to a damaged place, which is noted in `problems`."""
    try:
        yield from messages
    except BagError as error:
        if str(error) not in problems:
            problems.append(str(error))


@dataclass(frozen=True)
class _One:
    transforms: list[Any]


def _add(tree: TransformTree, message: Any, problems: list[str]) -> None:
    try:
        tree.add_message(message)
    except CalibrationError as error:
        if str(error) not in problems:
            problems.append(str(error))


def _moved(first: np.ndarray, second: np.ndarray) -> bool:
    cosine = (np.trace(first[:3, :3].T @ second[:3, :3]) - 1) / 2
    return bool(np.linalg.norm(first[:3, 3] - second[:3, 3]) > _STEADY_M or np.arccos(np.clip(cosine, -1, 1)) > _STEADY_RAD)
