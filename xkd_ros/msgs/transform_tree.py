"""Static transforms between named frames, collected from TFMessage objects of rclpy or rosbags."""

from __future__ import annotations

from typing import Any

import numpy as np

from xkd_ros.core.errors import CalibrationError
from xkd_ros.core.se3 import invert, make_transform, rotation_from_quaternion


class TransformTree:
    """Frames and their parents, one each: the last message about a frame wins, also when it names another parent.

    One thread may add while another looks up.
    """

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, np.ndarray]] = {}

    @property
    def edges(self) -> dict[tuple[str, str], np.ndarray]:
        """(parent, child) to (4, 4) float64 parent_from_child, as they are now."""
        return {(parent, child): matrix for child, (parent, matrix) in self._parents.copy().items()}

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
        if parent == child:
            return
        self._parents[child] = parent, parent_from_child
        if self._parents.get(parent, ("", None))[0] == child:  # the direction turned
            del self._parents[parent]

    def lookup(self, target: str, source: str) -> np.ndarray:
        """Find (4, 4) float64 target_from_source by the first frame that both hang from.

        Raises:
            CalibrationError: the frames are not connected; names both and the known ones.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        parents = self._parents.copy()  # others may be added meanwhile
        above_target = _ancestors(parents, target)
        for frame, frame_from_source in _ancestors(parents, source).items():
            if frame in above_target:
                return invert(above_target[frame]) @ frame_from_source
        known = ", ".join(self.frames) or "none"
        raise CalibrationError(f"no transform from '{source}' to '{target}' (known frames: {known}); give the extrinsics in a rig file")


def _ancestors(parents: dict[str, tuple[str, np.ndarray]], frame: str) -> dict[str, np.ndarray]:
    """Climb from a frame: (4, 4) ancestor_from_frame of itself and every frame above it, nearest first."""
    found = {frame: np.eye(4)}
    while frame in parents and parents[frame][0] not in found:
        parent, parent_from_child = parents[frame]
        found[parent] = parent_from_child @ found[frame]
        frame = parent
    return found
