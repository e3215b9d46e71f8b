"""The fused head against one point at a time, and what it must not depend on."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from xkd_ros.core.card import NetworkConfig
from xkd_ros.core.errors import ModelError
from xkd_ros.nets.batch import collate
from xkd_ros.nets.fused_checkpoint import load_fused, save_fused
from xkd_ros.nets.fusion import FusedAnswer, FusedHead, FusedStudent, FusionSizes
from xkd_ros.nets.heads import ClassifyingStudent, fold_head, make_backbone
from xkd_ros.nets.student import seeded_student

NETWORK = NetworkConfig(depth=2, width=12, classes=5)
SIZES = FusionSizes(width=12, features=7, classes=5, attention=6)
POINT = torch.tensor([4, 0, 4, 9, 0, 4])


@pytest.fixture
def head() -> FusedHead:
    torch.manual_seed(0)
    head = FusedHead(SIZES).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn_like(parameter) / 2)
    return head


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randn(11, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def views() -> torch.Tensor:
    return torch.randn(len(POINT), 7, generator=torch.Generator().manual_seed(2))


def _student(drop: float = 0.0, drop_path: float = 0.0) -> FusedStudent:
    torch.manual_seed(0)
    return FusedStudent(ClassifyingStudent(NETWORK, make_backbone(NETWORK, drop_path), False), SIZES, 16, 20, drop)


def _ask(model: FusedStudent, scans, point: torch.Tensor, views: torch.Tensor) -> FusedAnswer:
    b = collate(scans)
    return model(b.features, b.cells, b.shapes, b.neighbours, b.scan, point, views)


@torch.no_grad()
def _slow(head: FusedHead, token: torch.Tensor, views: list[torch.Tensor]) -> torch.Tensor:
    """METHODS 6 for one point, its views in a list: attention over the null token and the views, gate, two blocks, classifier."""
    pool, normed = head.pool, head.token_norm(token)
    choices = [pool.null, *map(head.feature_norm, views)]
    scores = [float(pool.query(normed) @ pool.key(choice)) / math.sqrt(6) for choice in choices]
    total = sum(math.exp(score) for score in scores)
    pooled = sum(math.exp(score) / total * choice for score, choice in zip(scores, choices))
    seen = torch.tensor([float(bool(views))])
    first = torch.cat([head.gate_token.weight, head.gate_picture.weight], 1)
    hidden = first @ torch.cat([normed, pooled, seen]) + head.gate_token.bias + head.gate_picture.bias
    fused = token + torch.sigmoid(head.gate[1](hidden.relu())) * head.value(pooled)
    for block in head.blocks:
        fused = fused + block[3](block[1](block[0](fused)).relu())
    return head.head(fused.unsqueeze(0))[0]


@torch.no_grad()
def test_each_point_is_fused_as_the_formula_says(head: FusedHead, tokens: torch.Tensor, views: torch.Tensor) -> None:
    logits = head(tokens, POINT, views)
    slow = [_slow(head, token, [view for view, point in zip(views, POINT) if point == number]) for number, token in enumerate(tokens)]
    assert torch.allclose(logits, torch.stack(slow), atol=1e-5)


@torch.no_grad()
def test_the_order_of_views_does_not_matter_and_large_scores_do_not_overflow(head: FusedHead, tokens, views) -> None:
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    assert torch.allclose(head(tokens, POINT, views), head(tokens, POINT[order], views[order]), atol=1e-5)
    head.pool.key.weight.mul_(1e4)
    assert torch.isfinite(head(tokens, POINT, views)).all()


@torch.no_grad()
def test_what_no_picture_shows_is_as_without_pictures(head: FusedHead, tokens: torch.Tensor, views: torch.Tensor) -> None:
    blind = head(tokens, POINT[:0], views[:0])
    unseen = torch.tensor([number not in POINT for number in range(len(tokens))])
    logits = head(tokens, POINT, views)
    assert torch.allclose(logits[unseen], blind[unseen], atol=1e-6)
    assert (logits[~unseen] - blind[~unseen]).abs().max(1).values.min() > 1e-3


def test_a_picture_of_one_scan_says_nothing_about_another(make_scan) -> None:
    model, scans = _student().eval(), [make_scan(0, 200), make_scan(1, 150)]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        count = len(scans[0])
        point, views = torch.tensor([3, 40, count + 10]), torch.randn(3, 7)
        together, alone = _ask(model, scans, point, views), _ask(model, scans[:1], point[:2], views[:2])
    assert torch.allclose(together.fused[:count], alone.fused, atol=1e-4)
    assert together.used.nonzero().flatten().tolist() == [3, 40, count + 10]


def test_dropped_pictures_leave_the_other_answers_alone(make_scan) -> None:
    model, scans = _student(drop=0.5).train(), [make_scan(number, 100) for number in range(4)]
    scan = collate(scans).scan
    point = torch.arange(0, len(scan), 7)
    views = torch.randn(len(point), 7)
    dropped = []
    for seed in range(30):
        torch.manual_seed(seed)
        said = _ask(model, scans, point, views)
        used = said.used[point]
        assert int(said.used.sum()) == int(used.sum())
        shown = [used[scan[point] == number] for number in range(4)]
        assert all(bool(one.any()) == bool(one.all()) for one in shown)
        assert len(said.point_code) == len(said.spoken) == len(point) == len(said.view_code)
        dropped.append(sum(not bool(one.any()) for one in shown) / 4)
    assert 0.35 < sum(dropped) / 30 < 0.65
    with torch.no_grad():
        assert bool(_ask(model.eval(), scans, point, views).used[point].all())


def test_every_weight_takes_part_even_without_a_picture(make_scan) -> None:
    """Else distributed training waits for ever for the gradients of those that do not."""
    model = _student().train()
    said = _ask(model, [make_scan(0, 100)], POINT[:0], torch.zeros(0, 7))
    sum(value.float().sum() for value in (said.lidar, said.fused, said.point_code, said.view_code, said.spoken)).backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def test_the_lidar_only_part_folds_to_a_plain_student(make_scan) -> None:
    model, scans = _student(), [make_scan(0, 300)]
    with torch.no_grad():
        for parameter in model.lidar.head.parameters():
            parameter.copy_(torch.randn_like(parameter))
        _ask(model.train(), scans, POINT, torch.randn(len(POINT), 7))
        said = _ask(model.eval(), scans, POINT, torch.randn(len(POINT), 7))
        assert torch.allclose(fold_head(model.lidar).on(collate(scans)), said.lidar, atol=1e-4)


def test_a_fused_head_comes_back_and_belongs_to_one_student(head: FusedHead, tokens, views, tmp_path: Path) -> None:
    student = seeded_student(NETWORK, 0)
    save_fused(head, student, "teacher", tmp_path)
    again, card = load_fused(tmp_path, student)
    with torch.no_grad():
        assert torch.equal(again(tokens, POINT, views), head(tokens, POINT, views)) and card.teacher == "teacher"
    with pytest.raises(ModelError, match="another student"):
        load_fused(tmp_path, seeded_student(NETWORK, 1))
    sizes = json.loads((tmp_path / "fused.json").read_text())
    (tmp_path / "fused.json").write_text(json.dumps({**sizes, "width": 10**6}))
    with pytest.raises(ModelError, match="less than or equal to 2048"):
        load_fused(tmp_path, student)
    (tmp_path / "fused.json").write_text(json.dumps(sizes))
    weights = (tmp_path / "fused.safetensors").read_bytes()
    (tmp_path / "fused.safetensors").write_bytes(weights[:-4])
    with pytest.raises(ModelError, match="hash differs"):
        load_fused(tmp_path, student)
    (tmp_path / "fused.json").write_text("{}")
    with pytest.raises(ModelError, match="no fused head"):
        load_fused(tmp_path, student)
