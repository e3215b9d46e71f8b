"""Items from stored frames: pairs follow their points, the number decides, and what teaches nothing gives way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from rooms import FEATURES, GEOMETRY, RIGS, STUDENT, Labels, Rooms, Targets

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.types import NetInput
from xkd_ros.distill.augment import AugmentConfig, paper_pose, top_intensity
from xkd_ros.distill.frame_samples import DistilItem, DistilSamples, PairConfig, collate_distil
from xkd_ros.distill.labelled_frames import LabelledFrames, collate_labelled_frames
from xkd_ros.distill.passes import share_of
from xkd_ros.distill.student_input import InputConfig, StudentInput
from xkd_ros.points.preprocessor import Preprocessor

STILL = AugmentConfig(**dict.fromkeys(AugmentConfig.model_fields, 0))
PAPER, DOUBLE, ROBUST = (InputConfig(augmentation=kind, robust=STILL) for kind in ("paper", "paper_double", "robust"))
FRAMES = Rooms()


def _distil(config: InputConfig = PAPER, student=STUDENT, seed: int = 0, **pairs) -> DistilSamples:
    inputs = StudentInput(config, student, RIGS)
    return DistilSamples(FRAMES, Targets(FRAMES), FRAMES.numbers("train"), inputs, PairConfig(**pairs), seed)


def _labelled(config: InputConfig, numbers: np.ndarray | None = None) -> LabelledFrames:
    numbers = FRAMES.numbers("train") if numbers is None else numbers
    return LabelledFrames(FRAMES, Labels(FRAMES), numbers, StudentInput(config, STUDENT, RIGS), 0)


def _tells_the_surface(item: DistilItem) -> bool:
    """Teacher features name the surface of their point; height is not changed by yaw and mirror, and scaled by 10 % at most."""
    directions = np.random.default_rng(7).normal(size=(3, FEATURES))
    said = np.argmin(np.linalg.norm(item.features[:, None] / 5 - directions, axis=2), axis=1)
    z = item.scan.features[item.paired, 3]
    return bool((z[said == 0] < -0.89).all() and (z[said == 1] > 1.34).all() and len(set(said)) == 3)


@pytest.mark.parametrize("config", [PAPER, ROBUST], ids=["paper", "robust"])
@pytest.mark.parametrize("student_input", ["frustum", "scan"])
@pytest.mark.parametrize("views", ["one", "all"])
def test_targets_follow_their_points(config: InputConfig, student_input: str, views: str) -> None:
    samples = _distil(config, student_input=student_input, views=views)
    assert all(_tells_the_surface(samples(number)) for number in range(8))


def test_frustum_shows_what_one_camera_sees_and_scan_everything() -> None:
    for number in range(8):
        frustum = _distil(student_input="frustum", skip_edges=False)(number)
        assert np.array_equal(np.sort(frustum.paired), np.arange(len(frustum.scan)))
        edges = _distil(student_input="frustum", skip_edges=True)(number)
        assert np.array_equal(edges.scan.features, frustum.scan.features) and len(edges.paired) < len(frustum.paired)
        scan = _distil(student_input="scan")(number)
        assert len(scan.scan) > 2 * len(frustum.scan) and 2 * len(scan.paired) < len(scan.scan)


def test_the_number_decides() -> None:
    for config in (PAPER, ROBUST):
        first, again, other = _distil(config)(5), _distil(config)(5), _distil(config, seed=1)(5)
        assert np.array_equal(first.scan.features, again.scan.features) and np.array_equal(first.features, again.features)
        assert first.scan.features.shape != other.scan.features.shape or not np.array_equal(first.scan.features, other.scan.features)


def test_a_frame_that_teaches_nothing_gives_way() -> None:
    order = [n for n in range(8) if _distil()._order(n) == 3]
    assert len(order) == 1 and _distil()._make(order[0]) is None
    taken, following, again = _distil()(order[0]), _distil()(order[0] + 1), _distil()(order[0])
    assert np.array_equal(taken.scan.features, again.scan.features)
    assert not np.array_equal(taken.scan.features, following.scan.features)


def test_nothing_at_all_is_said_in_one_line() -> None:
    class Blind(Targets):
        def __getitem__(self, number: int) -> list:
            return []

    inputs = StudentInput(PAPER, STUDENT, RIGS)
    with pytest.raises(ConfigError, match="none that a picture shows"):
        DistilSamples(FRAMES, Blind(FRAMES), np.arange(4), inputs, PairConfig(), 0)(0)
    with pytest.raises(ConfigError, match="train split is empty"):
        DistilSamples(FRAMES, Targets(FRAMES), np.arange(0), inputs, PairConfig(), 0)


def test_cameras_are_drawn_evenly() -> None:
    class Signed(Targets):
        def __getitem__(self, number: int) -> list:
            views = super().__getitem__(number)
            for view in views:
                view.features = np.full_like(view.features, view.view)
            return views

    samples = DistilSamples(FRAMES, Signed(FRAMES), FRAMES.numbers("train"), StudentInput(PAPER, STUDENT, RIGS), PairConfig(), 0)
    drawn = [np.unique(samples(number).features) for number in range(80)]
    assert all(len(view) == 1 for view in drawn) and 0.3 < np.mean(drawn) < 0.7


def test_pairs_can_be_limited() -> None:
    item = _distil(max_pairs=16)(0)
    assert len(item.paired) == len(item.features) == 16 and _tells_the_surface(_distil(max_pairs=60)(0))


def test_large_scans_are_cropped() -> None:
    for config in (PAPER, DOUBLE, ROBUST):
        sample = _labelled(config.model_copy(update={"max_points": 200}))(1)
        assert len(sample.scan) == 200 == len(sample.labels)


def test_intensity_follows_the_rig() -> None:
    student = STUDENT.model_copy(update={"intensity": "per_rig"})
    for config in (PAPER, ROBUST):
        samples = _distil(config, student)
        means = [float(samples(number).scan.features[:, 0].mean()) for number in range(8)]
        assert np.allclose(means, 0.6, atol=0.35), means


@pytest.mark.parametrize("config", [PAPER, ROBUST], ids=["paper", "robust"])
def test_intensities_that_are_no_numbers_spoil_no_others(config: InputConfig) -> None:
    """As on the robot: the point itself counts as of mean intensity, the others keep theirs."""

    class Spoilt(Rooms):
        def scan(self, number: int) -> Any:
            frame = super().scan(number)
            frame.intensity[0] = np.nan
            return frame

    def spread(frames: Rooms) -> float:
        return float(StudentInput(config, STUDENT, RIGS)(frames.scan(0), np.random.default_rng(0))[0].features[:, 0].std())

    assert spread(Spoilt()) == pytest.approx(spread(FRAMES), rel=0.05) and spread(FRAMES) > 0.5
    assert top_intensity(np.full(3, np.nan, np.float32)) == 0


def test_intensity_can_be_dropped() -> None:
    blind = PAPER.model_copy(update={"no_intensity": 1.0})
    assert not _distil(blind)(0).scan.features[:, 0].any() and _distil()(0).scan.features[:, 0].any()


def test_paper_pose_turns_mirrors_and_scales() -> None:
    rng = np.random.default_rng(0)
    poses = np.array([paper_pose(rng, 0.1) for _ in range(600)])
    size = np.cbrt(np.abs(np.linalg.det(poses)))
    assert 0.9 <= size.min() < 0.91 and 1.09 < size.max() <= 1.1
    assert np.allclose(poses @ poses.transpose(0, 2, 1), size[:, None, None] ** 2 * np.eye(3), atol=1e-9)
    assert np.isclose(np.mean(np.linalg.det(poses) < 0), 2 / 3, atol=0.06)
    assert np.allclose(poses[:, 2, 2], size)


def _own_coordinates(item: NetInput) -> np.ndarray:
    """Squared distance in x and y of each point to its first neighbour, by the features."""
    xy = item.features[:, 1:3]
    return ((xy - xy[item.neighbours[:, 0]]) ** 2).sum(1)


def test_double_rotation_turns_features_apart_from_coordinates() -> None:
    for number in range(4):
        double = _labelled(DOUBLE)(number).scan
        assert np.allclose(np.linalg.norm(double.features[:, 1:4], axis=1), double.features[:, 4], atol=1e-4)
        assert (_own_coordinates(double) < 0.5).mean() > 0.9  # neighbours stay neighbours under any yaw
        again = Preprocessor(GEOMETRY, RIGS["dim"], threads=1)(double.features[:, 1:4], sampled=True, undo=False)
        same = len(again) == len(double) and np.array_equal(again.cells[0], double.cells[0])
        assert not same
    paper = _labelled(PAPER)(0).scan
    again = Preprocessor(GEOMETRY, RIGS["dim"], threads=1)(paper.features[:, 1:4], sampled=True, undo=False)
    assert np.array_equal(again.cells, paper.cells)


def test_labels_follow_their_points() -> None:
    for config in (PAPER, ROBUST):
        item = _labelled(config)(2)
        sure = (item.labels != 255) & (item.confidence > 0.5)
        height = item.scan.features[sure, 3]
        assert (height[item.labels[sure] == 0] < -0.89).all() and (height[item.labels[sure] == 1] > 1.34).all()
        assert 0 < (item.confidence < 0.5).mean() < 0.3 and (item.labels == 255).any()


def test_robust_features_agree_with_the_cells() -> None:
    scan = _labelled(ROBUST, np.array([1]))(0).scan
    again = Preprocessor(GEOMETRY, RIGS["dim"], threads=1)(scan.features[:, 1:4], sampled=True, undo=False)
    assert np.array_equal(again.cells, scan.cells) and np.array_equal(again.neighbours, scan.neighbours)
    assert scan.features[:, 3].min() == pytest.approx(-1, abs=1e-3) and scan.features[:, 3].max() == pytest.approx(1.5, abs=1e-3)


def test_batches_lay_pairs_end_to_end() -> None:
    items = [_distil()(n) for n in range(3)]
    batch = collate_distil(items)
    assert batch.features.dtype == torch.float16 and len(batch.paired) == sum(len(item.paired) for item in items)
    expected = np.concatenate([item.scan.features[item.paired] for item in items])
    assert np.array_equal(batch.batch.features[batch.paired].numpy(), expected)
    labelled = collate_labelled_frames([_labelled(PAPER)(n) for n in range(3)])
    assert len(labelled.labels) == len(labelled.confidence) == len(labelled.batch.features)


def test_shares_of_labels_lie_within_each_other() -> None:
    numbers = np.arange(100, 300)
    one, ten, all_ = (share_of(numbers, share, 0) for share in (0.01, 0.1, 1.0))
    assert len(one) == 2 and len(ten) == 20 and np.array_equal(all_, numbers)
    assert np.isin(one, ten).all() and not np.array_equal(ten, share_of(numbers, 0.1, 1))
    assert len(share_of(numbers[:5], 0.01, 0)) == 1
