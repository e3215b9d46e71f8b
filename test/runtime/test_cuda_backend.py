"""The backend `cuda` step by step on a CPU: the same code but for the recording of graphs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from xkd_ros.core.card import GeometryConfig, IntensityConfig, ModelCard, NetworkConfig
from xkd_ros.core.errors import ModelError
from xkd_ros.core.types import ScanRequest, Segmentation
from xkd_ros.device.recorded_path import bucket
from xkd_ros.nets.student import seeded_student
from xkd_ros.runtime.cuda_backend import CudaBackend
from xkd_ros.runtime.probe import make_room_scan
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.runtime.torch_backend import TorchBackend
from xkd_ros.runtime.watched_backend import WatchedBackend

CARD = ModelCard(
    geometry=GeometryConfig(fov_min_m=(-7.0, -6.0, -1.5), fov_max_m=(7.0, 6.0, 2.5), neighbours=8),
    intensity=IntensityConfig(per_scan=True),
    network=NetworkConfig(depth=3, width=16),
)
_SQUARE = CARD.geometry.model_copy(update={"fov_min_m": (-9.0, -9.0, -1.5), "fov_max_m": (9.0, 9.0, 2.5)})
SQUARE = CARD.model_copy(update={"geometry": _SQUARE})
STUDENT = seeded_student(CARD.network, 5).eval()
POINTS, RAW = make_room_scan(1, 16, 150, 12.0)


@pytest.fixture(scope="module")
def backend() -> CudaBackend:
    return CudaBackend(STUDENT, CARD, "cpu", "float32", kernels=False)


def test_scans_of_any_size_are_labelled_as_on_the_ordinary_way(backend: CudaBackend) -> None:
    whole, steps = Segmenter(CARD, backend), Segmenter(CARD, TorchBackend(STUDENT, CARD, device="cpu"))
    for count in (2400, 30, 0, 1, 2300):
        ours, theirs = (one.segment(POINTS[:count], RAW[:count], np.eye(3)) for one in (whole, steps))
        assert set(ours.stage_ms) == {"level", "inference", "total"} and "preprocess" in theirs.stage_ms
        assert np.array_equal(ours.labels, theirs.labels) and np.allclose(ours.entropy, theirs.entropy, atol=1e-4)


@pytest.mark.parametrize("headings", [2, 4])
def test_headings_are_averaged_as_on_the_ordinary_way(headings: int) -> None:
    whole = Segmenter(SQUARE, CudaBackend(STUDENT, SQUARE, "cpu", "float32", kernels=False))
    steps = Segmenter(SQUARE, TorchBackend(STUDENT, SQUARE, device="cpu"))
    whole.headings = steps.headings = headings
    for count in (2400, 40):
        ours, theirs = (one.segment(POINTS[:count], RAW[:count], np.eye(3)) for one in (whole, steps))
        # Turned points differ in the last bit, and a few change their voxel for it.
        assert "preprocess" not in ours.stage_ms and (ours.labels == theirs.labels).mean() > 0.995
        assert np.quantile(np.abs(ours.entropy - theirs.entropy), 0.98) < 1e-3
    assert len(whole.segment(POINTS[:0], RAW[:0], np.eye(3)).labels) == 0


def test_what_has_to_stop_on_the_way_does(backend: CudaBackend) -> None:
    segmenter = Segmenter(CARD, backend)
    seen = []
    result = segmenter.segment(POINTS, RAW, np.eye(3), fuse=lambda points, logits: seen.append(len(points)) or logits)
    assert seen and set(result.stage_ms) > {"preprocess", "fusion"}
    segmenter.share = 0.5
    assert "preprocess" in segmenter.segment(POINTS, RAW, np.eye(3)).stage_ms


def test_logits_are_those_of_torch(backend: CudaBackend) -> None:
    item = Segmenter(CARD, backend).prepare(POINTS, RAW, np.eye(3))
    np.testing.assert_allclose(backend.infer(item), TorchBackend(STUDENT, CARD, device="cpu").infer(item), atol=1e-4)
    assert backend.agreement_with(TorchBackend(STUDENT, CARD, device="cpu"), (16, 100, 8.0)) > 0.995


def test_few_recordings_serve_all_sizes() -> None:
    sizes = [bucket(count) for count in range(0, 300_000, 97)]
    assert all(size >= count for size, count in zip(sizes, range(0, 300_000, 97))) and sizes == sorted(sizes)
    assert len(set(sizes)) < 20 and all(later / size < 1.5 for size, later in pairwise(sizes))


def test_answers_that_are_no_numbers_are_an_error() -> None:
    broken = seeded_student(CARD.network, 5).eval()
    broken.head.weight.data[0] = np.nan
    with pytest.raises(ModelError, match="no finite answer"):
        CudaBackend(broken, CARD, "cpu", "float32", kernels=False).label_scan(ScanRequest(POINTS, RAW, np.eye(3), CARD.intensity))


def test_points_without_measurement_do_not_hide_broken_answers() -> None:
    broken = seeded_student(CARD.network, 5).eval()
    broken.head.weight.data[0] = np.nan
    points = np.where(np.arange(len(POINTS))[:, None] % 4 > 0, np.float32(np.nan), POINTS)
    with pytest.raises(ModelError, match="no finite answer"):
        CudaBackend(broken, CARD, "cpu", "float32", kernels=False).label_scan(ScanRequest(points, RAW, np.eye(3), CARD.intensity))


def test_one_that_keeps_failing_gives_way_to_the_ordinary_way() -> None:
    class Failing:
        name = "cuda"

        def infer(self, net_input: object) -> np.ndarray:
            raise AssertionError("never reached")

        def label_scan(self, request: ScanRequest) -> Segmentation:
            raise RuntimeError("out of memory")

    watched = WatchedBackend(Failing(), lambda failed: TorchBackend(STUDENT, CARD, device="cpu"))
    segmenter = Segmenter(CARD, watched)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="out of memory"):
            segmenter.segment(POINTS, RAW, np.eye(3))
    assert (segmenter.segment(POINTS, RAW, np.eye(3)).labels < 255).any()
    assert segmenter.backend_name == "torch" and "out of memory" in segmenter.trouble


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no CUDA device"):
        CudaBackend.load(tmp_path, CARD)


def test_an_old_gpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    with pytest.raises(ModelError, match=r"Tesla T4 has compute capability 7\.5, 8\.0 is needed"):
        CudaBackend.load(tmp_path, CARD)
