"""Training items: decided by their number, labels follow their points, no scan left out of a pass."""

from __future__ import annotations

import numpy as np
import torch

from xkd_ros.core.card import GeometryConfig, IntensityConfig, NetworkConfig
from xkd_ros.distill.augment import AugmentConfig, augment, limit_points
from xkd_ros.distill.supervised import LabelledSamples, SupervisedLoss, class_weights, collate_labelled
from xkd_ros.nets.student import Student


class _Rooms:
    """Boxes whose label is told by the height, so that labels can be checked after any rotation about z."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(index)
        points = rng.uniform([-4, -3, -1], [4, 3, 2], (4000, 3)).astype(np.float32)
        return points, rng.random(4000).astype(np.float32), (points[:, 2] > 0.5).astype(np.uint8)


STILL = AugmentConfig(**dict.fromkeys(AugmentConfig.model_fields, 0))


DEFAULT = AugmentConfig()


def _samples(augmentation: AugmentConfig = DEFAULT, max_points: int = 900, seed: int = 0) -> LabelledSamples:
    return LabelledSamples(_Rooms(), GeometryConfig(), IntensityConfig(per_scan=True), augmentation, max_points, seed)


def test_the_number_decides() -> None:
    first, again, other = _samples()(7), _samples()(7), _samples()(8)
    assert np.array_equal(first[0].features, again[0].features) and np.array_equal(first[1], again[1])
    assert first[0].features.shape != other[0].features.shape or not np.array_equal(first[0].features, other[0].features)


def test_few_wanted_points_are_sought_and_many_change_nothing() -> None:
    points = np.random.default_rng(0).uniform(-5, 5, (4000, 3)).astype(np.float32)
    few, many = np.zeros(4000, bool), np.ones(4000, bool)
    few[np.argsort(np.linalg.norm(points - [4, 4, 4], axis=1))[:300]] = True
    many[:100] = False
    plain, sought = [], []
    for seed in range(40):
        alike, chosen, same = (limit_points(points, 500, np.random.default_rng(seed), wanted) for wanted in (None, few, many))
        assert len(chosen) == len(np.unique(chosen)) == 500 and np.array_equal(alike, same)
        plain.append(few[alike].sum())
        sought.append(few[chosen].sum())
    # Thinning keeps as many as make up half of what stays; a crop is around one of them.
    assert np.mean(plain) < 60 and min(sought) > 100 and np.median(sought) >= 250


def test_a_pass_visits_every_scan_once() -> None:
    samples = _samples()
    assert sorted(samples.order(n) for n in range(5)) == sorted(samples.order(n) for n in range(5, 10)) == list(range(5))


def test_labels_follow_their_points() -> None:
    for number in range(6):
        item, labels = _samples(STILL.model_copy(update={"thin": 1.0, "sector": 1.0, "no_intensity": 0.5}))(number)
        assert len(item) <= 900 and np.array_equal(labels, (item.features[:, 3] > 0.5).astype(np.uint8))


def test_no_strength_changes_only_yaw_and_mirror() -> None:
    points, intensity, labels = _Rooms()[0]
    turned, _, turned_labels = augment(points, intensity, labels, STILL, np.random.default_rng(0))
    assert np.allclose(np.sort(np.linalg.norm(turned, axis=1)), np.sort(np.linalg.norm(points, axis=1)), atol=1e-4)
    assert np.allclose(np.sort(turned[:, 2]), np.sort(points[:, 2]), atol=1e-5) and turned_labels.sum() == labels.sum()


def test_intensity_is_dropped_as_often_as_asked() -> None:
    points, intensity, labels = _Rooms()[0]
    config = STILL.model_copy(update={"no_intensity": 0.3})
    dropped = [augment(points, intensity, labels, config, np.random.default_rng(i))[1] is None for i in range(200)]
    assert 0.2 < np.mean(dropped) < 0.4


def test_one_step_reaches_every_weight() -> None:
    torch.manual_seed(0)
    student = Student(NetworkConfig(depth=3, width=16))
    batch = collate_labelled([_samples()(n) for n in range(3)])
    SupervisedLoss(class_weights(np.array([5, 1] + [0] * 10), 0.3))(student, batch).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in student.parameters())
    # The batch norm after it takes this bias away again: its gradient is zero.
    still = [name for name, p in student.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == ["backbone.embedding.difference_norm.bias"]


def test_class_weights_mean_one_over_points() -> None:
    counts = np.array([900, 90, 10])
    weights = class_weights(counts, 0.5)
    assert np.isclose((weights * counts).sum() / counts.sum(), 1) and weights[0] < weights[1] < weights[2]
    assert np.allclose(class_weights(counts, 0.0), 1)
