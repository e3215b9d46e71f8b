"""Poses of the lidar over time, from the odometry or the moving transforms of a recording."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np

from xkd_ros.bags.calibration import BASE_FRAMES, WORLD_FRAMES, transform_frames, transform_topics, until_damage
from xkd_ros.bags.folder import Recording
from xkd_ros.bags.topics import ODOMETRY
from xkd_ros.core.errors import CalibrationError, XkdError
from xkd_ros.core.rig import LidarConfig
from xkd_ros.core.se3 import make_transform, rotation_from_rpy
from xkd_ros.msgs.header import stamp_ns
from xkd_ros.msgs.pose import read_pose
from xkd_ros.msgs.transform_tree import TransformTree
from xkd_ros.pairing.pose_track import PoseTrack

_FEWEST_POSES = 2


@dataclass(eq=False)
class _Poses:
    """Poses of a frame in the order they were recorded; packed, because a day of them has to fit into memory.

    Attributes:
        name: Where they come from, for reports.
        child: The frame.
    """

    name: str
    child: str
    stamps: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[float] = field(default_factory=lambda: array("d"))

    def add(self, stamp: int, row: list[float]) -> None:
        """Take in one pose as `read_pose` returns it."""
        self.stamps.append(stamp)
        self.numbers.extend(row)


def read_track(recording: Recording, lidar_frame: str, lidar: LidarConfig, tree: TransformTree, notes: list[str]) -> PoseTrack | None:
    """Find the poses of a recording.

    Args:
        recording: Open.
        lidar_frame: Frame of the scans.
        lidar: Its mounting, used where no transform says how the lidar sits on the robot.
        tree: Static transforms of the recording.
        notes: Gets one line for every source of poses that cannot be used.
    Returns:
        world_from_lidar over time, or None. nav_msgs/Odometry comes before moving transforms, the topic with most messages first;
        of the transforms only those that lead to the robot from outside count, not its joints.
    """
    topics = sorted((info for info in recording.topics.values() if info.type == ODOMETRY and info.count), key=lambda info: -info.count)
    for info in topics:
        if track := _track(_odometry(recording, info.name, notes), lidar_frame, lidar, tree, notes):
            return track
    for poses in _moving_transforms(recording, lidar_frame, tree, notes):
        if track := _track(poses, lidar_frame, lidar, tree, notes):
            return track
    return None


def _odometry(recording: Recording, topic: str, notes: list[str]) -> _Poses:
    poses = _Poses(topic, "")
    for _, recorded_ns, message in until_damage(recording.messages([topic]), notes):
        pose = message.pose.pose
        row = read_pose(pose.position, pose.orientation)
        if row is not None:
            poses.add(stamp_ns(message) or recorded_ns, row)
            poses.child = poses.child or str(message.child_frame_id).lstrip("/")
    poses.name = f"{topic} ({poses.child})"
    return poses


def _moving_transforms(recording: Recording, lidar_frame: str, tree: TransformTree, notes: list[str]) -> list[_Poses]:
    """Collect the transforms that may lead to the robot from outside, best first."""
    _, topics = transform_topics(recording)
    found: dict[tuple[str, str], _Poses | None] = {}
    lost: list[str] = []
    for _, recorded_ns, message in until_damage(recording.messages(topics), notes) if topics else ():
        for stamped in message.transforms:
            edge = transform_frames(stamped)
            if edge not in found:
                found[edge] = _outside_poses(*edge, lidar_frame, tree, lost)
            poses = found[edge]
            row = None if poses is None else read_pose(stamped.transform.translation, stamped.transform.rotation)
            if poses is not None and row is not None:
                poses.add(stamp_ns(stamped) or recorded_ns, row)
    # In a world there are things that are not this robot: what leads to its lidar comes first.
    kept = [
        (not _connected(child, lidar_frame, tree), _rank(parent), poses) for (parent, child), poses in found.items() if poses is not None
    ]
    if not kept:
        notes += lost
    return [poses for _, _, poses in sorted(kept, key=lambda entry: entry[:2])]


def _outside_poses(parent: str, child: str, lidar_frame: str, tree: TransformTree, lost: list[str]) -> _Poses | None:
    """Decide whether a transform may be the way of the robot; `lost` gets a line where nothing tells."""
    name = f"transform {parent} -> {child}"
    if (parent, child) in tree.edges or child in WORLD_FRAMES:
        return None
    if parent not in WORLD_FRAMES:
        if parent in BASE_FRAMES or _connected(parent, lidar_frame, tree):
            return None
        if not _connected(child, lidar_frame, tree):
            lost.append(f"{name}: no transform from '{lidar_frame}' to '{child}', not used; record tf_static")
            return None
    return _Poses(name, child)


def _connected(frame: str, lidar_frame: str, tree: TransformTree) -> bool:
    try:
        tree.lookup(frame, lidar_frame)
    except CalibrationError:
        return False
    return True


def _rank(frame: str) -> tuple[int, str]:
    return (WORLD_FRAMES.index(frame) if frame in WORLD_FRAMES else len(WORLD_FRAMES), frame)


def _track(poses: _Poses, lidar_frame: str, lidar: LidarConfig, tree: TransformTree, notes: list[str]) -> PoseTrack | None:
    name, child = poses.name, poses.child
    if len(poses.stamps) < _FEWEST_POSES:
        notes.append(f"{name}: {len(poses.stamps)} poses, not used")
        return None
    try:
        child_from_lidar = np.eye(4) if child in ("", lidar_frame) else tree.lookup(child, lidar_frame)
    except CalibrationError:
        if lidar.rpy_deg is None:
            notes.append(
                f"{name}: no transform from '{lidar_frame}' to '{child}', not used; record tf_static or give rpy_deg in a rig file"
            )
            return None
        child_from_lidar = make_transform(rotation_from_rpy(*np.radians(lidar.rpy_deg)), np.zeros(3))
        notes.append(f"{name}: no transform from '{lidar_frame}' to '{child}', so the lidar is taken to sit in its origin")
    table = np.array(poses.numbers).reshape(-1, 7)
    try:
        return PoseTrack(np.array(poses.stamps), table[:, :3], table[:, 3:], child_from_lidar, name)
    except XkdError as error:
        notes.append(f"{name}: {error}, not used")
        return None
