"""What a student says about whole stored frames while it still learns: for pseudo-labels and for judging the teacher's."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from xkd_ros.core.card import IntensityConfig
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.student_input import StoredFrame, StudentConfig
from xkd_ros.nets.batch import collate
from xkd_ros.nets.student import Student
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.runtime.segmenter import describe_logits


@torch.inference_mode()
def whole_frame_logits(
    model: nn.Module, frame: StoredFrame, config: StudentConfig, rigs: dict[str, IntensityConfig]
) -> tuple[np.ndarray, np.ndarray]:
    """Ask a student about a whole frame, as on the robot.

    Args:
        model: In evaluation mode, on any device; called as `Student`.
        frame: The frame.
        config: How the student reads scans.
        rigs: Intensity statistics of each rig.
    Returns:
        logits (n, C) float32 of the sampled points, none where the frame holds no measurement, and (N,) int64 which of them stands for
        each point, -1 for none.
    """
    preprocess = Preprocessor(config.geometry, config.statistics(frame.rig, rigs))
    item = preprocess(frame.points_m, frame.intensity, frame.levelled_from_lidar)
    if not len(item):
        return np.zeros((0, 0), np.float32), item.undo
    b = collate([item]).to(next(model.parameters()).device)
    return model(b.features, b.cells, b.shapes, b.neighbours, None, b.scan).float().cpu().numpy(), item.undo


class Predictor:
    """Frame → labels and confidence of all its points."""

    def __init__(self, student: Student, config: StudentConfig, rigs: dict[str, IntensityConfig]) -> None:
        """Configure.

        Args:
            student: On any device; used in evaluation mode.
            config: How it reads scans.
            rigs: Intensity statistics of each rig.
        """
        self._student, self._config, self._rigs = student.eval(), config, rigs

    def __call__(self, frame: StoredFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return labels (N,) uint8, 255 where there is no measurement, and confidence (N,) float32."""
        logits, undo = whole_frame_logits(self._student, frame, self._config, self._rigs)
        label, probability, _ = describe_logits(logits, 1.0)
        labels, confidence = np.full(len(undo), UNKNOWN, np.uint8), np.zeros(len(undo), np.float32)
        known = undo >= 0
        labels[known], confidence[known] = label[undo[known]], probability[undo[known]]
        return labels, confidence
