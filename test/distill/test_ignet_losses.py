"""One-way contrast, its bank, agreement with a mean teacher and balanced labels, against slow references written from the formulas."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from xkd_ros.core.errors import ModelError
from xkd_ros.distill.consistency import consistency_loss
from xkd_ros.distill.ignet.config import RetrainConfig
from xkd_ros.distill.ignet.one_way import FeatureBank, one_way_contrast
from xkd_ros.distill.retraining.balanced_labels import BalancedLabels, RangeBalance, write_balanced_labels


def _bank(counts: list[int], size: int = 5, width: int = 4) -> FeatureBank:
    torch.manual_seed(3)
    bank = FeatureBank(len(counts), size, width)
    for label, count in enumerate(counts):
        for _ in range(count):
            bank.add(torch.randn(1, width), torch.tensor([label]))
    return bank


def test_one_way_contrast_is_the_formula() -> None:
    bank = _bank([5, 2, 0])
    anchors, labels = torch.randn(7, 4), torch.tensor([0, 1, 2, 0, 1, 1, 0])
    z = F.normalize(anchors, dim=1)
    keys = [(c, bank.features[c, m]) for c in range(3) for m in range(5) if bank.filled[c, m]]
    assert [c for c, _ in keys] == [0] * 5 + [1] * 2
    expected = []
    for i, label in enumerate(labels.tolist()):
        total = sum(float(torch.exp(z[i] @ key / 0.1)) for _, key in keys)
        own = [np.log(float(torch.exp(z[i] @ key / 0.1)) / total) for c, key in keys if c == label]
        if own:
            expected.append(-np.mean(own))
    found = one_way_contrast(anchors, labels, bank.features, bank.filled, 0.1)
    assert len(expected) == 6 and float(found) == pytest.approx(np.mean(expected), rel=1e-5)


def test_only_anchors_are_moved_and_nothing_is_nan() -> None:
    bank = _bank([3, 1])
    anchors = torch.randn(4, 4, requires_grad=True)
    features = bank.features.clone().requires_grad_()
    one_way_contrast(anchors, torch.tensor([0, 1, 1, 0]), features, bank.filled, 0.1).backward()
    assert features.grad is None and anchors.grad is not None and bool(anchors.grad.abs().sum(1).gt(0).all())
    empty = _bank([0, 0])
    for labels in (torch.tensor([0, 1, 1, 0]), torch.zeros(0, dtype=torch.int64)):
        given = torch.randn(len(labels), 4, requires_grad=True)
        loss = one_way_contrast(given, labels, empty.features, empty.filled, 0.1)
        loss.backward()
        assert float(loss.detach()) == 0 and given.grad is not None and not given.grad.any()


def test_pulling_raises_the_likeness_to_the_own_class() -> None:
    bank = _bank([5, 5])
    anchors, labels = torch.randn(6, 4, requires_grad=True), torch.tensor([0, 0, 0, 1, 1, 1])

    def margin() -> float:
        likeness = torch.einsum("ad,cmd->ac", F.normalize(anchors, dim=1), bank.features)
        return float((likeness.gather(1, labels[:, None]) - likeness.gather(1, 1 - labels[:, None])).detach().sum())

    before = margin()
    for _ in range(20):
        (gradient,) = torch.autograd.grad(one_way_contrast(anchors, labels, bank.features, bank.filled, 0.1), anchors)
        anchors.data -= 0.1 * gradient
    assert margin() > before


def test_the_bank_keeps_the_newest_and_a_crowd_does_not_fill_it() -> None:
    bank = FeatureBank(2, 4, 2)
    for value in range(6):
        bank.add(torch.tensor([[1.0, value]]), torch.tensor([1]))
    kept = {round(float(row[1] / row[0])) for row in bank.features[1]}
    assert kept == {2, 3, 4, 5} and not bank.filled[0].any() and bool(bank.filled[1].all())
    bank.add(torch.randn(100, 2), torch.ones(100, dtype=torch.int64))
    assert int(bank.count[1]) == 7
    again = FeatureBank(2, 4, 2)
    again.load_state_dict(bank.state_dict())
    assert torch.equal(again.features, bank.features) and torch.equal(again.filled, bank.filled)


def test_consistency_is_the_mean_divergence_and_moves_the_student_alone() -> None:
    student, teacher = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    p, q = teacher.softmax(1), student.softmax(1)
    expected = float((p * (p / q).log()).sum(1).mean())
    loss = consistency_loss(student, teacher)
    loss.backward()
    assert float(loss) == pytest.approx(expected, rel=1e-5) and teacher.grad is None and student.grad is not None
    weight = torch.tensor([0.5, 1.0, 3.0])
    counts = (p * weight).sum(1)
    weighed = float((counts * (p * (p / q).log()).sum(1)).sum() / counts.sum())
    assert float(consistency_loss(student, teacher, weight)) == pytest.approx(weighed, rel=1e-5)
    assert float(consistency_loss(student, student)) == pytest.approx(0, abs=1e-6)
    nothing = torch.zeros(0, 3, requires_grad=True)
    assert float(consistency_loss(nothing, torch.zeros(0, 3))) == 0


def _predictions(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, count, p=[0.6, 0.3, 0.099, 0.001]).astype(np.uint8)
    labels[::50] = 255
    return labels, rng.beta(4, 1, count).astype(np.float32), rng.uniform(0, 25, count)


def test_each_class_and_range_keeps_its_surest_share() -> None:
    config = RetrainConfig(keep=0.3, edges_m=(0, 2, 8), least_points=100)
    labels, confidence, range_m = _predictions(0, 20_000)
    balance = RangeBalance(4, config)
    for part in np.array_split(np.arange(len(labels)), 7):
        balance.add(labels[part], *balance.place(confidence[part], range_m[part]))
    kept = balance.keep(labels, *balance.place(confidence, range_m), balance.thresholds())
    assert not kept[labels == 255].any()
    for label in range(4):
        for low, high in ((0, 2), (2, 8), (8, np.inf)):
            chosen = (labels == label) & (range_m >= low) & (range_m < high)
            if chosen.sum() < 100:
                assert not kept[chosen].any()
                continue
            share, threshold = kept[chosen].mean(), np.quantile(confidence[chosen], 0.7)
            assert 0.3 * 0.93 < share <= 0.3
            assert confidence[chosen & kept].min() >= threshold - 1e-6 and (confidence[chosen & ~kept] < threshold + 0.02).all()


@pytest.mark.parametrize("logit", [5.0, 8.0])
def test_labels_of_a_student_that_is_always_sure_keep_their_share(logit: float, tmp_path: Path) -> None:
    points = np.tile(np.float32([1, 0, 0]), (5000, 1))
    frames = SimpleNamespace(scan=lambda number: SimpleNamespace(points_m=points))
    sure = (1 / (1 + np.exp(-np.random.default_rng(0).normal(logit, 0.5, 5000)))).astype(np.float32)
    said = np.zeros(5000, np.uint8)
    write_balanced_labels(frames, [(0, said, sure)], 1, RetrainConfig(keep=0.5), tmp_path / "balanced.npz")  # type: ignore[arg-type]
    labels, _ = BalancedLabels({0: (np.full(5000, 255, np.uint8), np.zeros(5000, np.float32))}, tmp_path / "balanced.npz")[0]
    assert 0.47 < (labels == 0).mean() <= 0.5


def test_ranges_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(ValidationError, match="do not ascend"):
        RetrainConfig(edges_m=(5.0, 1.0, 3.0))


@pytest.mark.parametrize("saturated", [0.2, 0.4, 1.0])
def test_what_nothing_is_surer_of_is_kept(saturated: float) -> None:
    count = 1000
    confidence = np.where(np.arange(count) < saturated * count, 1.0, 0.7).astype(np.float32)
    labels, range_m = np.zeros(count, np.uint8), np.ones(count)
    balance = RangeBalance(1, RetrainConfig(keep=0.3, least_points=100))
    place = balance.place(confidence, range_m)
    balance.add(labels, *place)
    np.testing.assert_array_equal(balance.keep(labels, *place, balance.thresholds()), confidence == 1)


def test_sure_labels_win_over_balanced_ones_and_those_over_doubtful_ones(tmp_path: Path) -> None:
    points = np.column_stack([np.linspace(0.1, 9, 4000), np.zeros((4000, 2))]).astype(np.float32)
    frames = SimpleNamespace(scan=lambda number: SimpleNamespace(points_m=points, number=number))
    said, sure = np.repeat(np.array([0, 1], np.uint8), 2000), np.linspace(0.5, 0.99, 4000).astype(np.float32)
    given = {5: (np.full(4000, 255, np.uint8), np.zeros(4000, np.float32)), 6: (np.full(4000, 255, np.uint8), np.zeros(4000, np.float32))}
    given[5][0][-10:], given[5][1][-10:] = 3, 1
    given[5][0][:4], given[5][1][:4] = 3, 0.25
    given[5][0][-14:-10], given[5][1][-14:-10] = 3, 0.25
    path = tmp_path / "balanced.npz"
    config = RetrainConfig(keep=0.5, edges_m=(0.0,), least_points=1)
    write_balanced_labels(frames, [(5, said, sure)], 4, config, path)  # type: ignore[arg-type]
    labels, confidence = BalancedLabels(given, path)[5]
    assert (labels[-10:] == 3).all() and (confidence[-10:] == 1).all()
    assert (labels[:4] == 3).all() and (confidence[:4] == 0.25).all(), "the student is not sure of these"
    assert (labels[-14:-10] == 1).all(), "nor is whoever gave these, but the student is"
    assert 900 < (labels == 0).sum() <= 1000 and 900 < (labels == 1).sum() <= 1000 and (confidence[labels < 2] == 1).all()
    assert (BalancedLabels(given, path)[6][0] == 255).all()
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ModelError, match="is damaged"):
        BalancedLabels(given, path)
