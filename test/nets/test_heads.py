"""Heads: a classifier that starts undecided and folds away, a backbone that stays frozen, gradients that need less memory."""

from __future__ import annotations

import copy

import pytest
import torch

from xkd_ros.core.card import NetworkConfig
from xkd_ros.core.errors import ModelError
from xkd_ros.nets.batch import collate
from xkd_ros.nets.heads import ClassifyingStudent, DistillationHead, DistillingStudent, fold_head, make_backbone
from xkd_ros.nets.student import count_parameters

NETWORK = NetworkConfig(depth=3, width=12, classes=5)


def _classifier(frozen: bool = False, network: NetworkConfig = NETWORK) -> ClassifyingStudent:
    torch.manual_seed(0)
    return ClassifyingStudent(network, make_backbone(network, drop_path=0.2), frozen)


def _logits(model: ClassifyingStudent, batch) -> torch.Tensor:
    return model(batch.features, batch.cells, batch.shapes, batch.neighbours, None, batch.scan)


@pytest.mark.parametrize(("hidden", "weights"), [(None, 12 * 7 + 7), (20, 12 * 20 + 20 + 20 * 7 + 7)])
def test_distillation_head_has_the_published_form(hidden: int | None, weights: int) -> None:
    assert count_parameters(DistillationHead(12, 7, hidden)) == weights


def test_the_head_reads_paired_points_alone(make_scan) -> None:
    torch.manual_seed(0)
    student = DistillingStudent(make_backbone(NETWORK), DistillationHead(12, 7, 20)).eval()
    batch = collate([make_scan(0, 200), make_scan(1, 150)])
    everything = student.on(batch, torch.arange(len(batch.features)))
    paired = torch.tensor([3, 99, 3, 210])
    assert torch.allclose(student.on(batch, paired), everything[paired], atol=1e-6)


def test_a_new_classifier_is_undecided(make_scan) -> None:
    model, batch = _classifier(), collate([make_scan(0, 200)])
    assert not _logits(model, batch).any() and not _logits(model.eval(), batch).any()


def test_frozen_means_frozen(make_scan) -> None:
    model, batch = _classifier(frozen=True).train(), collate([make_scan(0, 300), make_scan(1, 200)])
    before = copy.deepcopy(model.state_dict())
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert {id(p) for p in learning} == {id(p) for p in model.head.parameters()}
    optimizer = torch.optim.AdamW(learning, lr=0.1)
    for _ in range(3):
        torch.nn.functional.cross_entropy(_logits(model, batch), torch.arange(len(batch.features)) % 5).backward()
        optimizer.step()
        optimizer.zero_grad()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("head.")}


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_folded_head_says_the_same(make_scan, activation: str) -> None:
    model, batch = _classifier(network=NETWORK.model_copy(update={"activation": activation})), collate([make_scan(0, 300)])
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.copy_(torch.randn_like(parameter))
        for _ in range(5):
            _logits(model, batch)  # moves the statistics of every batch norm
        model.eval()
        expected, student = _logits(model, batch), fold_head(model)
        assert torch.allclose(student.on(batch), expected, atol=1e-5)
    assert student.network == model.network


def test_gradient_checkpointing_gives_the_same_gradients(make_scan) -> None:
    batch, found = collate([make_scan(0, 300), make_scan(1, 100)]), []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        student = DistillingStudent(make_backbone(NETWORK, 0.3, checkpointing), DistillationHead(12, 7))
        torch.manual_seed(5)  # drop path must drop the same branches on the way back
        student.on(batch, torch.arange(len(batch.features))).square().mean().backward()
        found.append([parameter.grad for parameter in student.parameters()] + [buffer.float() for buffer in student.buffers()])
    assert all(torch.allclose(plain, checked, atol=1e-7) for plain, checked in zip(*found))


def test_gradient_checkpointing_with_batch_norm_is_refused() -> None:
    with pytest.raises(ModelError, match="norm: layer"):
        make_backbone(NetworkConfig(norm="batch"), checkpointing=True)
