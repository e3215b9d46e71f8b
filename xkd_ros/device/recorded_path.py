"""A scan path run with few host calls: buffers stay where they are, and on CUDA every pair of sizes is recorded once as a graph.

In: a scan. Out: what is said about its points, and how many voxel points it had.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor

from xkd_ros.core.card import IntensityConfig
from xkd_ros.core.errors import ModelError
from xkd_ros.core.types import Segmentation
from xkd_ros.device.recording import Recording
from xkd_ros.device.scan_path import ScanPath, answer_bytes, pack_scan, packed_bytes, unpack_answer

_SMALLEST = 1024
_STEP = 2**0.5
"""From one size to the next: at most so much of the work is on padding."""
_SPARE = 1.1
"""Room for voxel points, against the most of late."""
_FORGET = 0.99
"""Of the most of late, after each scan with fewer."""
_KEPT = 8
"""Recordings; each holds the memory of its steps."""


class RecordedPath:
    """Runs scans of any size. Not for several threads at once."""

    def __init__(self, path: ScanPath, device: torch.device | str) -> None:
        """Take a path.

        Args:
            path: With its student on the device.
            device: "cuda" records graphs; on "cpu" every scan runs step by step, with the same buffers and sizes.
        """
        self._path, self._device = path, torch.device(device)
        self._runs: OrderedDict[tuple[int, int], _Run] = OrderedDict()
        self._voxels = 0.0

    def __call__(
        self,
        points_m: np.ndarray,
        intensity: np.ndarray | None,
        rotation: np.ndarray,
        statistics: IntensityConfig,
        inside_only: bool = False,
    ) -> tuple[Segmentation, int]:
        """Label a scan; arguments as for `scan_path.pack_scan`.

        Returns:
            What is said about each point, and how many points got no finite answer.
        Raises:
            ModelError: the cells of the scan need more room than a path ever gives.
        """
        raw = bucket(len(points_m))
        most = raw
        room = min(bucket(round(_SPARE * self._voxels)), most)
        while True:
            run = self._run(raw, room)
            pack_scan(run.sent.numpy(), points_m, intensity, rotation, statistics, inside_only)
            answer, state = unpack_answer(run().numpy(), len(points_m))
            if state.fits:
                self._voxels = max(state.voxels, _FORGET * self._voxels)
                return answer, state.broken
            if room >= 4 * most:
                raise ModelError(
                    f"a scan of {state.voxels} voxels spreads over more cells than there is room for; use larger cells or voxels"
                )
            self._voxels = max(state.voxels, self._voxels)
            room = max(bucket(state.voxels), bucket(room + 1))

    def _run(self, raw: int, room: int) -> _Run:
        """Find the recording for these sizes, or make it."""
        if (raw, room) not in self._runs:
            if len(self._runs) >= _KEPT:
                self._runs.popitem(last=False)
            self._runs[raw, room] = _Run(self._path, raw, room, self._device)
        self._runs.move_to_end((raw, room))
        return self._runs[raw, room]


class _Run:
    """The path for one pair of sizes.

    Attributes:
        sent: uint8 buffer on the host, to be filled before each call.
    """

    def __init__(self, path: ScanPath, raw: int, room: int, device: torch.device) -> None:
        cuda = device.type == "cuda"
        self.sent = torch.zeros(packed_bytes(raw), dtype=torch.uint8, pin_memory=cuda)
        self._input = torch.zeros_like(self.sent, device=device) if cuda else self.sent
        self._recording = Recording(lambda: path(self._input, room), device)
        self._received = torch.empty(answer_bytes(raw), dtype=torch.uint8, pin_memory=cuda)

    def __call__(self) -> Tensor:
        """Run on what was sent; the answer, on the host, is good until the next call."""
        stream = self._recording.stream
        if stream is None:
            return self._recording()
        with torch.cuda.stream(stream):
            self._input.copy_(self.sent, non_blocking=True)
            self._received.copy_(self._recording(), non_blocking=True)
        stream.synchronize()
        return self._received


def bucket(count: int) -> int:
    """Round a size up to one of few."""
    if count <= _SMALLEST:
        return _SMALLEST
    steps = math.ceil(math.log(count / _SMALLEST, _STEP) - 1e-9)
    size = math.ceil(_SMALLEST * _STEP**steps / 16) * 16
    return size if size >= count else math.ceil(_SMALLEST * _STEP ** (steps + 1) / 16) * 16
