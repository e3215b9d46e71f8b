"""How far a student agrees with each unit: the share of its points where the two name the same class."""

from __future__ import annotations

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from xkd_ros.core.card import IntensityConfig
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.frame_samples import Frames
from xkd_ros.distill.partdistill.unit_samples import UnitCount, inside_frame
from xkd_ros.distill.partdistill.units import FrameUnits, Units
from xkd_ros.distill.student_input import StoredFrame, StudentConfig
from xkd_ros.nets.batch import collate
from xkd_ros.points.preprocessor import Preprocessor


class UnitJudge:
    """Asks a student about whole scans as they are, each once, the frames shared among the processes.

    Args:
        frames: Frame store.
        units: Of these frames.
        count: Their numbers.
        student: How the student reads a scan.
        fabric: Launched.
    """

    def __init__(self, frames: Frames, units: Units, count: UnitCount, student: StudentConfig, fabric: Fabric) -> None:
        self._frames, self._units, self._count = frames, units, count
        self._student, self._fabric = student, fabric

    def __call__(self, model: nn.Module) -> torch.Tensor:
        """Score all units.

        Args:
            model: In evaluation mode, on this process's device; called as `Student`.
        Returns:
            (U,) float32, 0 to 1, the same on every process.
        """
        scores = np.zeros(self._count.units, np.float32)
        for frame in self._count.frames[self._fabric.global_rank :: self._fabric.world_size].tolist():
            units = self._units[frame]
            if len(units):
                scan = self._frames.scan(frame)
                inside_frame(units, frame, len(scan.points_m))
                scores[self._count.span(frame)] = agreement(units, self._named(model, scan))
        # Every unit is scored by one process and zero elsewhere.
        return self._fabric.all_reduce(torch.from_numpy(scores).to(self._fabric.device), reduce_op="sum")  # type: ignore[return-value]

    @torch.inference_mode()
    def _named(self, model: nn.Module, scan: StoredFrame) -> np.ndarray:
        """Name the class of each point: (N,) uint8, 255 where the student sees none."""
        per_scan = self._student.intensity == "per_scan"
        intensity = IntensityConfig(per_scan=True) if per_scan else self._frames.manifest.intensity[scan.rig]
        item = Preprocessor(self._student.geometry, intensity)(scan.points_m, scan.intensity, scan.levelled_from_lidar)
        named = np.full(len(scan.points_m), UNKNOWN, np.uint8)
        if len(item) > self._student.geometry.neighbours:
            b = collate([item]).to(self._fabric.device)
            best = model(b.features, b.cells, b.shapes, b.neighbours, None, b.scan).argmax(1).cpu().numpy().astype(np.uint8)
            known = item.undo >= 0
            named[known] = best[item.undo[known]]
        return named


def agreement(units: FrameUnits, named: np.ndarray) -> np.ndarray:
    """Compute the share of each unit's points where the student names the unit's class.

    Args:
        units: U units of a frame.
        named: (N,) uint8 classes that the student names at the frame's points.
    Returns:
        (U,) float32; 0 for a unit without points.
    Source: PartDistill (CVPR 2024) eq. 4; METHODS 5.1.
    """
    unit = units.unit
    agreed = named[units.point] == units.label[unit]
    return (np.bincount(unit, agreed, minlength=len(units)) / np.maximum(units.sizes, 1)).astype(np.float32)
