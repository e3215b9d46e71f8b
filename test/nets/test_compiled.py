"""The compiled kernels learn what the plain layers learn: same outputs, same gradients."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

pytest.importorskip("numba")

from xkd_ros.nets import compiled
from xkd_ros.nets.batch import collate
from xkd_ros.nets.planes import make_planes
from xkd_ros.nets.student import Student
from xkd_ros.nets.waffleiron import WaffleIron


def _history(tensor: torch.Tensor) -> set[str]:
    """Names of all operations that led here."""
    names, seen, waiting = set(), set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            names.add(node.name())
            waiting += [previous for previous, _ in node.next_functions]
    return names


def step(student: Student, batch, fast: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits and gradients of one training step."""
    student.train().zero_grad()
    torch.manual_seed(3)
    with nullcontext() if fast else compiled.plain_layers():
        logits = student.on(batch)
    weight = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    (logits * weight).sum().backward()
    assert ("_MixBlocksBackward" in _history(logits)) == fast
    return logits.detach(), {name: value.grad.clone() for name, value in student.named_parameters() if value.grad is not None}


@pytest.mark.parametrize(("activation", "width", "drop_path"), [("relu", 16, 0.0), ("gelu", 20, 0.3), ("relu", 160, 0.3)])
@pytest.mark.parametrize("threads", [1, 2])
def test_outputs_and_gradients_are_the_same(make_scan, activation: str, width: int, drop_path: float, threads: int) -> None:
    from xkd_ros.core.card import NetworkConfig
    from xkd_ros.nets.student import seeded_student

    network = NetworkConfig(depth=7, width=width, classes=5, activation=activation)
    batch = collate([make_scan(0, 700), make_scan(1, 90), make_scan(2, 300)])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        results = [step(seeded_student(network, 0, drop_path), batch, fast) for fast in (False, True)]
    finally:
        torch.set_num_threads(before)
    (plain, gradients), (fast, found) = results
    assert torch.allclose(fast, plain, atol=1e-4 * plain.abs().max().item())
    assert found.keys() == gradients.keys()
    largest = max(value.abs().max().item() for value in gradients.values())
    for name, value in gradients.items():
        # difference_norm.bias has none but rounding.
        scale = max(value.abs().max().item(), 1e-3 * largest)
        assert torch.allclose(found[name], value, atol=2e-3 * scale), name


def test_gradients_reach_the_tokens(make_scan) -> None:
    """Against finite differences, where rounding allows: the largest of many slopes in a smooth network."""
    torch.manual_seed(0)
    backbone, batch = WaffleIron(4, 12, activation="gelu").train(), collate([make_scan(0, 40)])
    planes = make_planes(batch.cells, batch.shapes)
    tokens, direction = torch.randn(len(batch.features), 12, requires_grad=True), torch.randn(len(batch.features), 12)
    backbone.mix(tokens, planes).square().sum().backward()
    assert tokens.grad is not None
    slope = (tokens.grad * direction).sum().item()
    with torch.no_grad():
        ahead, behind = (backbone.mix(tokens + move * direction, planes).double().square().sum().item() for move in (1e-2, -1e-2))
    assert slope == pytest.approx((ahead - behind) / 2e-2, rel=2e-2)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_gradient_that_comes_in_stays_as_it_is(make_scan, checkpointing: bool) -> None:
    """The way back works in place, on a copy: what other layers hold is not touched."""
    backbone, batch = WaffleIron(4, 8, checkpointing=checkpointing).train(), collate([make_scan(0, 60), make_scan(1, 50)])
    planes, start = make_planes(batch.cells, batch.shapes), torch.randn(len(batch.features), 8)
    pull = torch.randn_like(start)
    kept, gradients = pull.clone(), []
    for _ in range(2):
        tokens = start.clone().requires_grad_()
        mixed = backbone.mix(tokens, planes)
        (gradient,) = torch.autograd.grad(mixed, tokens, pull, retain_graph=True)
        gradients += [gradient, *torch.autograd.grad(mixed, tokens, pull)]
    assert torch.equal(pull, kept)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


def test_where_kernels_do_not_run() -> None:
    x = torch.zeros(3, 4)
    assert compiled.runs_compiled(x)
    assert not compiled.runs_compiled(x.double())
    with torch.no_grad():
        assert not compiled.runs_compiled(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert not compiled.runs_compiled(x)
    assert not compiled.runs_compiled(torch.empty(3, 4, device="meta"))
