"""The student on CUDA with all that comes before and after it: one copy to the device for each scan, one back, nothing in between.

Where a scan has to stop on the way, as for temporal fusion, `infer` gives the logits of what the CPU has prepared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from xkd_ros.core.card import ModelCard
from xkd_ros.core.errors import ModelError, require
from xkd_ros.core.types import NetInput, ScanRequest, Segmentation
from xkd_ros.runtime.backend import MAX_BROKEN, MIN_AGREEMENT, Backend
from xkd_ros.runtime.probe import make_room_scan

_PROBE = (32, 900, 16.0)
_CAPABILITY = (8, 0)
"""Older GPUs do not multiply bfloat16, nor does Triton compile for them."""


class CudaBackend:
    """Runs a student in bfloat16, and whole scans as CUDA graphs of Triton kernels."""

    name = "cuda"

    def __init__(self, student: Any, card: ModelCard, device: str = "cuda", precision: str = "bfloat16", kernels: bool = True) -> None:
        """Copy the weights.

        Args:
            student: `nets.student.Student` of any sizes.
            card: Its card.
            device: "cuda"; "cpu" runs the same steps one by one, for comparison.
            precision: Of the matrix products: bfloat16, float16 or float32.
            kernels: False runs plain torch.
        Raises:
            MissingPackageError: kernels are wanted and Triton is not installed.
        """
        import torch

        from xkd_ros.device.recorded_path import RecordedPath
        from xkd_ros.device.scan_path import ScanPath
        from xkd_ros.device.student import DeviceStudent

        self._card, self._device = card, device
        self._student = DeviceStudent(student, getattr(torch, precision), device, kernels)
        self._path = RecordedPath(ScanPath(card, self._student, kernels), device)

    @classmethod
    def load(cls, folder: str | Path, card: ModelCard) -> CudaBackend:
        """Load a model folder, and see a scan labelled as by torch in float32.

        Raises:
            MissingPackageError: torch or Triton is not installed.
            ModelError: no GPU or one that is too old, no scan gets through, or the labels are others.
        """
        torch = require("torch", "the cuda backend", "pip install torch safetensors")
        if not torch.cuda.is_available():
            raise ModelError("torch finds no CUDA device; take backend: auto")
        if (found := torch.cuda.get_device_capability()) < _CAPABILITY:
            name, (major, minor) = torch.cuda.get_device_name(), _CAPABILITY
            raise ModelError(f"{name} has compute capability {found[0]}.{found[1]}, {major}.{minor} is needed; take backend: auto")
        from xkd_ros.nets.checkpoint import load_student
        from xkd_ros.runtime.torch_backend import TorchBackend

        student, _ = load_student(folder)
        backend = cls(student, card)
        try:
            share = backend.agreement_with(TorchBackend(student, card))
        except Exception as error:  # of compilers and drivers
            what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            hint = "Triton needs a C compiler and Python's headers (apt install gcc python3-dev)"
            raise ModelError(f"no scan gets through on this GPU ({what}); {hint}, or take backend: auto") from error
        if share < MIN_AGREEMENT:
            raise ModelError(f"whole scans are labelled as by torch at {100 * share:.2f} % of the points, {100 * MIN_AGREEMENT} % needed")
        return backend

    def infer(self, net_input: NetInput) -> np.ndarray:
        """Return (N, C) float32 logits."""
        from xkd_ros.device.plane_table import exact_inputs

        return self._student.forward(*exact_inputs(net_input, self._device)).cpu().numpy()

    def label_scan(self, request: ScanRequest) -> Segmentation:
        """Label every point of a raw scan; see `backend.ScanBackend`."""
        answer, state = self._path(request)
        if state.broken > MAX_BROKEN * state.voxels:
            raise ModelError(f"backend {self.name} gave no finite answer for {state.broken} of {state.voxels} points")
        return answer

    def agreement_with(self, reference: Backend, room: tuple[int, int, float] = _PROBE) -> float:
        """Share of the points of an invented scan that get the label which a plain backend gives on the ordinary way.

        Args:
            reference: The plain backend.
            room: Beams, columns and length of the room, metres; see `probe.make_room_scan`.
        """
        from xkd_ros.runtime.segmenter import Segmenter

        points, intensity = make_room_scan(0, *room)
        ours = self.label_scan(ScanRequest(points, intensity, np.eye(3), self._card.intensity))
        theirs = Segmenter(self._card, reference).segment(points, intensity, np.eye(3))
        return float((ours.labels == theirs.labels).mean())
