"""The loss over units against loops written from the formula, the class weights, and the ledger's rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from xkd_ros.distill.partdistill.ledger import UnitLedger
from xkd_ros.distill.partdistill.losses import effective_weights, log_weights, partdistill_loss

POINTS, CLASSES = 60, 4


def example(seed: int, smallest: int = 1):
    """Overlapping units of different sizes; one has no confidence, and some points are in none."""
    rng = np.random.default_rng(seed)
    units = [rng.permutation(50)[: rng.integers(smallest, 30)] for _ in range(6)]
    unit = np.repeat(np.arange(6), [len(points) for points in units])
    confidence = rng.uniform(0.2, 1, len(unit)).astype(np.float32)
    confidence[unit == 2] = 0
    logits = torch.from_numpy(rng.normal(size=(POINTS, CLASSES)).astype(np.float32)).requires_grad_()
    arrays = (np.concatenate(units), unit, rng.integers(0, CLASSES, 6), confidence)
    return logits, units, *map(torch.from_numpy, arrays), torch.from_numpy(rng.uniform(0.5, 3, CLASSES).astype(np.float32))


def minus_log(logits: torch.Tensor, point: int, label: int, smoothing: float) -> float:
    z = logits[point].tolist()
    total = math.log(sum(math.exp(value) for value in z))
    spread = sum(total - value for value in z) / len(z)
    return (1 - smoothing) * (total - z[label]) + smoothing * spread


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_the_form_of_the_paper(seed, smoothing) -> None:
    logits, units, point, unit, label, confidence, weight = example(seed)
    total, place = 0.0, 0
    for number, points in enumerate(units):
        inner = 0.0
        for n in points:
            inner += float(confidence[place]) * float(weight[label[number]]) * minus_log(logits, n, int(label[number]), smoothing)
            place += 1
        total += inner / max(len(points), 8)
    loss = partdistill_loss(logits, point, unit, label, confidence, weight, 8, "unit", smoothing)
    assert loss.item() == pytest.approx(total / 5, rel=1e-5)  # the sixth unit has no confidence


@pytest.mark.parametrize("seed", range(3))
def test_the_form_of_the_code(seed) -> None:
    logits, _, point, unit, label, confidence, weight = example(seed)
    total = 0.0
    for n in range(POINTS):
        covering = [(u, place) for place, (u, p) in enumerate(zip(unit.tolist(), point.tolist())) if p == n]
        costs = [float(confidence[place]) * float(weight[label[u]]) * minus_log(logits, n, int(label[u]), 0) for u, place in covering]
        total += sum(costs) / max(1, len(costs))
    loss = partdistill_loss(logits, point, unit, label, confidence, weight, form="point")
    assert loss.item() == pytest.approx(total / POINTS, rel=1e-5)


@pytest.mark.parametrize("form", ["unit", "point"])
def test_only_covered_points_with_confidence_learn(form) -> None:
    logits, _, point, unit, label, confidence, weight = example(0)
    partdistill_loss(logits, point, unit, label, confidence, weight, form=form).backward()
    touched = torch.zeros(POINTS, dtype=torch.bool)
    touched[point[confidence > 0]] = True
    assert torch.equal(logits.grad.abs().sum(1) > 0, touched) and not bool(touched.all())


@pytest.mark.parametrize("form", ["unit", "point"])
def test_nothing_to_learn_is_zero_with_a_gradient(form) -> None:
    logits, _, point, unit, label, confidence, weight = example(0)
    for members in ((point, unit, torch.zeros_like(confidence)), (point[:0], unit[:0], confidence[:0])):
        logits.grad = None
        loss = partdistill_loss(logits, *members[:2], label, members[2], weight, form=form)
        loss.backward()
        assert loss.item() == 0 and float(logits.grad.abs().max()) == 0


def test_a_unit_weighs_the_same_whatever_its_size_and_a_tiny_one_less() -> None:
    logits = torch.zeros(300, 3)
    ones = torch.ones

    def loss(size: int) -> float:
        return float(partdistill_loss(logits, torch.arange(size), torch.zeros(size, dtype=torch.int64), torch.tensor([1]), ones(size)))

    assert loss(300) == pytest.approx(loss(20), rel=1e-6) == pytest.approx(math.log(3), rel=1e-6)
    assert loss(5) == pytest.approx(math.log(3) / 4, rel=1e-6)


def test_weights_of_classes() -> None:
    counts = np.array([800, 150, 50, 0])
    expected = [min(max(1 + math.log(1000 / (max(n, 1) * 4), 4), 1), 4) for n in counts]
    assert log_weights(counts) == pytest.approx(expected) and log_weights(counts)[0] == 1 and log_weights(counts)[3] == 4
    raw = [(1 - 0.9999) / (1 - 0.9999 ** max(n, 1)) for n in counts]
    assert effective_weights(counts) == pytest.approx([4 * value / sum(raw) for value in raw], rel=1e-6)
    assert effective_weights(counts).sum() == pytest.approx(4)
    assert effective_weights(np.array([10**7, 10**6])) == pytest.approx([1, 1], rel=1e-3)


def test_judging_starts_when_the_moving_average_rests() -> None:
    losses = [2.0, 1.0, 0.7, 0.55, 0.5, 0.49, 0.48, 0.48, 0.48, 0.48]
    window, change = 3, 0.02
    for scale in (1.0, 50.0):
        ledger, found, expected = UnitLedger(2, window), None, None
        for epoch, value in enumerate(losses, 1):
            for part in (0.5, 1.5):  # two batches
                ledger.note(torch.tensor(scale * value * part))
            ledger.end_epoch(ledger.epoch_mean)
            if found is None and ledger.settled(change):
                found = epoch
            means = [sum(losses[e - window : e]) / window for e in (epoch - 1, epoch) if e >= window]
            if expected is None and len(means) == 2 and abs(means[1] - means[0]) < change * losses[0]:
                expected = epoch
        assert found == expected == 7


def test_judged_units_weigh_as_much_as_they_are_agreed_with() -> None:
    ledger = UnitLedger(4, 1)
    given, number = torch.tensor([0.5, 0.6, 0.7, 0.8]), torch.tensor([3, 3, 1, 0])
    assert torch.equal(ledger.confidence(given, number), given) and int(ledger.judged) == -1
    ledger.judge(torch.tensor([1.0, 0.12, 0.09, 0.4]), torch.tensor([1, 0.2, 0, 0.4]), 70)
    assert ledger.confidence(given, number).tolist() == pytest.approx([0.4, 0.4, 0.2, 1])
    again = UnitLedger(4, 1)
    again.load_state_dict(ledger.state_dict())
    assert int(again.judged) == 70 and torch.equal(again.weight, ledger.weight) and torch.equal(again.score, ledger.score)
