"""Labels of frames as they are: the simulation's own, none at all, and what the teacher says under each projected point, unfiltered."""

from __future__ import annotations

import numpy as np

from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.labels import LabelSet
from xkd_ros.core.types import UNKNOWN
from xkd_ros.teacher.target_store import TargetStore


class TrueLabels:
    """True labels by frame number, all of them sure. To learn from them is the protocol of one study only: `scalr`."""

    def __init__(self, frames: FrameStore, label_set: LabelSet) -> None:
        """Choose.

        Raises:
            ConfigError: the frames have true labels of other classes.
        """
        strange = [source.name for source in frames.manifest.sources if source.truth != label_set.names]
        if strange:
            raise ConfigError(f"{frames.folder}: recording {strange[0]} has no true labels of the classes {', '.join(label_set.names)}")
        self._frames = frames

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return labels (N,) uint8, 255 unknown, and confidence (N,) float32."""
        frame = self._frames.scan(number)
        labels = np.full(len(frame.points_m), UNKNOWN, np.uint8) if frame.truth is None else frame.truth
        return labels, (labels != UNKNOWN).astype(np.float32)


class NoLabels:
    """Not one label, for methods that learn from something else."""

    def __init__(self, frames: FrameStore) -> None:
        self._frames = frames

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return labels (N,) uint8, all 255, and confidence (N,) float32, all 0."""
        points = len(self._frames.scan(number).points_m)
        return np.full(points, UNKNOWN, np.uint8), np.zeros(points, np.float32)


class ProjectedLabels:
    """The class that the teacher names at the pixel of each point that a camera sees (METHODS 3.4); 255 elsewhere."""

    def __init__(self, frames: FrameStore, targets: TargetStore) -> None:
        """Choose.

        Raises:
            ConfigError: the targets hold no class scores.
        """
        if targets.manifest.label_set is None:
            raise ConfigError("the teacher names no classes: its labels cannot be projected; give one that does")
        self._frames, self._targets, self._classes = frames, targets, len(targets.manifest.label_set)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return labels (N,) uint8, 255 unknown, and confidence (N,) float32."""
        total = np.zeros((len(self._frames.scan(number).points_m), self._classes), np.float32)
        views = np.zeros(len(total), np.float32)
        for picture in self._targets[number]:
            assert picture.scores is not None
            total[picture.point] += picture.scores
            views[picture.point] += 1
        # A row of zeros is what the class map ignores.
        labels = np.where(total.any(axis=1), total.argmax(axis=1), UNKNOWN).astype(np.uint8)
        return labels, total.max(axis=1) / np.maximum(views, 1)
