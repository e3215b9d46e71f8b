"""Poses of messages to numbers, of rclpy or rosbags."""

from __future__ import annotations

from typing import Any

import numpy as np


def read_pose(position: Any, turn: Any) -> list[float] | None:
    """Return x, y, z and the quaternion x, y, z, w; None where they are no pose.

    Args:
        position: geometry_msgs/Point or Vector3.
        turn: geometry_msgs/Quaternion.
    """
    row = [position.x, position.y, position.z, turn.x, turn.y, turn.z, turn.w]
    length = float(np.linalg.norm(row[3:]))
    return row if np.isfinite(row).all() and abs(length - 1) < 0.1 else None
