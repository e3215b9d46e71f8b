"""Sizes of recordings: what a scan needs is learnt from the scans before, and nothing outlives its use."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from torch import Tensor, float32

from xkd_ros.core.card import GeometryConfig, ModelCard, NetworkConfig
from xkd_ros.core.types import ScanRequest
from xkd_ros.device.recorded_path import RecordedPath
from xkd_ros.device.scan_path import ScanPath
from xkd_ros.device.student import DeviceStudent
from xkd_ros.nets.student import seeded_student
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.runtime.torch_backend import TorchBackend

CARD = ModelCard(
    geometry=GeometryConfig(fov_min_m=(-20.0, -20.0, -1.0), fov_max_m=(20.0, 20.0, 1.0), neighbours=4),
    network=NetworkConfig(depth=3, width=8),
)
STUDENT = seeded_student(CARD.network, 2).eval()


class CountedPath(ScanPath):
    """Notes the room of each run."""

    def __init__(self) -> None:
        super().__init__(CARD, DeviceStudent(STUDENT, float32, "cpu", kernels=False), kernels=False)
        self.rooms: list[int] = []

    def __call__(self, packed: Tensor, room: int, headings: int = 1) -> Tensor:
        self.rooms.append(room)
        return super().__call__(packed, room, headings)


def _apart(side: int, apart_m: float) -> np.ndarray:
    """Lay out side * side points."""
    place = (np.arange(side) - side / 2) * apart_m + 0.03
    x, y = (axis.ravel() for axis in np.meshgrid(place, place))
    return np.stack([x, y, np.full_like(x, 0.02)], 1).astype(np.float32)


def _rooms(recorded: RecordedPath, path: CountedPath, points: np.ndarray) -> list[int]:
    path.rooms.clear()
    answer, state = recorded(ScanRequest(points, None, np.eye(3), CARD.intensity))
    assert state.voxels == len(points) and not state.broken
    expected = Segmenter(CARD, TorchBackend(STUDENT, CARD, device="cpu")).segment(points, None, np.eye(3))
    assert (answer.labels == expected.labels).mean() > 0.99
    return path.rooms


@pytest.mark.parametrize("apart_m", [0.3, 1.0])
def test_the_next_scan_of_its_kind_runs_once(apart_m: float) -> None:
    """At 1 m nine halo cells surround each point of a scan, more than there usually is room for."""
    path = CountedPath()
    recorded = RecordedPath(path, "cpu")
    first = _rooms(recorded, path, _apart(32, apart_m)).copy()
    assert len(first) == (1 if apart_m < 1 else 4)
    assert all(_rooms(recorded, path, _apart(32, apart_m)) == first[-1:] for _ in range(3))
    few = _rooms(recorded, path, _apart(36, 0.2)[:200])
    assert len(few) == 1


def test_what_is_not_used_any_more_goes_at_once() -> None:
    path = CountedPath()
    recorded = RecordedPath(path, "cpu")
    _rooms(recorded, path, _apart(10, 0.5))
    gone = weakref.ref(path)
    gc.disable()
    try:
        del recorded, path
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recordings_share_their_memory_in_any_order() -> None:
    plain, scans = RecordedPath(CountedPath(), "cpu"), [_apart(32, 0.3), _apart(60, 0.3), _apart(20, 1.0), _apart(0, 1.0)]
    scans[1][0] = np.nan
    recorded = RecordedPath(ScanPath(CARD, DeviceStudent(STUDENT, float32, "cuda", kernels=True), kernels=True), "cuda")
    for number in (0, 1, 2, 3, 2, 1, 0, 1, 3, 0):
        ours, theirs = (path(scans[number], None, np.eye(3), CARD.intensity)[0] for path in (recorded, plain))
        assert (ours.labels == theirs.labels).all() or (ours.labels == theirs.labels).mean() > 0.99
