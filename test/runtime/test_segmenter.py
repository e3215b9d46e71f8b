"""One label per raw point, in order, whatever the scan."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xkd_ros.core.card import ModelCard, NetworkConfig
from xkd_ros.core.errors import ConfigError, ModelError, ShapeError
from xkd_ros.core.labels import LabelSet
from xkd_ros.core.se3 import rotation_from_rpy
from xkd_ros.core.types import UNKNOWN, NetInput
from xkd_ros.runtime.segmenter import Segmenter, describe_logits

ROOT = Path(__file__).resolve().parents[2]


class ByHeight:
    """A backend whose network is the height of a point: class 0 below z = 0, class 1 above."""

    name = "by height"

    def __init__(self) -> None:
        self.seen: list[NetInput] = []

    def infer(self, net_input: NetInput) -> np.ndarray:
        self.seen.append(net_input)
        height = net_input.features[:, 3]
        return np.stack([-4 * height, 4 * height], axis=1).astype(np.float32)


def by_height(outside: str = "nearest") -> tuple[Segmenter, ByHeight]:
    backend = ByHeight()
    labels = LabelSet(names=("low", "high"), colours=((0, 0, 0), (9, 9, 9)))
    card = ModelCard(name="height", network=NetworkConfig(depth=1, width=4, classes=2), labels=labels)
    return Segmenter(card, backend, threads=1, outside=outside), backend


def test_every_raw_point_gets_the_label_of_its_place(room) -> None:
    points, intensity = room
    segmenter, backend = by_height()
    result = segmenter.segment(points, intensity, rotation=np.eye(3))
    measured = (points != 0).any(axis=1)
    assert len(result.labels) == len(points) and 0 < (~measured).sum() < len(points)
    clear = measured & (np.abs(points[:, 2]) > 0.2)  # the neighbour in the same voxel is on the same side
    np.testing.assert_array_equal(result.labels[clear], points[clear, 2] > 0)
    assert (result.labels[~measured] == UNKNOWN).all()
    assert (result.probability[~measured] == 0).all() and (result.entropy[~measured] == 1).all()
    assert (result.probability[measured] >= 0.5).all() and (result.entropy[measured] <= 1).all()
    assert set(result.stage_ms) == {"level", "preprocess", "inference", "fusion", "postprocess", "total"}
    assert result.stage_ms["total"] == pytest.approx(sum(ms for stage, ms in result.stage_ms.items() if stage != "total"))
    assert len(backend.seen) == 1 and 100 < len(backend.seen[0]) < measured.sum()


def test_a_tilted_scan_is_levelled_before_the_network(room) -> None:
    points, intensity = room
    tilted = (points @ rotation_from_rpy(0.15, -0.1, 0.0).T).astype(np.float32)
    segmenter, backend = by_height()
    result = segmenter.segment(tilted, intensity)
    clear = (points != 0).any(axis=1) & (np.abs(points[:, 2]) > 0.3)
    np.testing.assert_array_equal(result.labels[clear], points[clear, 2] > 0)
    assert not np.allclose(backend.seen[0].rotation, np.eye(3), atol=0.05)


def test_what_is_fused_are_points_of_the_lidar_frame_and_logits_at_temperature_one(room) -> None:
    points, intensity = room
    tilt = rotation_from_rpy(0.15, -0.1, 0.0)
    tilted = (points @ tilt.T).astype(np.float32)
    segmenter, backend = by_height()
    segmenter.card = segmenter.card.model_copy(update={"temperature": 2.0})
    alone = segmenter.segment(tilted, intensity, tilt.T)
    given = []

    def fuse(points_m: np.ndarray, logits: np.ndarray) -> np.ndarray:
        given.append((points_m, logits))
        return -logits

    fused = segmenter.segment(tilted, intensity, tilt.T, fuse)
    (points_m, logits), kept = given[0], backend.seen[1].kept
    np.testing.assert_array_equal(points_m, tilted[kept])
    np.testing.assert_allclose(logits[:, 1], 4 * (tilted[kept] @ tilt)[:, 2] / 2, atol=1e-4)
    known = alone.labels != UNKNOWN
    np.testing.assert_array_equal(fused.labels[known], 1 - alone.labels[known])
    np.testing.assert_allclose(fused.probability, alone.probability, atol=1e-6)
    np.testing.assert_allclose(fused.entropy, alone.entropy, atol=1e-6)


def test_points_outside_the_field_of_view() -> None:
    rng = np.random.default_rng(0)
    inside = rng.uniform((-5, -5, 0.5), (5, 5, 2), (500, 3))
    far = np.array([[100.0, 0, 1], [0, -300, 1], [0, 0, 40]])
    points = np.concatenate([inside, far]).astype(np.float32)
    nearest, unknown = (by_height(outside)[0].segment(points, rotation=np.eye(3)) for outside in ("nearest", "unknown"))
    assert (nearest.labels == 1).all()
    assert (unknown.labels[:500] == 1).all() and (unknown.labels[500:] == UNKNOWN).all()
    assert (unknown.probability[500:] == 0).all()


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((0, 3)),
        np.zeros((4, 3)),
        np.full((5, 3), np.nan),
        np.full((3, 3), np.inf),
        np.full((3, 3), 500.0),
        np.ones((1, 3)),
        np.random.default_rng(0).uniform(-2, 2, (9, 3)),
        np.ones((40, 3)),
    ],
    ids=["empty", "zeros", "nan", "inf", "far", "one", "nine", "same"],
)
def test_odd_clouds(exported: Path, points: np.ndarray) -> None:
    cloud = points.astype(np.float32)
    usable = np.isfinite(cloud).all(1) & (cloud != 0).any(1) & (np.abs(cloud) < 100).all(1)
    for backend in ("torch", "onnxruntime", "numba"):
        result = Segmenter.load(exported, backend, threads=1).segment(cloud, np.full(len(cloud), 3, np.float32))
        assert len(result.labels) == len(points)
        assert (result.labels[usable] < 5).all() and (result.labels[~usable] == UNKNOWN).all()
        assert np.isfinite(result.probability).all() and np.isfinite(result.entropy).all()


def test_a_share_of_the_voxels_is_looked_at_and_every_point_gets_a_label(room) -> None:
    points, intensity = room
    segmenter, backend = by_height()
    whole = segmenter.segment(points, intensity, np.eye(3))
    segmenter.share = 0.3
    thinned = segmenter.segment(points, intensity, np.eye(3))
    assert len(backend.seen[1]) == round(0.3 * len(backend.seen[0]))
    chosen = backend.seen[1].kept
    assert set(chosen) <= set(backend.seen[0].kept) and len(set(chosen)) == len(chosen)
    np.testing.assert_array_equal(thinned.labels == UNKNOWN, whole.labels == UNKNOWN)
    # The label is that of the nearest voxel looked at, by brute force.
    known = np.flatnonzero(thinned.labels != UNKNOWN)[::7]
    nearest = chosen[((points[known, None] - points[None, chosen]) ** 2).sum(-1).argmin(1)]
    assert (thinned.labels[known] == whole.labels[nearest]).mean() > 0.995  # ties and float32 distances
    segmenter.share = 1e-9
    assert len({*segmenter.segment(points, intensity, np.eye(3)).labels} - {UNKNOWN}) == 1 and len(backend.seen[2]) == 1


def test_wrong_shapes_and_settings_are_named(exported: Path) -> None:
    segmenter, _ = by_height()
    with pytest.raises(ShapeError, match=r"points_m has shape \(4, 2\)"):
        segmenter.segment(np.zeros((4, 2), np.float32))
    with pytest.raises(ShapeError, match=r"intensity has shape \(3,\), expected \(4,\)"):
        segmenter.segment(np.zeros((4, 3), np.float32), np.zeros(3, np.float32))
    with pytest.raises(ConfigError, match="use nearest or unknown"):
        by_height("drop")
    with pytest.raises(ModelError, match="backend 'tpu' is unknown"):
        Segmenter.load(exported, "tpu")
    with pytest.raises(ModelError, match="does not exist"):
        Segmenter.load(exported / "absent")


def test_describe_logits_against_the_definition() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (50, 7)).astype(np.float32)
    labels, probability, entropy = describe_logits(logits, 1.7)
    exact = np.exp(logits.astype(float) / 1.7)
    exact /= exact.sum(1, keepdims=True)
    np.testing.assert_array_equal(labels, exact.argmax(1))
    np.testing.assert_allclose(probability, exact.max(1), rtol=1e-5)
    np.testing.assert_allclose(entropy, -(exact * np.log(exact)).sum(1) / np.log(7), rtol=1e-4)
    labels, probability, entropy = describe_logits(np.array([[1e30, -1e30], [5, 5], [np.nan, 1], [np.inf, 0]], np.float32), 1.0)
    assert labels.tolist() == [0, 0, UNKNOWN, UNKNOWN]
    np.testing.assert_allclose(probability, [1, 0.5, 0, 0])
    np.testing.assert_allclose(entropy, [0, 1, 1, 1])


def test_classes_that_are_one_are_named_by_the_sum_of_their_probabilities() -> None:
    logits = np.random.default_rng(1).normal(0, 1, (400, 5)).astype(np.float32)
    groups = np.array([0, 1, 0, 3, 1])  # 0 and 2 are one, 1 and 4 are one
    labels, probability, entropy = describe_logits(logits, 1.3, groups)
    exact = np.exp(logits.astype(float) / 1.3)
    exact /= exact.sum(1, keepdims=True)
    for row, label, likely in zip(exact, labels, probability):
        sums = {number: row[groups == number].sum() for number in set(groups.tolist())}
        best = max(sums, key=sums.__getitem__)
        assert likely == pytest.approx(sums[best], rel=1e-5)
        assert groups[label] == best and row[label] == row[groups == best].max()
    plain, _, usual = describe_logits(logits, 1.3)
    assert (plain != labels).any(), "somewhere the likeliest class is not of the likeliest group"
    np.testing.assert_array_equal(entropy, usual)
    for ours, theirs in zip(describe_logits(logits, 1.3, np.arange(5)), describe_logits(logits, 1.3)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    broken, likely, _ = describe_logits(np.array([[np.nan, 1], [np.inf, 0]], np.float32), 1.0, np.zeros(2, int))
    assert broken.tolist() == [UNKNOWN, UNKNOWN] and likely.tolist() == [0, 0]


@pytest.mark.parametrize("groups", [np.zeros(3, int), np.array([0, 2]), np.array([-1, 0])])
def test_groups_that_are_none_of_the_classes_are_refused(groups: np.ndarray) -> None:
    segmenter, _ = by_height()
    with pytest.raises(ShapeError, match="one number from 0 to 1 for each of 2 classes"):
        segmenter.groups = groups
    segmenter.groups = np.array([1, 1])
    assert (segmenter.segment(np.random.default_rng(0).uniform(-3, 3, (500, 3)).astype(np.float32)).probability == 1).all()


NO_TORCH = """
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "onnx", "tensorrt", "rosbags", "cv2", "matplotlib", "rich", "typer"}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Blocked())
import numpy as np
from xkd_ros.runtime.probe import make_room_scan
from xkd_ros.runtime.segmenter import Segmenter
points, intensity = make_room_scan(5, 16, 256, 7.0)
for backend in ("onnxruntime", "numba", "auto"):
    segmenter = Segmenter.load(sys.argv[1], backend, threads=1)
    assert segmenter.backend_name == backend or backend == "auto", segmenter.backend_name
    labels = segmenter.segment(points, intensity).labels
assert "not installed" in segmenter.why["torch"], segmenter.why
np.save(sys.argv[2], labels)
"""


def test_cpu_backends_need_no_torch(exported: Path, tmp_path: Path, room) -> None:
    target = tmp_path / "labels.npy"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH, str(exported), str(target)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    expected = Segmenter.load(exported, "torch", threads=1).segment(*room).labels
    labels = np.load(target)
    assert (labels == expected).mean() > 0.999 and len(np.unique(labels)) > 2
