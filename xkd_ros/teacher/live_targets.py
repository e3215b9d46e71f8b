"""Targets without a cache: the teachers look at an image whenever its frame is asked for; no disk, more time."""

from __future__ import annotations

from collections.abc import Sequence

from xkd_ros.teacher.config import TargetConfig
from xkd_ros.teacher.overlap import check_overlap
from xkd_ros.teacher.target_manifest import TargetManifest, describe_targets
from xkd_ros.teacher.targets import Frames, TeacherPair, ViewTargets, frame_targets
from xkd_ros.teacher.teacher import Teacher


class LiveTargets:
    """The same targets by frame number as `TargetStore`, bit for bit on the same machine.

    Attributes:
        manifest: What they are made from.
    """

    def __init__(self, frames: Frames, teachers: Sequence[Teacher], config: TargetConfig | None = None) -> None:
        """Get ready.

        Raises:
            CalibrationError: no point falls into an image.
            ConfigError: the teachers do not fit together.
        """
        self._frames, self._config = frames, config or TargetConfig()
        self.manifest: TargetManifest = describe_targets(frames, teachers, self._config)
        self._teachers = TeacherPair(teachers)
        check_overlap(frames, self._config)

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def hash(self) -> str:
        """Identify the targets."""
        return self.manifest.hash

    def __getitem__(self, number: int) -> list[ViewTargets]:
        """Make the targets of a frame, one entry per view that sees a point."""
        if not 0 <= number < len(self):
            raise IndexError(f"frame {number} of {len(self)}")
        return frame_targets(self._frames[number], self._teachers, self._config)
