"""Poses of the lidar over time, from the odometry or the moving transforms of a recording."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xkd_ros.bags.calibration import until_damage
from xkd_ros.bags.folder import Recording
from xkd_ros.bags.topics import ODOMETRY, TRANSFORMS
from xkd_ros.core.errors import CalibrationError, XkdError
from xkd_ros.core.rig import LidarConfig
from xkd_ros.core.se3 import make_transform, rotation_from_rpy
from xkd_ros.msgs.header import frame_id, stamp_ns
from xkd_ros.msgs.pose import read_pose
from xkd_ros.msgs.transform_tree import TransformTree
from xkd_ros.pairing.pose_track import PoseTrack

# Frames that a robot moves in, best first: `odom` drifts but never jumps (REP 105).
_WORLDS = ("odom", "map", "world")
_FEWEST_POSES = 2

Row = tuple[int, list[float]]


def read_track(recording: Recording, lidar_frame: str, lidar: LidarConfig, tree: TransformTree, notes: list[str]) -> PoseTrack | None:
    """Find the poses of a recording.

    Args:
        recording: Open.
        lidar_frame: Frame of the scans.
        lidar: Its mounting, used where no transform says how the lidar sits on the robot.
        tree: Static transforms of the recording.
        notes: Gets one line for every source of poses that cannot be used.
    Returns:
        world_from_lidar over time, or None. nav_msgs/Odometry comes before moving transforms, the topic with most messages first.
    """
    topics = sorted((info for info in recording.topics.values() if info.type == ODOMETRY and info.count), key=lambda info: -info.count)
    for info in topics:
        rows, child = [], ""
        for stamp, frame, row in _odometry(recording, info.name, notes):
            rows.append((stamp, row))
            child = child or frame
        if track := _track(rows, child, f"{info.name} ({child})", lidar_frame, lidar, tree, notes):
            return track
    moving = _moving_transforms(recording, tree, notes)
    for parent, child in sorted(moving, key=lambda edge: _rank(edge[0])):
        if track := _track(moving[parent, child], child, f"transform {parent} -> {child}", lidar_frame, lidar, tree, notes):
            return track
    return None


def _odometry(recording: Recording, topic: str, notes: list[str]) -> Iterator[tuple[int, str, list[float]]]:
    for _, recorded_ns, message in until_damage(recording.messages([topic]), notes):
        pose = message.pose.pose
        row = read_pose(pose.position, pose.orientation)
        if row is not None:
            yield stamp_ns(message) or recorded_ns, str(message.child_frame_id).lstrip("/"), row


def _moving_transforms(recording: Recording, tree: TransformTree, notes: list[str]) -> dict[tuple[str, str], list[Row]]:
    """Collect the transforms that are not static, by (parent, child)."""
    topics = [
        info.name for info in recording.topics.values() if info.type in TRANSFORMS and info.count and not info.name.endswith("static")
    ]
    found: dict[tuple[str, str], list[Row]] = {}
    for _, recorded_ns, message in until_damage(recording.messages(topics), notes) if topics else ():
        for stamped in message.transforms:
            edge = frame_id(stamped), str(stamped.child_frame_id).lstrip("/")
            row = read_pose(stamped.transform.translation, stamped.transform.rotation)
            if edge not in tree.edges and row is not None:
                found.setdefault(edge, []).append((stamp_ns(stamped) or recorded_ns, row))
    return found


def _rank(frame: str) -> tuple[int, str]:
    return (_WORLDS.index(frame) if frame in _WORLDS else len(_WORLDS), frame)


def _track(
    rows: list[Row], child: str, name: str, lidar_frame: str, lidar: LidarConfig, tree: TransformTree, notes: list[str]
) -> PoseTrack | None:
    if len(rows) < _FEWEST_POSES:
        notes.append(f"{name}: {len(rows)} poses, not used")
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
    table = np.array([row for _, row in rows])
    stamps = np.array([stamp for stamp, _ in rows], np.int64)
    try:
        return PoseTrack(stamps, table[:, :3], table[:, 3:], child_from_lidar, name)
    except XkdError as error:
        notes.append(f"{name}: {error}, not used")
        return None
