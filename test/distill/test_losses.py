"""Losses against slow plain definitions, and on labels that teach nothing."""

from __future__ import annotations

import torch

from xkd_ros.distill.losses import lovasz_softmax, segmentation_loss


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
    assert float(loss) == 0.0 and logits.grad is not None and not logits.grad.any()
