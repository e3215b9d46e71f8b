"""A scan path run with few host calls: buffers stay where they are, and on CUDA every pair of sizes is recorded once as a graph.

In: a scan. Out: what is said about its points, and how many voxel points it had.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xkd_ros.core.errors import ModelError
from xkd_ros.core.types import ScanRequest, Segmentation
from xkd_ros.device.recording import GraphPool, Recording
from xkd_ros.device.scan_path import PathState, ScanPath, answer_bytes, pack_scan, packed_bytes, unpack_answer

_SMALLEST = 1024
_STEP = 2**0.5
"""From one size to the next: at most so much of the work is on padding."""
_SPARE = 1.1
"""Room for voxel points, against the most of late."""
_FORGET = 0.99
"""Of the most of late, after each scan with fewer."""
_WIDEST = 4.0
"""Room against voxel points, where their cells lie far apart and need more than usual."""
_KEPT = 16
"""Recordings; their steps share memory, each has its buffers."""


class RecordedPath:
    """Runs scans of any size. Not for several threads at once."""

    def __init__(self, path: ScanPath, device: torch.device | str) -> None:
        """Take a path.

        Args:
            path: With its student on the device.
            device: "cuda" records graphs; on "cpu" every scan runs step by step, with the same buffers and sizes.
        """
        self._path, self._device = path, torch.device(device)
        self._voxels, self._spread = 0.0, 1.0
        self._runs: dict[tuple[int, int, int], _Run] = {}
        self._pool: GraphPool | None = None
        self._forget()

    def __call__(self, request: ScanRequest) -> tuple[Segmentation, PathState]:
        """Label a scan.

        Returns:
            What is said about each point, and what the path says of itself.
        Raises:
            ModelError: the cells of the scan need more room than a path ever gives.
        """
        raw = bucket(len(request.points_m))
        self._path.join(request.groups)
        while True:
            room = min(bucket(round(_SPARE * self._spread * self._voxels)), bucket(round(self._spread * raw)))
            run = self._run(raw, room, request.headings)
            pack_scan(run.sent.numpy(), request)
            answer, state = unpack_answer(run().numpy(), len(request.points_m))
            if state.fits:
                self._voxels, self._spread = max(state.voxels, _FORGET * self._voxels), max(1.0, _FORGET * self._spread)
                return answer, state
            self._voxels = max(state.voxels, self._voxels)
            if state.voxels <= room:
                self._spread *= _STEP
            if self._spread > _WIDEST:
                self._spread = 1.0
                raise ModelError(
                    f"a scan of {state.voxels} voxels spreads over more cells than there is room for; use larger cells or voxels"
                )

    def _run(self, raw: int, room: int, headings: int) -> _Run:
        """Find the recording for these sizes, or make it."""
        sizes = raw, room, headings
        if sizes not in self._runs:
            if len(self._runs) >= _KEPT:
                self._forget()
            try:
                self._runs[sizes] = _Run(self._path, raw, room, headings, self._device, self._pool)
            except Exception:
                # Its graph goes, so the others have to; and memory may be what it lacked.
                self._forget()
                raise
        return self._runs[sizes]

    def _forget(self) -> None:
        """Let all recordings go; the next ones run on another stream, so that no graph that goes late touches them."""
        self._runs.clear()
        self._pool = GraphPool(self._device) if self._device.type == "cuda" else None


class _Run:
    """The path for some sizes.

    Attributes:
        sent: uint8 buffer on the host, to be filled before each call.
    """

    def __init__(self, path: ScanPath, raw: int, room: int, headings: int, device: torch.device, pool: GraphPool | None) -> None:
        cuda = device.type == "cuda"
        self.sent = torch.zeros(packed_bytes(raw), dtype=torch.uint8, pin_memory=cuda)
        there = torch.zeros_like(self.sent, device=device) if cuda else self.sent
        # The program does not hold this object: memory of the device must not wait for the collection of circles.
        self._input, self._recording = there, Recording(lambda: path(there, room, headings), device, pool)
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
