"""The whole way of a scan on a device against the segmenter, and what a CUDA graph asks of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from xkd_ros.core.card import GeometryConfig, IntensityConfig, ModelCard, NetworkConfig
from xkd_ros.core.se3 import rotation_from_rpy
from xkd_ros.core.types import UNKNOWN, ScanRequest, Segmentation
from xkd_ros.device.scan_path import ScanPath, pack_scan, packed_bytes, unpack_answer
from xkd_ros.device.student import DeviceStudent
from xkd_ros.nets.student import Student, seeded_student
from xkd_ros.runtime.probe import make_room_scan
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.runtime.torch_backend import TorchBackend

GEOMETRY = GeometryConfig(fov_min_m=(-7.0, -6.0, -1.5), fov_max_m=(7.0, 6.0, 2.5), neighbours=8, align_heading=True)
CARD = ModelCard(geometry=GEOMETRY, intensity=IntensityConfig(per_scan=True), network=NetworkConfig(depth=3, width=16), temperature=1.4)
POINTS, RAW = make_room_scan(1, 16, 200, 12.0)
ROTATION = rotation_from_rpy(0.08, -0.03, 0.0)


@pytest.fixture(scope="module")
def student() -> Student:
    return seeded_student(CARD.network, 5).eval()


def _packed(
    points: np.ndarray, raw: np.ndarray | None, room: int, statistics: IntensityConfig = CARD.intensity, inside_only: bool = False
) -> torch.Tensor:
    buffer = np.empty(packed_bytes(room), np.uint8)
    pack_scan(buffer, ScanRequest(points, raw, ROTATION, statistics, inside_only))
    return torch.from_numpy(buffer)


def _label(path: ScanPath, *args: object, voxels: int = 3200, **kwargs: object) -> Segmentation:
    answer, state = unpack_answer(path(_packed(*args, **kwargs), voxels).numpy(), len(args[0]))
    assert state.fits and not state.broken
    return answer


@pytest.mark.parametrize("outside", ["nearest", "unknown"])
@pytest.mark.parametrize("raw", [RAW, None])
@pytest.mark.parametrize("statistics", [IntensityConfig(per_scan=True), IntensityConfig(low=1, high=90, mean=40, std=30)])
def test_labels_are_those_of_the_segmenter(student: Student, outside: str, raw: np.ndarray | None, statistics: IntensityConfig) -> None:
    points = POINTS.copy()
    points[3:6], points[6] = np.nan, (40, 40, 1)
    segmenter = Segmenter(CARD, TorchBackend(student, CARD, device="cpu"), outside=outside)
    segmenter.intensity = statistics
    theirs = segmenter.segment(points, raw, ROTATION)
    path = ScanPath(CARD, DeviceStudent(student, torch.float32, "cpu", kernels=False), kernels=False)
    ours = _label(path, points, raw, 4000, statistics, outside == "unknown")
    # Turned points differ in the last bit, and a few change their voxel for it.
    assert (ours.labels == theirs.labels).mean() > 0.995
    assert np.array_equal(ours.labels == UNKNOWN, theirs.labels == UNKNOWN) and (ours.labels[3:6] == UNKNOWN).all()
    assert (ours.labels[6] == UNKNOWN) == (outside == "unknown")
    for mine, other in ((ours.probability, theirs.probability), (ours.entropy, theirs.entropy)):
        assert np.quantile(np.abs(mine - other), 0.99) < 1e-3


def test_classes_that_are_one_are_named_as_by_the_segmenter(student: Student) -> None:
    segmenter = Segmenter(CARD, TorchBackend(student, CARD, device="cpu"))
    path = ScanPath(CARD, DeviceStudent(student, torch.float32, "cpu", kernels=False), kernels=False)
    alone = _label(path, POINTS, RAW, 4000)
    groups = np.array([0, 1, 2, 3, 3, 0, 3, 3, 3, 3, 3, 3])
    for asked in (groups, None):
        segmenter.groups = asked
        path.join(asked)
        ours, theirs = _label(path, POINTS, RAW, 4000), segmenter.segment(POINTS, RAW, ROTATION)
        assert (ours.labels == theirs.labels).mean() > 0.995
        assert np.quantile(np.abs(ours.probability - theirs.probability), 0.99) < 1e-3
        assert (ours.probability.mean() > 1.2 * alone.probability.mean()) == (asked is not None)


def test_an_answer_depends_on_no_padding_and_on_no_scan_before(student: Student) -> None:
    path = ScanPath(CARD, DeviceStudent(student, torch.float32, "cpu", kernels=False), kernels=False)
    small = _label(path, POINTS, RAW, len(POINTS), voxels=3100)
    large = _label(path, POINTS, RAW, 2 * len(POINTS), voxels=6400)
    assert np.array_equal(small.labels, large.labels) and np.allclose(small.entropy, large.entropy, atol=1e-5)


def test_too_little_room_is_said(student: Student) -> None:
    path = ScanPath(CARD, DeviceStudent(student, torch.float32, "cpu", kernels=False), kernels=False)
    _, state = unpack_answer(path(_packed(POINTS, RAW, 4000), 256).numpy(), len(POINTS))
    assert not state.fits and state.voxels > 256


def test_nothing_is_asked_of_the_device_on_the_way(student: Student) -> None:
    """On tensors without values, whatever would wait for one, or take a shape from one, raises."""
    path = ScanPath(CARD, DeviceStudent(student, torch.float32, "cpu", kernels=False), kernels=False)
    packed = _packed(POINTS, RAW, 4000)
    path(packed, 3200)  # constants are copied to the device once
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        answer = path(mode.from_tensor(packed), 3200)
        assert answer.dtype == torch.uint8 and answer.shape == (24 + 9 * 4000,)


class _NothingFromTheHost(TorchFunctionMode):
    """Refuses what would copy from the host's ordinary memory, which a CUDA graph must not: numbers written at a place are copied, too."""

    REFUSED = (torch.tensor, torch.as_tensor, torch.from_numpy, torch.Tensor.__setitem__)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in self.REFUSED, func
        return func(*args, **(kwargs or {}))


def test_nothing_is_copied_from_the_host_on_the_way(student: Student) -> None:
    path = ScanPath(CARD, DeviceStudent(student, torch.float32, "cpu", kernels=False), kernels=False)
    packed = _packed(POINTS, RAW, 4000)
    path(packed, 3200)  # constants are copied to the device once
    with _NothingFromTheHost():
        path(packed, 3200)
