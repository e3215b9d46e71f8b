"""Labels that studies compare: simulated strokes, none at all, and what the teacher says at projected points, unfiltered."""

from __future__ import annotations

import numpy as np

from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.labels import LabelSet
from xkd_ros.core.se3 import apply
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.given_labels import GivenLabels
from xkd_ros.teacher.target_store import TargetStore
from xkd_ros.worlds.scribbles import Scribbles

_SHOWN = 4000
"""Points of a frame that strokes are drawn on."""


class ScribbleLabels:
    """Labels near simulated strokes on the surfaces of each building, the same for all its frames; 255 elsewhere (METHODS 4.1)."""

    def __init__(self, frames: FrameStore, label_set: LabelSet, share: float, seed: int) -> None:
        """Draw the strokes.

        Args:
            frames: Of simulated walks with poses; their training frames show where surfaces are.
            label_set: Classes.
            share: Of the points that strokes label.
            seed: Of the strokes.
        Raises:
            ConfigError: the frames have no true labels, or no poses.
        """
        self._frames, self._true = frames, GivenLabels(frames, label_set)
        self._found: dict[int, np.ndarray] = {}
        places: dict[str, list[int]] = {}
        for number in frames.numbers().tolist():
            places.setdefault(frames.manifest.frames[number].source, []).append(number)
        self._scribbles = {source: self._draw(numbers, share, seed + index) for index, (source, numbers) in enumerate(places.items())}

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return labels (N,) uint8, 255 unknown, and confidence (N,) float32."""
        if number not in self._found:
            scribbles = self._scribbles[self._frames.manifest.frames[number].source]
            self._found[number] = scribbles.label(self._world(number), self._true[number][0])
        labels = self._found[number]
        return labels, (labels != UNKNOWN).astype(np.float32)

    def _draw(self, numbers: list[int], share: float, seed: int) -> Scribbles:
        rng = np.random.default_rng(seed)
        points, labels = [], []
        for number in numbers:
            world, true = self._world(number), self._true[number][0]
            shown = rng.permutation(len(world))[:_SHOWN]
            points.append(world[shown])
            labels.append(true[shown])
        return Scribbles(np.concatenate(points), np.concatenate(labels), share, seed)

    def _world(self, number: int) -> np.ndarray:
        frame = self._frames.scan(number)
        if frame.world_from_lidar is None:
            raise ConfigError(f"frame {number} of {self._frames.folder} has no pose: strokes are drawn in the world")
        return apply(frame.world_from_lidar, frame.points_m)


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
