"""Which frames may vote on each other's labels: those that one rig recorded on one drive, as far as its odometry is one world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xkd_ros.distill.frame_samples import Frames, RecordedFrame
from xkd_ros.pairing.pose_track import is_possible_motion

# Over a longer pause the fastest robot could be anywhere: whether its odometry began anew meanwhile cannot be told.
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, eq=False)
class Drive:
    """Frames of one recording that may vote on each other.

    Attributes:
        numbers: In order of time.
        split: All of one split, so that no frame for training learns from an image for testing.
        origin_m: (3,) in the world; voxels are counted from here.
    """

    numbers: tuple[int, ...]
    split: str
    origin_m: np.ndarray


def find_drives(frames: Frames, consolidate: bool = True) -> list[Drive]:
    """Group the frames that may vote on each other: same recording and rig, following each other in one split, with poses.

    Where the odometry jumps or turns as no robot can, as after a reset, and after a pause of seconds, another group begins: what
    lies on the two sides may not be in one world.

    Args:
        frames: The store; only scans are read.
        consolidate: False makes every frame its own group.
    Returns:
        Groups in a fixed order that covers every frame once.
    """
    drives: list[tuple[list[int], str, np.ndarray]] = []
    latest: dict[tuple[str, str], tuple[int, RecordedFrame]] = {}
    for number in frames.numbers().tolist():
        scan = frames.scan(number)
        pose, key = scan.world_from_lidar, (scan.source, scan.rig)
        index, before = latest.get(key, (-1, None))
        if consolidate and before is not None and before.split == scan.split and _follows(before, scan):
            drives[index][0].append(number)
            latest[key] = (index, scan)
            continue
        latest[key] = (len(drives), scan)
        drives.append(([number], scan.split, np.zeros(3) if pose is None else np.array(pose[:3, 3], np.float64)))
    return [Drive(tuple(numbers), split, origin) for numbers, split, origin in drives]


def _follows(before: RecordedFrame, scan: RecordedFrame) -> bool:
    """Tell whether a robot can have come from one pose to the other in the time between them."""
    if before.world_from_lidar is None or scan.world_from_lidar is None:
        return False
    seconds = abs(scan.stamp_ns - before.stamp_ns) * 1e-9
    return seconds <= _LONGEST_PAUSE_S and is_possible_motion(before.world_from_lidar, scan.world_from_lidar, seconds)
