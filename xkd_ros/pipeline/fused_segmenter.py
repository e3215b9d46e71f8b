"""Scan and pictures in, labels out: the fused head where a fresh picture shows something, the lidar-only student else.

A robot that runs this has torch and the image teacher on board; without them `runtime.Segmenter` labels the same scans.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from xkd_ros.bags.frame import DecodedView, Frame, View
from xkd_ros.core.camera import Camera
from xkd_ros.core.errors import ModelError, XkdError
from xkd_ros.core.types import NetInput, Segmentation
from xkd_ros.nets.checkpoint import load_student
from xkd_ros.nets.fused_checkpoint import load_fused
from xkd_ros.nets.fusion import FusedHead, ask_fused
from xkd_ros.nets.student import Student
from xkd_ros.pipeline.fused_labels import FRESH_MS
from xkd_ros.points.places import places
from xkd_ros.runtime.segmenter import Outside, Segmenter
from xkd_ros.teacher.class_map import load_class_map
from xkd_ros.teacher.config import TargetConfig
from xkd_ros.teacher.model_folder import find_teacher
from xkd_ros.teacher.targets import SeenPoints, seen_points
from xkd_ros.teacher.teacher import Teacher, load_teacher

logger = logging.getLogger(__name__)
NO_PICTURE, NOT_FRESH, SHOWS_NOTHING = "no picture", "no picture near enough in time", "no picture shows a point of the scan"


class FusedSegmenter:
    """A segmenter that also looks at the pictures of a frame, and falls back by itself. Not for several threads at once.

    Attributes:
        segmenter: Labels what has no fresh picture.
        why: Why the last scan was labelled by the lidar alone; empty where a picture had its say.
    """

    def __init__(self, segmenter: Segmenter, student: Student, head: FusedHead, teacher: Teacher, fresh_ms: float = FRESH_MS) -> None:
        """Join.

        Args:
            segmenter: Of the lidar-only student.
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
        self.segmenter, self.why = segmenter, NO_PICTURE
        self._backbone, self._head = student.backbone.eval().to(device), head.eval().to(device)
        # As in training, where pixels of points near a jump in depth may belong to what is behind.
        self._teacher, self._config = teacher, TargetConfig(max_dt_ms=fresh_ms)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        teacher: str,
        backend: str = "auto",
        device: str | None = None,
        threads: int | None = None,
        outside: Outside = "nearest",
        fresh_ms: float = FRESH_MS,
    ) -> FusedSegmenter:
        """Load a model folder that `xkd learn --recipe xmodel` wrote, and its image teacher.

        Args:
            folder: Holds the student and the fused head.
            teacher: Folder, hub id, or the name of one that comes with the package.
            backend, outside: Of the lidar-only student, as for `Segmenter.load`.
            device: Of the teacher; None takes CUDA where there is one.
            threads: CPU threads, for torch in the whole process; None takes all.
            fresh_ms: Largest time between a scan and a picture.
        Raises:
            ModelError: no fused head, of another student, or a teacher that does not fit.
        """
        student, _ = load_student(folder)
        head, card = load_fused(Path(folder), student)
        if threads:
            torch.set_num_threads(threads)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        found = load_teacher(find_teacher(teacher), load_class_map("indoor12"), device)
        if card.teacher and card.teacher != found.fingerprint:
            logger.warning("%s is not the teacher, or not in the precision, that the fused head of %s was trained with", teacher, folder)
        return cls(Segmenter.load(folder, backend, threads, outside), student, head, found, fresh_ms)

    def warm_up(self) -> None:
        """Fuse something once, so that the first picture is not late."""
        camera = Camera(640, 480, np.array([[400.0, 0, 320], [0, 400, 240], [0, 0, 1]]))
        view = DecodedView("none", camera, np.eye(4), 0, b"", np.zeros((480, 640, 3), np.uint8))
        points = np.random.default_rng(0).uniform((-2, -2, 1), (2, 2, 3), (4000, 3)).astype(np.float32)
        self._fused_logits(self.segmenter.prepare(points, None, np.eye(3)), points, (view,))
        self.why = NO_PICTURE

    def segment(self, frame: Frame) -> Segmentation:
        """Label every point of a frame."""
        infer = partial(self.infer, points_m=frame.points_m, views=frame.views)
        return self.segmenter.segment(frame.points_m, frame.intensity, frame.levelled_from_lidar, infer=infer)

    def infer(self, net_input: NetInput, points_m: np.ndarray, views: Sequence[View]) -> np.ndarray:
        """Return (N, C) logits, and `why` they are the lidar's alone if they are; a picture that breaks something costs no label.

        Args:
            net_input: Of the scan.
            points_m: (M, 3) metres, lidar frame; what is no measurement is seen by no camera.
            views: Pictures taken next to the scan.
        """
        try:
            logits = self._fused_logits(net_input, points_m, views)
        except Exception as error:  # decoding, torch and the teacher are other people's packages
            words = " ".join(str(error).split())[:200]
            logits, self.why = None, words if isinstance(error, XkdError) else f"{type(error).__name__}: {words}"
        return self.segmenter.infer(net_input) if logits is None else logits

    def logits(self, frame: Frame) -> tuple[NetInput, np.ndarray]:
        """Return the network's input and its (N, C) logits; a picture that cannot be used is an error here."""
        net_input = self.segmenter.prepare(frame.points_m, frame.intensity, frame.levelled_from_lidar)
        logits = self._fused_logits(net_input, frame.points_m, frame.views)
        return net_input, self.segmenter.infer(net_input) if logits is None else logits

    def _fused_logits(self, net_input: NetInput, points_m: np.ndarray, views: Sequence[View]) -> np.ndarray | None:
        point, features = self._look(points_m, views, net_input.kept)
        if not len(point):
            return None
        return ask_fused(self._backbone, self._head, net_input, point, features)

    def _look(self, points_m: np.ndarray, views: Sequence[View], kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ask the teacher about the points that the network reads.

        Args:
            points_m: (M, 3) of the scan.
            views: Its pictures.
            kept: (N,) the scan's point behind each point of the network.
        Returns:
            point (P,) int64 into N and features (P, D); none without a fresh picture that shows one.
        """
        self.why = NOT_FRESH if views else NO_PICTURE
        place = places(kept, len(points_m))
        frame = Frame(0, 0, "", "", "", points_m, None, np.eye(3), views=tuple(views))
        points, features = [np.zeros(0, np.int64)], [np.zeros((0, self._teacher.feature_width), np.float16)]
        for number, view in enumerate(views):
            seen: SeenPoints | None = seen_points(frame, number, self._config)
            if seen is None:
                continue
            asked = np.flatnonzero((place[seen.point] >= 0) & ~seen.edge)
            self.why = "" if len(asked) or not self.why else SHOWS_NOTHING
            if len(asked):
                found = self._teacher.look(view.rgb(), seen.uv_px[asked]).features
                assert found is not None
                points.append(place[seen.point[asked]])
                features.append(found)
        return np.concatenate(points), np.concatenate(features)
