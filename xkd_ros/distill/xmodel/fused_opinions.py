"""What a fused head says about whole stored frames, with what the image teacher said at some of their points."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch

from xkd_ros.distill.frame_samples import RecordedFrame
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.picture_pairs import PicturePairs
from xkd_ros.distill.xmodel.config import XModelConfig
from xkd_ros.nets.fused_checkpoint import load_fused
from xkd_ros.nets.fusion import ask_fused
from xkd_ros.nets.student import Student


class FusedOpinions:
    """Asks a fused head about one frame at a time; where no picture shows anything it goes by the lidar."""

    def __init__(self, lesson: Lesson, config: XModelConfig, student: Student, folder: Path, device: torch.device) -> None:
        """Load the head.

        Args:
            lesson: The frames, and what the image teacher says about them.
            config: Whether points near edges count.
            student: Whose tokens the head reads.
            folder: Where `run_xmodel` left the head.
            device: For both.
        Raises:
            ModelError: no head of this student is there.
        """
        head, _ = load_fused(folder, student)
        self._backbone, self._head = copy.deepcopy(student.backbone).eval().to(device), head.to(device)
        self._targets, self._skip_edges = lesson.teacher(config.method), config.skip_edges
        self._reads, self._rigs, self._threads = lesson.backbone.card.student, lesson.frames.manifest.intensity, torch.get_num_threads()

    def __call__(self, frame: RecordedFrame) -> tuple[np.ndarray, np.ndarray]:
        """Ask about one frame.

        Returns:
            logits (n, C) float32 of the sampled points, and (N,) int64 which of them stands for each point, -1 for none.
        """
        item = self._reads.whole(frame, self._rigs, self._threads)
        if not len(item):
            return np.zeros((0, 0), np.float32), item.undo
        return ask_fused(self._backbone, self._head, item, *self._pictures(frame.number, item.undo)), item.undo

    def _pictures(self, number: int, undo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (P,) sampled points and (P, D) what pictures show there: at a point of the frame that the sampled one stands for."""
        points, features = PicturePairs(self._targets[number], self._skip_edges).at(undo)
        return points, features if len(points) else np.zeros((0, self._head.sizes.features), np.float16)
