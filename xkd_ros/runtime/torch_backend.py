"""The student on torch, layer by layer: on CUDA, and what the others are compared with."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from xkd_ros.core.card import ModelCard
from xkd_ros.core.types import NetInput
from xkd_ros.nets.batch import collate
from xkd_ros.nets.checkpoint import load_student
from xkd_ros.nets.student import Student
from xkd_ros.runtime.backend import Backend
from xkd_ros.runtime.numba_backend import NumbaBackend

Precision = Literal["float32", "bfloat16"]
_THREADS = torch.get_num_threads()


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
        """Copy the weights.

        Args:
            student: Any sizes.
            card: Its card.
            threads: CPU threads of torch; None for as many as it had when it was loaded.
            precision: Of the matrix products.
            device: "cpu" or "cuda"; None takes CUDA where there is one.
        """
        self.name = "torch" if precision == "float32" else "torch-bf16"
        self._threads = threads or _THREADS
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._student = copy.deepcopy(student).eval().to(self._device)
        self._dtype = getattr(torch, precision)

    @classmethod
    def load(cls, folder: str | Path, threads: int | None = None, precision: Precision = "float32") -> TorchBackend:
        """Load a model folder."""
        student, card = load_student(folder)
        return cls(student, card, threads, precision)

    def infer(self, net_input: NetInput) -> np.ndarray:
        """Return (N, C) float32 logits."""
        if torch.get_num_threads() != self._threads:  # each thread that calls has a number of its own
            torch.set_num_threads(self._threads)
        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            return self._student.on(collate([net_input]).to(self._device)).float().cpu().numpy()


def run_in_memory(student: Student, card: ModelCard, threads: int | None = None) -> Backend:
    """Make the fastest backend for a student that is in no folder, as between two steps of its training; takes a copy."""
    if torch.cuda.is_available():
        return TorchBackend(student, card, threads)
    return NumbaBackend(student.arrays(), card, threads)
