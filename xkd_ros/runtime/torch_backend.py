"""The student on torch: CPU or CUDA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from xkd_ros.core.card import ModelCard
from xkd_ros.core.types import NetInput
from xkd_ros.nets.batch import collate
from xkd_ros.nets.checkpoint import load_student
from xkd_ros.nets.student import Student


class TorchBackend:
    """Runs a student in evaluation mode."""

    name = "torch"

    def __init__(self, student: Student, card: ModelCard, threads: int | None = None) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._student = student.eval().to(self._device)
        if threads:
            torch.set_num_threads(threads)

    @classmethod
    def load(cls, folder: str | Path, threads: int | None = None) -> TorchBackend:
        """Load a model folder."""
        student, card = load_student(folder)
        return cls(student, card, threads)

    def infer(self, net_input: NetInput) -> np.ndarray:
        """Return (N, C) float32 logits."""
        with torch.inference_mode():
            return self._student.on(collate([net_input]).to(self._device)).float().cpu().numpy()
