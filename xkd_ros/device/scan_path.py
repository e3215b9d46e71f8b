"""The whole way of a scan on one device: raw points in, label, probability and entropy of each of them out, nothing asked in between.

In: one buffer with everything that a scan brings. Out: one buffer with everything that is answered. All shapes follow from the number of
raw points that there is room for and the number of voxel points that there is room for, so the whole can be recorded as a CUDA graph.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from xkd_ros.core.card import ModelCard
from xkd_ros.core.types import UNKNOWN, ScanRequest, Segmentation
from xkd_ros.device.heading import turn
from xkd_ros.device.intensity import statistics_row
from xkd_ros.device.preprocessor import DeviceInput, DevicePreprocessor
from xkd_ros.device.student import DeviceStudent

_HEADER = 16
"""Doubles before the points: rotation (9), statistics of the intensity (6), and 1 where points outside the view stay unknown."""
_COLUMNS = 4
_LEAST = 1e-30
"""Probability whose logarithm is still a number."""
_STATE = 3
"""Whole numbers before the answers: voxel points, 1 where there was room for them and their cells, voxel points with broken logits."""


class ScanPath:
    """A student with its preprocessing and its answer."""

    def __init__(self, card: ModelCard, student: DeviceStudent, kernels: bool) -> None:
        """Join.

        Args:
            card: Geometry and temperature.
            student: On the device.
            kernels: Search neighbours by a Triton kernel.
        """
        self._student, self._temperature = student, card.temperature
        self._preprocess = DevicePreprocessor(card.geometry, kernels)
        self._groups: np.ndarray | None = None
        self._group = torch.arange(len(card.labels), device=student.device)

    def join(self, groups: np.ndarray | None) -> None:
        """Take the classes that are one to whoever asks, see `runtime.Segmenter.groups`; also what was recorded before knows them."""
        if groups is not self._groups:
            self._group.copy_(torch.arange(len(self._group)) if groups is None else torch.from_numpy(groups))
            self._groups = groups
            if self._group.is_cuda:  # graphs run on a stream of their own
                torch.cuda.synchronize(self._group.device)

    def __call__(self, packed: Tensor, room: int, headings: int = 1) -> Tensor:
        """Label a scan.

        Args:
            packed: uint8 buffer from `pack_scan`, on the device.
            room: N, most voxel points.
            headings: To be averaged, as `runtime.headings` does it.
        Returns:
            uint8 buffer for `unpack_answer`, on the device.
        """
        header = packed[: 8 * _HEADER].view(torch.float64)
        rows = packed[8 * _HEADER :].view(torch.float32).view(-1, _COLUMNS)
        rotation = header[:9].view(3, 3)
        first, logits = self._look(rows, rotation, header, room)
        total = logits.softmax(1)
        for number in range(1, headings):
            yaw = torch.full((), 2 * np.pi * number / headings, dtype=torch.float64, device=packed.device)
            scan, turned = self._look(rows, turn(yaw) @ rotation, header, room)
            total = total + turned.softmax(1)[scan.undo[first.kept].clamp(min=0)]
            first = replace(first, fits=first.fits & scan.fits, count=torch.maximum(first.count, scan.count))
        if headings > 1:
            logits = (total / headings).clamp(min=_LEAST).log()
        return self._answer(first, logits, header[15] > 0)

    def _look(self, rows: Tensor, rotation: Tensor, header: Tensor, room: int) -> tuple[DeviceInput, Tensor]:
        """Prepare a scan; compute its (N, C) logits, divided by the temperature."""
        scan = self._preprocess(rows[:, :3], rows[:, 3], rotation, header[9:15], room)
        return scan, self._student.forward(scan.features, scan.neighbours, scan.tables) / self._temperature

    def _answer(self, scan: DeviceInput, logits: Tensor, inside_only: Tensor) -> Tensor:
        label, probability, entropy, sound = describe_logits(logits, self._group)
        known = (scan.undo >= 0) & (scan.inside | ~inside_only)
        place = scan.undo.clamp(min=0)
        real = torch.arange(len(logits), device=logits.device) < scan.count
        state = torch.stack([scan.count, scan.fits.to(torch.int64), (real & ~sound).sum()])
        answers = (
            torch.where(known, probability[place], 0.0),
            torch.where(known, entropy[place], 1.0),
            torch.where(known, label[place], UNKNOWN),
        )
        return torch.cat([part.view(torch.uint8) for part in (state, *answers)])


def describe_logits(logits: Tensor, group: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Name the likeliest class and say how sure that is; the twin of `runtime.segmenter.describe_logits`.

    Args:
        logits: (N, C) float32; rows that are not finite become unknown.
        group: (C,) int64, the same for classes that are one to whoever asks.
    Returns:
        labels (N,) uint8, probability (N,) float32 of that label and those that are one with it, entropy (N,) float32 divided by log(C),
        and (N,) bool, finite.
    """
    scaled = logits - logits.amax(1, keepdim=True)
    share = scaled.exp()
    total = share.sum(1)
    entropy = (total.log() - (share * scaled).sum(1) / total) / max(float(np.log(logits.shape[1])), 1e-9)
    sound = (total + entropy).isfinite()
    one = (group.unsqueeze(1) == torch.arange(len(group), device=group.device)).to(share.dtype)
    together = (share @ one).index_select(1, group)
    best = together.amax(1)
    named = torch.where(together == best.unsqueeze(1), share, -1.0).argmax(1)
    label = torch.where(sound, named, UNKNOWN).to(torch.uint8)
    return label, torch.where(sound, best / total, 0.0), torch.where(sound, entropy, 1.0), sound


def packed_bytes(points: int) -> int:
    """Size of the buffer of a scan with room for so many raw points."""
    return 8 * _HEADER + 4 * _COLUMNS * points


def pack_scan(out: np.ndarray, request: ScanRequest) -> None:
    """Write a scan, and what is wanted of it but for headings and groups, into a buffer.

    Args:
        out: uint8 of `packed_bytes`; what the scan does not fill becomes NaN, which is no measurement.
        request: The scan.
    """
    header = out[: 8 * _HEADER].view(np.float64)
    header[:9] = np.asarray(request.rotation, np.float64).ravel()
    header[9:15], header[15] = statistics_row(request.statistics), request.inside_only
    rows, count = out[8 * _HEADER :].view(np.float32).reshape(-1, _COLUMNS), len(request.points_m)
    # Numbers that float32 does not hold become infinite, which is no measurement either.
    with np.errstate(over="ignore"):
        rows[:count, :3] = request.points_m
        rows[:count, 3] = np.nan if request.intensity is None else request.intensity
    rows[count:] = np.nan


class PathState(NamedTuple):
    """What a path says of itself.

    Attributes:
        voxels: Voxel points of the scan.
        fits: There was room for them and their cells; else the answers mean nothing.
        broken: Voxel points whose logits are not finite.
    """

    voxels: int
    fits: bool
    broken: int


def answer_bytes(points: int) -> int:
    """Size of the answer about so many raw points."""
    return 8 * _STATE + 9 * points


def unpack_answer(buffer: np.ndarray, count: int) -> tuple[Segmentation, PathState]:
    """Read an answer.

    Args:
        buffer: uint8 from `ScanPath`.
        count: Raw points that were in the scan.
    Returns:
        What is said about them, copied, and the state.
    """
    points = (len(buffer) - 8 * _STATE) // 9
    voxels, fits, broken = buffer[: 8 * _STATE].view(np.int64)
    probability, entropy = buffer[8 * _STATE : 8 * (_STATE + points)].view(np.float32).reshape(2, points)[:, :count].copy()
    return Segmentation(buffer[8 * (_STATE + points) :][:count].copy(), probability, entropy), PathState(
        int(voxels), bool(fits), int(broken)
    )
