"""The compiled kernels as differentiable operations: training on a CPU, half as fast again as layer by layer.

Same function as the plain modules of `mixing` and `neighbour_max`, which run everywhere else and are what these are tested against.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from xkd_ros.kernels.compiler import rows_per_block
from xkd_ros.kernels.mixing import channels_backward, channels_forward, space_backward, space_forward
from xkd_ros.kernels.neighbours import largest_backward, largest_forward
from xkd_ros.kernels.team import run

_allowed = True
_EPS = np.float32(1e-5)
"""Of torch's layer norm."""

if TYPE_CHECKING:
    from xkd_ros.points.cell_table import CellTable


@contextmanager
def plain_layers() -> Iterator[None]:
    """Keep the kernels out, everywhere in this process: for whoever compares."""
    global _allowed
    before, _allowed = _allowed, False
    try:
        yield
    finally:
        _allowed = before


def runs_compiled(x: Tensor) -> bool:
    """Whether kernels may stand in for torch: training in float32 on a CPU."""
    if not _allowed or x.device.type != "cpu" or x.dtype != torch.float32 or not torch.is_grad_enabled() or torch.compiler.is_exporting():
        return False
    return not torch.is_autocast_enabled("cpu")


def mix_channels(tokens: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, keep: Tensor | None, relu: bool) -> Tensor:
    """Compute tokens + keep · (weight2 · act(weight1 · standardised + bias1) + bias2).

    Args:
        tokens: (T, C).
        weight1, weight2: (C, C) as (out, in); bias1, bias2: (C,).
        keep: (T,) factors of the residual; None: 1.
        relu: False for gelu.
    """
    return _MixChannels.apply(tokens, weight1.T, bias1, weight2.T, bias2, keep, relu)


def mix_space(
    tokens: Tensor,
    table: CellTable,
    scale: Tensor,
    shift: Tensor,
    conv1: Tensor,
    bias1: Tensor,
    conv2: Tensor,
    bias2: Tensor,
    keep: Tensor | None,
    relu: bool,
) -> Tensor:
    """Compute tokens + keep · inflate(conv2(act(conv1(scale · flatten(standardised) + shift)))).

    Args:
        tokens: (T, C).
        table: Of the plane, over all scans.
        scale, shift: (C,).
        conv1, conv2: (C, 9) with bias1, bias2 (C,).
        keep, relu: As for `mix_channels`.
    """
    return _MixSpace.apply(tokens, scale, shift, conv1.T, bias1, conv2.T, bias2, keep, table, relu)


def largest_answer(there: Tensor, here: Tensor, neighbours: Tensor, weight: Tensor) -> Tensor:
    """Compute `neighbour_max`: (T, D) from (T, C) twice, (T, K) and the weight (D, C)."""
    return _LargestAnswer.apply(there, here, neighbours, weight)


class _MixChannels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, keep: Any, relu: bool) -> Tensor:
        arrays, rows = [*map(_array, (tokens, weight1, bias1, weight2, bias2)), _factors(keep, tokens)], _rows(tokens)
        out = np.empty_like(arrays[0])
        _run(channels_forward, *arrays, relu, _EPS, rows, out)
        ctx.arrays, ctx.relu = arrays, relu
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weight1, bias1, weight2, bias2, keep = ctx.arrays
        out, sums = np.empty_like(tokens), _sums(weight1, bias1, weight2, bias2)
        rows, gradient = _rows(tokens), _array(gradients[0])
        _run(channels_backward, tokens, weight1, bias1, weight2, keep, ctx.relu, _EPS, rows, gradient, out, sums)
        return torch.from_numpy(out), *map(_added, sums), None, None


class _MixSpace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, *rest: Any) -> Tensor:
        *weights, keep, table, relu = rest
        arrays, factors, columns = [*map(_array, weights)], _factors(keep, tokens), _columns(table)
        few, many, channels = table.occupied, table.halo, tokens.shape[1]
        mean, before = _memory(channels, few, many)
        out = np.empty(tuple(tokens.shape), np.float32)
        memory = _memory(channels, few + 1, many + 1, few)
        _run(space_forward, _array(tokens), columns, *arrays, factors, relu, _EPS, mean, before, memory, out)
        ctx.saved = _array(tokens), table, columns, arrays, factors, relu, mean, before
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        tokens, table, columns, weights, keep, relu, mean, before = ctx.saved
        scale, shift, conv1, _, conv2, _ = weights
        few, many, out = table.occupied, table.halo, np.empty_like(tokens)
        memory, sums = _memory(tokens.shape[1], many + 1, many + 1, few + 1, few + 1, few), _sums(*weights)
        inputs = tokens, columns, scale, shift, conv1, conv2, keep, relu, _EPS, _rows(tokens), mean, before
        _run(space_backward, *inputs, _array(gradients[0]), memory, out, sums)
        return torch.from_numpy(out), *map(_added, sums), None, None, None


class _LargestAnswer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, there: Tensor, here: Tensor, neighbours: Tensor, weight: Tensor) -> Tensor:
        arrays = [*map(_array, (there, here, neighbours))]
        best, winner = (np.empty((len(there), len(weight)), kind) for kind in (np.float32, np.uint8))
        _run(largest_forward, *arrays, _array(weight.T), _rows(there), best, winner)
        ctx.saved = *arrays, _array(weight), winner
        return torch.from_numpy(best)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        there, here, _, weight, _ = ctx.saved
        (grad_there, weights), grad_here = _sums(there, weight), np.empty_like(here)
        _run(largest_backward, *ctx.saved, _array(gradients[0]), grad_there, grad_here, weights)
        return _added(grad_there), torch.from_numpy(grad_here), None, _added(weights)


def _run(kernel: Any, *arguments: Any) -> None:
    """Run a kernel on torch's number of threads."""
    run(kernel, torch.get_num_threads(), *arguments)


def _rows(tokens: Tensor | np.ndarray) -> int:
    return rows_per_block(tokens.shape[1])


def _memory(channels: int, *rows: int) -> tuple[np.ndarray, ...]:
    return tuple(np.zeros((count, channels), np.float32) for count in rows)


def _sums(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Make zeros for the gradients of each array, one for each thread."""
    return tuple(np.zeros((torch.get_num_threads(), *array.shape), np.float32) for array in arrays)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _factors(keep: Tensor | None, tokens: Tensor) -> np.ndarray:
    return np.ones(len(tokens), np.float32) if keep is None else _array(keep)


def _added(parts: np.ndarray) -> Tensor:
    return torch.from_numpy(parts.sum(0) if len(parts) > 1 else parts[0])


def _columns(table: CellTable) -> tuple[np.ndarray, ...]:
    return table.cell, table.points_by_cell[0], table.bounds, table.inverse_count, table.reached, table.taps
