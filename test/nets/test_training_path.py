"""In training the embedding never holds (T, K, C) values: outputs, gradients and statistics against the layers written out plainly."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from xkd_ros.nets import neighbour_max as module
from xkd_ros.nets.embedding import Embedding
from xkd_ros.nets.mixing import SpatialMix
from xkd_ros.nets.neighbour_max import neighbour_max
from xkd_ros.nets.planes import make_planes


def plain_embedding(layers: Embedding, features: Tensor, neighbours: Tensor, real: Tensor | None) -> Tensor:
    """METHODS 1.3, layer by layer on every neighbour."""
    count, k = neighbours.shape
    x = layers.norm(features, real)
    repeated = None if real is None else real.repeat_interleave(k)
    difference = layers.difference_norm((x[neighbours] - x.unsqueeze(1)).flatten(0, 1), repeated)
    hidden = F.relu(layers.hidden_norm(layers.difference(difference), repeated))
    near = layers.neighbour(hidden).unflatten(0, (count, k)).amax(1)
    return layers.merge(torch.cat([layers.point(x), near], 1))


def embedding(width: int = 24) -> Embedding:
    torch.manual_seed(4)
    layers = Embedding(5, width).train()
    for norm in (layers.norm, layers.difference_norm, layers.hidden_norm):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias)
    return layers


@pytest.mark.parametrize("padded", [False, True])
def test_the_embedding_learns_as_its_layers_would(padded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._BLOCK_BYTES, "cpu", 20_000)  # many blocks, the last one not full
    fast, plain = embedding(), embedding()
    features = torch.randn(203, 5) * torch.tensor([1.0, 8, 8, 1, 5]) + 2
    real = torch.rand(203) < 0.8 if padded else None
    near = torch.arange(203) if real is None else real.nonzero()[:, 0]  # padding is nobody's neighbour
    neighbours = near[torch.randint(0, len(near), (203, 7))]
    rows = slice(None) if real is None else real
    pull = torch.randn(203, 24)
    results = []
    for layers, forward in ((fast, Embedding.forward), (plain, plain_embedding)):
        out = forward(layers, features, neighbours, real)
        (out[rows] * pull[rows]).sum().backward()
        results.append(out[rows].detach())
    assert torch.allclose(*results, atol=2e-5) and results[0].std() > 0.1
    for (name, ours), (_, theirs) in zip(fast.named_parameters(), plain.named_parameters()):
        assert ours.grad is not None and theirs.grad is not None
        scale = theirs.grad.abs().max()
        assert torch.allclose(ours.grad, theirs.grad, atol=float(1e-4 * scale) + 2e-4), name
    for (name, ours), (_, theirs) in zip(fast.named_buffers(), plain.named_buffers()):
        assert torch.allclose(ours, theirs, atol=1e-5), name


def test_the_maximum_passes_numerical_gradients() -> None:
    there, here, weight = (torch.randn(*shape, dtype=torch.double, requires_grad=True) for shape in ((9, 4), (9, 4), (3, 4)))
    neighbours = torch.randint(0, 9, (9, 5))
    assert torch.autograd.gradcheck(lambda *given: neighbour_max(given[0], given[1], neighbours, given[2]), (there, here, weight))


def test_autocast_computes_in_its_type_and_gives_gradients_in_the_weights_own() -> None:
    layers = embedding()
    plain = copy.deepcopy(layers)
    features, neighbours = torch.randn(50, 5), torch.randint(0, 50, (50, 7))
    with torch.autocast("cpu", torch.bfloat16):
        low = layers(features, neighbours)
    low.float().square().sum().backward()
    high = plain(features, neighbours)
    assert low.dtype == torch.bfloat16 and torch.allclose(low.float(), high, atol=0.15)
    gradients = [parameter.grad for parameter in layers.parameters()]
    assert all(gradient is not None and gradient.dtype == torch.float32 and bool(gradient.isfinite().all()) for gradient in gradients)


@pytest.mark.parametrize("training", [True, False])
def test_autocast_keeps_the_small_differences_between_far_neighbours(training: bool) -> None:
    """Neighbours 0.1 apart, 20 from the origin: rounded before they are subtracted, a tenth of the difference would be noise."""
    layers = embedding().train(training)
    with torch.no_grad():
        layers.merge.weight[:, :24], layers.merge.bias[:] = 0.0, 0.0  # the neighbours' part alone
    exact = copy.deepcopy(layers)
    features = torch.linspace(0, 20, 400).unsqueeze(1) + 0.05 * torch.randn(400, 5)
    neighbours = (torch.arange(400).unsqueeze(1) + torch.tensor([-3, -2, -1, 1, 2, 3])) % 400
    with torch.autocast("cpu", torch.bfloat16):
        low = layers(features, neighbours)
    high = exact(features, neighbours)
    assert (low.float() - high).norm() < 0.006 * high.norm()


def test_a_batch_norm_under_autocast_sums_cells_in_float32() -> None:
    mix = SpatialMix(8, "batch", "relu", 0.0)
    sums = []
    mix.conv1.register_forward_pre_hook(lambda _, inputs: sums.append(inputs[0].dtype))
    planes = make_planes(torch.randint(0, 12, (3, 30)), ((1, 3, 4),) * 3)
    with torch.autocast("cpu", torch.bfloat16):
        mix(torch.randn(30, 8).bfloat16(), planes[0], None, None)
    assert sums == [torch.float32]


def test_padding_adds_nothing_to_the_mean_of_a_cell() -> None:
    torch.manual_seed(1)
    mix = SpatialMix(8, "layer", "relu", 0.0)
    tokens, cells, shape = torch.randn(30, 8), torch.randint(0, 12, (3, 30)), ((1, 3, 4),) * 3
    alone = mix(tokens, make_planes(cells, shape)[0], None, None)
    padded_cells, real = torch.cat([cells, torch.zeros(3, 6, dtype=torch.long)], 1), torch.arange(36) < 30
    padded = mix(torch.cat([tokens, torch.full((6, 8), 50.0)]), make_planes(padded_cells, shape, real)[0], real, None)
    assert torch.allclose(padded[:30], alone, atol=1e-6)
