"""What a student says about whole stored frames while it still learns: for pseudo-labels and for judging the teacher's."""

from __future__ import annotations

import numpy as np
import torch

from xkd_ros.core.card import IntensityConfig, ModelCard
from xkd_ros.core.labels import UNKNOWN_COLOUR, LabelSet
from xkd_ros.distill.student_input import StoredFrame, StudentConfig
from xkd_ros.nets.student import Student
from xkd_ros.runtime.torch_backend import run_in_memory


class WholeFrames:
    """Asks a student about whole frames as on the robot, by the fastest way that this machine has."""

    def __init__(self, student: Student, config: StudentConfig, rigs: dict[str, IntensityConfig]) -> None:
        """Take a copy of the student.

        Args:
            student: On any device.
            config: How it reads scans.
            rigs: Intensity statistics of each rig.
        """
        self._config, self._rigs, self._threads = config, rigs, torch.get_num_threads()
        names = tuple(f"class {number}" for number in range(student.network.classes))
        labels = LabelSet(names=names, colours=(UNKNOWN_COLOUR,) * len(names))
        card = ModelCard(name="learning", geometry=config.geometry, labels=labels, network=student.network)
        self._backend = run_in_memory(student, card, self._threads)

    def __call__(self, frame: StoredFrame) -> tuple[np.ndarray, np.ndarray]:
        """Ask about one frame.

        Returns:
            logits (n, C) float32 of the sampled points, none where the frame holds no measurement, and (N,) int64 which of them stands
            for each point, -1 for none.
        """
        item = self._config.whole(frame, self._rigs, self._threads)
        return self._backend.infer(item) if len(item) else np.zeros((0, 0), np.float32), item.undo
