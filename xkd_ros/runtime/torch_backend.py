"""The student on torch: folded on the CPU, layer by layer on CUDA."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from xkd_ros.core.card import ModelCard
from xkd_ros.core.types import NetInput
from xkd_ros.nets.batch import collate
from xkd_ros.nets.checkpoint import load_student
from xkd_ros.nets.folded import FoldedStudent
from xkd_ros.nets.student import Student

Precision = Literal["float32", "bfloat16"]


class TorchBackend:
    """Runs a student in evaluation mode, on CUDA where there is one."""

    def __init__(
        self,
        student: Student,
        card: ModelCard,
        threads: int | None = None,
        precision: Precision = "float32",
        device: str | None = None,
    ) -> None:
        """Prepare the weights; later changes of `student` have no effect on the CPU.

        Args:
            student: Any sizes; put into evaluation mode and moved to the device.
            card: Its card.
            threads: CPU threads of torch, for the whole process; None leaves them.
            precision: Of the matrix products.
            device: "cpu" or "cuda"; None takes CUDA where there is one.
        """
        self.name = "torch" if precision == "float32" else "torch-bf16"
        if threads:
            torch.set_num_threads(threads)
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._student = student.eval().to(self._device)
        self._dtype = getattr(torch, precision)
        self._folded = FoldedStudent(self._student, self._dtype) if self._device.type == "cpu" else None

    @classmethod
    def load(cls, folder: str | Path, threads: int | None = None, precision: Precision = "float32") -> TorchBackend:
        """Load a model folder."""
        student, card = load_student(folder)
        return cls(student, card, threads, precision)

    def infer(self, net_input: NetInput) -> np.ndarray:
        """Return (N, C) float32 logits."""
        if self._folded is not None:
            return self._folded(net_input).numpy()
        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            return self._student.on(collate([net_input]).to(self._device)).float().cpu().numpy()
