"""Static transforms between named frames, collected from TFMessage objects of rclpy or rosbags."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from xkd_ros.core.errors import CalibrationError
from xkd_ros.core.se3 import invert, make_transform, rotation_from_quaternion


class TransformTree:
    """A graph of frames; the last message about a pair of frames wins.

    Attributes:
        edges: (parent, child) to (4, 4) float64 parent_from_child.
    """

    def __init__(self) -> None:
        self.edges: dict[tuple[str, str], np.ndarray] = {}

    @property
    def frames(self) -> list[str]:
        """All known frames, sorted."""
        return sorted({frame for pair in self.edges for frame in pair})

    def add_message(self, message: Any) -> None:
        """Take in every transform of a tf2_msgs/TFMessage (or of any object with `transforms`).

        Raises:
            CalibrationError: numbers that are not finite, or a rotation that is no quaternion.
        """
        for stamped in message.transforms:
            moved, turned = stamped.transform.translation, stamped.transform.rotation
            parent, child = stamped.header.frame_id.lstrip("/"), stamped.child_frame_id.lstrip("/")
            numbers = np.array([moved.x, moved.y, moved.z, turned.x, turned.y, turned.z, turned.w], float)
            norm = float(np.linalg.norm(numbers[3:]))
            # A zero quaternion is what an unset message carries; half a unit off is no rounding error.
            if not np.isfinite(numbers).all() or abs(norm - 1) > 0.5:
                raise CalibrationError(f"transform {parent} -> {child} is {numbers.tolist()}: the quaternion must have length 1")
            self.add(parent, child, make_transform(rotation_from_quaternion(numbers[3:].tolist()), numbers[:3]))

    def add(self, parent: str, child: str, parent_from_child: np.ndarray) -> None:
        """Take in one transform, (4, 4)."""
        self.edges.pop((child, parent), None)
        self.edges[parent, child] = parent_from_child

    def lookup(self, target: str, source: str) -> np.ndarray:
        """Find (4, 4) float64 target_from_source along the shortest chain of transforms.

        Raises:
            CalibrationError: the frames are not connected; names both and the known ones.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        found = {source: np.eye(4)}
        waiting = deque([source])
        while waiting and target not in found:
            frame = waiting.popleft()
            for (parent, child), parent_from_child in self.edges.items():
                if child == frame and parent not in found:
                    found[parent] = parent_from_child @ found[frame]
                    waiting.append(parent)
                elif parent == frame and child not in found:
                    found[child] = invert(parent_from_child) @ found[frame]
                    waiting.append(child)
        if target not in found:
            known = ", ".join(self.frames) or "none"
            raise CalibrationError(f"no transform from '{source}' to '{target}' (known frames: {known}); give the extrinsics in a rig file")
        return found[target]
