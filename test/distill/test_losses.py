"""Losses against slow plain definitions, and on labels that teach nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from xkd_ros.distill.losses import confident_loss, distillation_loss, lovasz_softmax, segmentation_loss


def _slow_lovasz(probability: torch.Tensor, labels: torch.Tensor) -> float:
    """Sum over the sorted errors of error x growth of the Jaccard loss, one class and one point at a time."""
    losses = []
    for c in labels.unique().tolist():
        truth = (labels == c).tolist()
        errors = [abs((1.0 if t else 0.0) - p) for t, p in zip(truth, probability[:, c].tolist())]
        order = sorted(range(len(errors)), key=lambda i: -errors[i])
        wrong: set[int] = set()
        previous = total = 0.0
        for i in order:
            wrong.add(i)
            missed = sum(1 for j in wrong if truth[j])
            false = sum(1 for j in wrong if not truth[j])
            jaccard = 1 - (sum(truth) - missed) / (sum(truth) + false)
            total += errors[i] * (jaccard - previous)
            previous = jaccard
        losses.append(total)
    return sum(losses) / len(losses)


def test_lovasz_matches_the_definition() -> None:
    torch.manual_seed(0)
    probability, labels = torch.randn(40, 5).softmax(1), torch.randint(0, 4, (40,))
    assert abs(float(lovasz_softmax(probability, labels)) - _slow_lovasz(probability, labels)) < 1e-5


def test_perfect_prediction_costs_nothing() -> None:
    labels = torch.tensor([0, 1, 2, 1])
    assert float(lovasz_softmax(torch.eye(3)[labels], labels)) < 1e-6


def test_unlabelled_points_do_not_count() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(30, 4), torch.randint(0, 4, (30,))
    more = torch.cat([logits, torch.randn(10, 4)]), torch.cat([labels, torch.full((10,), 255)])
    assert torch.isclose(segmentation_loss(logits, labels), segmentation_loss(*more))


def test_all_unlabelled_gives_zero_with_a_gradient() -> None:
    logits = torch.randn(5, 4, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((5,), 255))
    loss.backward()
    assert float(loss.detach()) == 0.0 and logits.grad is not None and not logits.grad.any()


def _slow_distance(predicted: np.ndarray, wanted: np.ndarray, eps: float) -> list[float]:
    """One pair at a time, in double: sqrt(|k/|k| - q/|q||^2 + eps)."""
    found = []
    for k, q in zip(predicted.astype(float), wanted.astype(float)):
        k, q = k / math.sqrt(sum(k * k)), q / math.sqrt(sum(q * q))
        found.append(math.sqrt(sum((a - b) ** 2 for a, b in zip(k, q)) + eps))
    return found


def test_distillation_matches_the_definition() -> None:
    rng = np.random.default_rng(0)
    predicted, wanted = rng.normal(size=(30, 9)).astype(np.float32), (40 * rng.normal(size=(30, 9))).astype(np.float16)
    found = distillation_loss(torch.from_numpy(predicted), torch.from_numpy(wanted))
    assert float(found) == pytest.approx(np.mean(_slow_distance(predicted, wanted, 1e-6)), abs=1e-6)


def test_equal_scans_average_over_scans_first() -> None:
    rng = np.random.default_rng(0)
    predicted, wanted = rng.normal(size=(2, 30, 9)).astype(np.float32)
    scan = np.repeat([4, 7], [25, 5])
    distance = np.array(_slow_distance(predicted, wanted, 1e-6))
    found = distillation_loss(*map(torch.from_numpy, (predicted, wanted, scan)))
    assert float(found) == pytest.approx((distance[scan == 4].mean() + distance[scan == 7].mean()) / 2, abs=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_gradient_is_finite_at_distance_zero(scale: float) -> None:
    wanted = scale * torch.ones(3, 4)
    predicted = wanted.clone().requires_grad_()
    distillation_loss(predicted, wanted).backward()
    assert torch.isfinite(predicted.grad).all()


def test_half_precision_inputs_are_normalised_in_float32() -> None:
    torch.manual_seed(0)
    predicted, wanted = 300 * torch.randn(20, 1024), 300 * torch.randn(20, 1024)  # the sum of squares overflows float16
    half = [tensor.half() for tensor in (predicted, wanted)]
    with torch.autocast("cpu", torch.bfloat16):
        found, narrow = distillation_loss(*half), distillation_loss(predicted.bfloat16(), wanted)
    assert found.dtype == narrow.dtype == torch.float32
    assert float(found) == pytest.approx(float(distillation_loss(*(tensor.double().float() for tensor in half))), abs=1e-6)
    assert float(narrow) == pytest.approx(float(distillation_loss(predicted.bfloat16().float(), wanted)), abs=1e-6)


def test_no_pair_gives_zero_with_a_gradient() -> None:
    weight = torch.ones(4, requires_grad=True)
    distillation_loss(weight * torch.zeros(0, 4), torch.zeros(0, 4)).backward()
    assert weight.grad is not None and not weight.grad.any()


def test_full_confidence_is_the_plain_loss() -> None:
    torch.manual_seed(0)
    logits, labels, weight = torch.randn(30, 4), torch.randint(0, 4, (30,)), torch.rand(4) + 0.5
    labels[:5] = 255
    for options in ({}, {"class_weight": weight, "smoothing": 0.1}):
        assert torch.isclose(confident_loss(logits, labels, torch.ones(30), **options), segmentation_loss(logits, labels, **options))


def test_doubt_weighs_less() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(30, 4, requires_grad=True), torch.randint(0, 4, (30,))
    confidence = torch.cat([torch.full((10,), 0.9), torch.full((10,), 0.3), torch.zeros(10)])
    loss = confident_loss(logits, labels, confidence)
    cost = torch.nn.functional.cross_entropy(logits[:20], labels[:20], reduction="none")
    plain = (cost * confidence[:20]).sum() / confidence.sum() + lovasz_softmax(logits[:10].softmax(1), labels[:10])
    assert torch.isclose(loss, plain)
    loss.backward()
    assert not logits.grad[20:].any() and logits.grad[10:20].any()


def test_nothing_certain_leaves_the_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(30, 4), torch.randint(0, 4, (30,))
    found = confident_loss(logits, labels, torch.full((30,), 0.4))
    assert torch.isclose(found, torch.nn.functional.cross_entropy(logits, labels))
    assert float(confident_loss(logits, torch.full((30,), 255), torch.ones(30))) == 0.0
