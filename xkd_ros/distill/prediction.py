"""What a student says about whole stored frames while it still learns: for pseudo-labels and for judging the teacher's."""

from __future__ import annotations

import numpy as np
import torch

from xkd_ros.core.card import IntensityConfig
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.student_input import StoredFrame, StudentConfig
from xkd_ros.nets.batch import collate
from xkd_ros.nets.student import Student
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.runtime.segmenter import describe_logits


class Predictor:
    """Frame → labels and confidence of all its points, as on the robot."""

    def __init__(self, student: Student, config: StudentConfig, rigs: dict[str, IntensityConfig]) -> None:
        """Configure.

        Args:
            student: On any device; used in evaluation mode.
            config: How it reads scans.
            rigs: Intensity statistics of each rig.
        """
        self._student, self._config, self._rigs = student.eval(), config, rigs
        self._device = next(student.parameters()).device

    @torch.no_grad()
    def __call__(self, frame: StoredFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return labels (N,) uint8, 255 where there is no measurement, and confidence (N,) float32."""
        intensity = self._config.statistics(frame.rig, self._rigs)
        preprocess = Preprocessor(self._config.geometry, intensity, threads=1)
        item = preprocess(frame.points_m, frame.intensity, frame.levelled_from_lidar)
        labels, confidence = np.full(len(frame.points_m), UNKNOWN, np.uint8), np.zeros(len(frame.points_m), np.float32)
        if len(item):
            logits = self._student.on(collate([item]).to(self._device)).float().cpu().numpy()
            label, probability, _ = describe_logits(logits, 1.0)
            known = item.undo >= 0
            labels[known], confidence[known] = label[item.undo[known]], probability[item.undo[known]]
        return labels, confidence
