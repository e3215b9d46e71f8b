"""Scan and pictures in, labels out: the fused head where a fresh picture shows something, the lidar-only student else.

A robot that runs this has torch and the image teacher on board; without them `runtime.Segmenter` labels the same scans.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch

from xkd_ros.bags.frame import Frame
from xkd_ros.core.errors import ModelError
from xkd_ros.core.types import NetInput, Segmentation
from xkd_ros.evaluate.scan_logits import ScanLogits
from xkd_ros.nets.batch import collate
from xkd_ros.nets.checkpoint import load_student
from xkd_ros.nets.fused_checkpoint import load_fused
from xkd_ros.nets.fusion import FusedHead
from xkd_ros.nets.planes import make_planes
from xkd_ros.nets.student import Student
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.teacher.class_map import load_class_map
from xkd_ros.teacher.config import TargetConfig
from xkd_ros.teacher.targets import SeenPoints, seen_points
from xkd_ros.teacher.teacher import Teacher, load_teacher

logger = logging.getLogger(__name__)
FRESH_MS = 50.0
"""A picture further in time from its scan shows where things were (METHODS 6)."""


class FusedSegmenter:
    """A segmenter that also looks at the pictures of a frame, and falls back by itself. Not for several threads at once."""

    def __init__(self, segmenter: Segmenter, student: Student, head: FusedHead, teacher: Teacher, fresh_ms: float = FRESH_MS) -> None:
        """Join.

        Args:
            segmenter: Of the lidar-only student; labels what has no fresh picture.
            student: The same student, whose tokens are fused.
            head: Trained beside it.
            teacher: Whose features it was trained on.
            fresh_ms: Largest time between a scan and a picture.
        Raises:
            ModelError: the teacher gives features of another width.
        """
        if teacher.feature_width != head.sizes.features:
            raise ModelError(
                f"the fused head reads {head.sizes.features} image features, {teacher.name} gives {teacher.feature_width}; "
                "use the teacher that it was trained with"
            )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.segmenter = segmenter
        self._backbone, self._head, self._device = student.backbone.eval().to(device), head.eval().to(device), device
        # As in training, where pixels of points near a jump in depth may belong to what is behind.
        self._teacher, self._config = teacher, TargetConfig(max_dt_ms=fresh_ms)

    @classmethod
    def load(cls, folder: str | Path, teacher: str, backend: str = "auto", device: str = "cpu") -> FusedSegmenter:
        """Load a model folder that `xkd learn --set recipe=xmodel` wrote, and its image teacher.

        Args:
            folder: Holds the student and the fused head.
            teacher: Folder or hub id.
            backend: Of the lidar-only student, as for `Segmenter.load`.
            device: Of the teacher.
        Raises:
            ModelError: no fused head, of another student, or a teacher that does not fit.
        """
        student, _ = load_student(folder)
        head, card = load_fused(Path(folder), student)
        found = load_teacher(teacher, load_class_map("indoor12"), device)
        if card.teacher not in ("", found.fingerprint):
            logger.warning("%s is not the teacher, or not in the precision, that the fused head of %s was trained with", teacher, folder)
        return cls(Segmenter.load(folder, backend), student, head, found)

    def segment(self, frame: Frame) -> Segmentation:
        """Label every point of a frame."""
        net_input, logits = self.logits(frame)
        return ScanLogits(logits, net_input.undo).segmentation(self.segmenter.card.temperature)

    def logits(self, frame: Frame) -> tuple[NetInput, np.ndarray]:
        """Return the network's input and its (N, C) logits."""
        net_input = self.segmenter.prepare(frame.points_m, frame.intensity, frame.levelled_from_lidar)
        point, features = self._look(frame, net_input.kept)
        if not len(point):
            return net_input, self.segmenter.infer(net_input)
        batch = collate([net_input]).to(self._device)
        with torch.inference_mode():
            tokens = self._backbone(batch.features, batch.neighbours, make_planes(batch.cells, batch.shapes), None, batch.scan)
            said = self._head(tokens, *(torch.from_numpy(array).to(self._device) for array in (point, features)))
        return net_input, said.float().cpu().numpy()

    def _look(self, frame: Frame, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ask the teacher about the points that the network reads.

        Args:
            frame: With pictures.
            kept: (N,) the frame's point behind each point of the network.
        Returns:
            point (P,) int64 into N and features (P, D); none without a fresh picture that shows one.
        """
        place = np.full(len(frame), -1, np.int64)
        place[kept] = np.arange(len(kept))
        points, features = [np.zeros(0, np.int64)], [np.zeros((0, self._teacher.feature_width), np.float16)]
        for number, view in enumerate(frame.views):
            seen: SeenPoints | None = seen_points(frame, number, self._config)
            if seen is None:
                continue
            asked = np.flatnonzero((place[seen.point] >= 0) & ~seen.edge)
            if len(asked):
                found = self._teacher.look(view.rgb(), seen.uv_px[asked]).features
                assert found is not None
                points.append(place[seen.point[asked]])
                features.append(found)
        return np.concatenate(points), np.concatenate(features)
