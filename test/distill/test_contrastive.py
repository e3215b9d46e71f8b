"""Contrastive and agreement losses against their formulas, one pair at a time, and on what teaches nothing."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from xkd_ros.distill.agreement import agreement_loss
from xkd_ros.distill.contrastive import alike_views, contrastive_loss

OWNER = torch.tensor([2, 0, 0, 1, 3, 0, 4, 3])


def _both(points: torch.Tensor, views: torch.Tensor, owner: torch.Tensor, alike: torch.Tensor | None = None) -> torch.Tensor:
    return contrastive_loss(points, views, owner, torch.arange(len(owner)), alike, symmetric=True)


def _units(seed: int, count: int, width: int = 6) -> torch.Tensor:
    return F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def _slow(anchors, keys, positive, ignored, temperature: float) -> float:
    """-1/|P_i| sum over p of log(exp(s_ip) / sum over a of exp(s_ia)), mean over the anchors that have a positive."""
    found = []
    for i, anchor in enumerate(anchors.tolist()):
        score = [sum(x * y for x, y in zip(anchor, key)) / temperature for key in keys.tolist()]
        mine = [j for j in range(len(score)) if positive[i][j]]
        if mine:
            total = sum(math.exp(s) for j, s in enumerate(score) if positive[i][j] or not ignored[i][j])
            found.append(-sum(math.log(math.exp(score[j]) / total) for j in mine) / len(mine))
    return sum(found) / len(found)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_one_direction_is_the_formula(temperature: float) -> None:
    anchors, keys = _units(0, 5), _units(1, 9)
    draw = torch.Generator().manual_seed(2)
    positive, ignored = torch.rand(5, 9, generator=draw) < 0.3, torch.rand(5, 9, generator=draw) < 0.4
    positive[3] = False
    for mask in (None, ignored):
        wanted = _slow(anchors, keys, positive.tolist(), (torch.zeros_like(positive) if mask is None else mask).tolist(), temperature)
        assert float(contrastive_loss(anchors, keys, *positive.nonzero().T, mask, temperature)) == pytest.approx(wanted, rel=1e-4)


def test_both_directions_are_averaged_and_all_views_of_a_point_are_its_own() -> None:
    points, views = _units(0, 5), _units(1, len(OWNER))
    own = [[int(owner) == point for owner in OWNER] for point in range(5)]
    none = [[False] * len(OWNER)] * 5
    turned = [list(row) for row in zip(*own)]
    wanted = (_slow(points, views, own, none, 0.07) + _slow(views, points, turned, [list(row) for row in zip(*none)], 0.07)) / 2
    assert float(_both(points, views, OWNER)) == pytest.approx(wanted, rel=1e-4)
    order = torch.randperm(len(OWNER), generator=torch.Generator().manual_seed(0))
    assert float(_both(points, views[order], OWNER[order])) == pytest.approx(wanted, rel=1e-4)


def test_what_is_alike_is_not_told_apart() -> None:
    features = torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 3.0], [1.0, 0.9]])
    owner = torch.tensor([0, 1, 2, 0])
    mean = [(1 + 1 / math.hypot(1, 0.9), 0.9 / math.hypot(1, 0.9)), (2, 0.1), (0, 3)]
    wanted = [[_cosine(mean[u], view) > 0.9 for view in features.tolist()] for u in range(3)]
    assert alike_views(features.half(), owner, 3, 0.9).tolist() == wanted and wanted[0] != [True] * 4
    points, views = _units(0, 3), _units(1, 4)
    everything = torch.ones(3, 4, dtype=torch.bool)
    # Without a negative only the choice among a point's own views is left: log 2 for the point with two.
    alone = _both(points[1:], views[1:3], owner[1:3] - 1, everything[1:, 1:3])
    assert float(alone) == pytest.approx(0, abs=1e-6)
    assert float(_both(points, views, owner, everything)) >= math.log(2) / 6 - 1e-6


def _cosine(a, b) -> float:
    return (a[0] * b[0] + a[1] * b[1]) / math.hypot(*a) / math.hypot(*b)


def test_matching_codes_cost_less_and_gradients_lead_there() -> None:
    points = _units(0, 40, 16).requires_grad_()
    owner, views = torch.arange(40), _units(1, 40, 16).requires_grad_()
    optimizer = torch.optim.SGD([points, views], lr=5.0)
    first = float(_both(points, views, owner).detach())
    for _ in range(50):
        optimizer.zero_grad()
        _both(F.normalize(points, dim=1), F.normalize(views, dim=1), owner).backward()
        optimizer.step()
    points, views = (F.normalize(codes.detach(), dim=1) for codes in (points, views))
    assert float(_both(points, views, owner)) < 0.05 * first


def test_rows_of_which_everything_is_ignored_cost_nothing_but_their_partners() -> None:
    anchors, keys = _units(0, 3).requires_grad_(), _units(1, 4).requires_grad_()
    everything = torch.ones(3, 4, dtype=torch.bool)
    # The first two have one partner and nobody else left, the third has none at all.
    loss = contrastive_loss(anchors, keys, torch.tensor([0, 1]), torch.tensor([2, 3]), everything, symmetric=True)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert anchors.grad is not None and bool(torch.isfinite(anchors.grad).all()) and bool(torch.isfinite(keys.grad).all())


def test_opposite_vectors_stay_finite() -> None:
    points = _units(0, 4).requires_grad_()
    loss = contrastive_loss(points, -points.detach(), torch.arange(4), torch.arange(4), temperature=0.03, symmetric=True)
    loss.backward()
    assert bool(loss.isfinite()) and bool(torch.isfinite(points.grad).all())


def test_nothing_to_compare_costs_nothing() -> None:
    for points, views, owner in ((0, 0, OWNER[:0]), (3, 0, OWNER[:0])):
        a, b = torch.zeros(points, 6, requires_grad=True), torch.zeros(views, 6, requires_grad=True)
        loss = _both(a, b, owner, alike_views(torch.zeros(views, 4), owner, points, 0.9))
        loss.backward()
        assert float(loss.detach()) == 0 and a.grad is not None and b.grad is not None and not a.grad.any()


def test_a_key_that_is_held_fast_gets_no_gradient() -> None:
    anchors, keys = _units(0, 4).requires_grad_(), _units(1, 4).requires_grad_()
    contrastive_loss(anchors, keys.detach(), torch.arange(4), torch.arange(4)).backward()
    assert anchors.grad is not None and keys.grad is None


def test_agreement_is_the_formula_and_flows_one_way() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, wanted = (3 * torch.randn(7, 4, generator=draw)).requires_grad_(), (3 * torch.randn(7, 4, generator=draw)).requires_grad_()
    total = 0.0
    for said, truth in zip(logits.tolist(), wanted.tolist()):
        p, q = ([math.exp(x / 2) for x in row] for row in (truth, said))
        p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
        total += 4 * sum(x * math.log(x / y) for x, y in zip(p, q)) / 7
    loss = agreement_loss(logits, wanted, 2.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(total, rel=1e-5)
    assert wanted.grad is None and logits.grad is not None and bool(logits.grad.any())
    assert float(agreement_loss(wanted, wanted, 2.0).detach()) == pytest.approx(0, abs=1e-6)


def test_nobody_to_agree_with_costs_nothing() -> None:
    logits = torch.zeros(0, 4, requires_grad=True)
    loss = agreement_loss(logits, logits)
    loss.backward()
    assert float(loss.detach()) == 0 and logits.grad is not None
