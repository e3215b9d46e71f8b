"""The widest part of the network in training: for every point, the largest answer of a linear layer over its neighbours.

As plain operations it keeps (T, K, C) values several times over for the way back: at 8 scans of 20,000 points and width 768 that is
8 GB each. Here blocks of points go through while they fit in a cache, and again on the way back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from xkd_ros.nets.compiled import largest_answer, runs_compiled

_BLOCK_BYTES = {"cpu": 1 << 20, "cuda": 1 << 28}
"""Size of one (n, K, C) intermediate: a core's cache, or enough to fill a GPU."""
_MOST_NEIGHBOURS = 255
"""Of the compiled kernel, which counts them in a byte."""


def neighbour_max(there: Tensor, here: Tensor, neighbours: Tensor, weight: Tensor) -> Tensor:
    """Compute max over k of weight · relu(there[neighbours[:, k]] - here), differentiable.

    Args:
        there: (T, C) what a point says as somebody's neighbour.
        here: (T, C) what is subtracted at the point itself.
        neighbours: (T, K) int64 into T.
        weight: (D, C) of the linear layer.
    Returns:
        (T, D), in the autocast type where autocast is on: of the linear layer, the differences before it are taken as they come.
    """
    if runs_compiled(there) and neighbours.shape[1] <= _MOST_NEIGHBOURS:
        return largest_answer(there, here, neighbours, weight)
    device = there.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else there.dtype
    with torch.autocast(device, enabled=False):
        return _NeighbourMax.apply(there, here, neighbours, weight.to(kind))


class _NeighbourMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, there: Tensor, here: Tensor, neighbours: Tensor, weight: Tensor) -> Tensor:
        best = weight.new_empty(len(there), len(weight))
        for rows in _blocks(neighbours, here):
            index = neighbours[rows]
            best[rows] = _answers(_hidden(there, here[rows], index).to(weight.dtype), weight, index).amax(1)
        ctx.save_for_backward(there, here, neighbours, weight, best)
        return best

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, Tensor]:
        there, here, neighbours, weight, best = ctx.saved_tensors
        grad_there, grad_here = torch.zeros_like(there), torch.empty_like(here)
        # Summed over all points: bfloat16 would lose the small parts.
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        for rows in _blocks(neighbours, here):
            index = neighbours[rows]  # (n, K)
            hidden = _hidden(there, here[rows], index).to(weight.dtype)  # (n * K, C)
            # Only the neighbour that won passes anything back; where several did, as when one is listed twice, each a part.
            won = _answers(hidden, weight, index).eq_(best[rows].unsqueeze(1))  # (n, K, D)
            won = won.mul_((gradients[0][rows] / won.sum(1).clamp_(min=1)).unsqueeze(1)).flatten(0, 1)
            grad_weight += won.T @ hidden
            passed = (won @ weight).mul_(hidden.sign_()).to(there.dtype)  # (n * K, C)
            grad_there.index_add_(0, index.flatten(), passed)
            grad_here[rows] = passed.unflatten(0, index.shape).sum(1).neg_()
        return grad_there, grad_here, None, grad_weight.to(weight.dtype)


def _hidden(there: Tensor, here: Tensor, neighbours: Tensor) -> Tensor:
    """Compute relu(there[neighbours] - here) (n * K, C) of one block of n points."""
    hidden = there.index_select(0, neighbours.flatten())
    hidden.unflatten(0, neighbours.shape).sub_(here.unsqueeze(1))
    return hidden.relu_()


def _answers(hidden: Tensor, weight: Tensor, neighbours: Tensor) -> Tensor:
    """Compute the linear layer (n, K, D); the same shapes both times, so that the same numbers come out."""
    return (hidden @ weight.T).unflatten(0, neighbours.shape)


def _blocks(neighbours: Tensor, here: Tensor) -> Iterator[slice]:
    budget = _BLOCK_BYTES["cuda" if here.is_cuda else "cpu"]
    size = max(1, budget // (neighbours.shape[1] * here.shape[1] * here.element_size()))
    for start in range(0, len(here), size):
        yield slice(start, start + size)
