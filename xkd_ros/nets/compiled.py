"""The compiled kernels as differentiable operations: training on a CPU, half as fast again as layer by layer.

Same function as the plain modules of `mixing` and `neighbour_max`, which run everywhere else and are what these are tested against.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

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


class BlockWeights(NamedTuple):
    """Weights of L blocks of width C, norms and scales folded in.

    Attributes:
        scale, shift: (L, C) of the standardised tokens, applied in the cells.
        conv1, conv2: (L, 9, C) with bias1, bias2 (L, C).
        linear1, linear2: (L, C, C) as (in, out), with their biases (L, C).
    """

    scale: Tensor
    shift: Tensor
    conv1: Tensor
    conv1_bias: Tensor
    conv2: Tensor
    conv2_bias: Tensor
    linear1: Tensor
    linear1_bias: Tensor
    linear2: Tensor
    linear2_bias: Tensor


def mix_blocks(tokens: Tensor, tables: Sequence[CellTable], weights: BlockWeights, keep: Sequence[Tensor | None], relu: bool) -> Tensor:
    """Mix tokens along space and along channels, in each block after the other.

    Block l, on plane l mod P: tokens + keep · inflate(conv2(act(conv1(scale · flatten(standardised) + shift)))), and of what comes out
    tokens + keep · (act(standardised · linear1 + bias) · linear2 + bias).

    Args:
        tokens: (T, C).
        tables: P planes, over all scans.
        weights: Of L blocks.
        keep: 2 L times (T,) factors of the residual, those along space and along channels in turn; None: 1.
        relu: False for gelu.
    """
    return _MixBlocks.apply(tokens, tables, keep, relu, *weights)


def largest_answer(there: Tensor, here: Tensor, neighbours: Tensor, weight: Tensor) -> Tensor:
    """Compute `neighbour_max`: (T, D) from (T, C) twice, (T, K) and the weight (D, C)."""
    return _LargestAnswer.apply(there, here, neighbours, weight)


class _MixBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, tables: Sequence[CellTable], keep: Sequence[Any], relu: bool, *weights: Tensor) -> Tensor:
        x, arrays = _array(tokens), [*map(_array, weights)]
        channels, rows = x.shape[1], _rows(x)
        whole = np.ones(len(x), np.float32)
        factors = [whole if some is None else _array(some) for some in keep]
        columns = [_columns(table) for table in tables]
        memories = [_memory(channels, table.occupied + 1, table.halo + 1, table.occupied) for table in tables]
        saved = []
        for block in range(len(arrays[0])):
            plane, own = block % len(tables), [array[block] for array in arrays]
            mean, before = (np.empty((cells, channels), np.float32) for cells in (tables[plane].occupied, tables[plane].halo))
            between, after = np.empty_like(x), np.empty_like(x)
            space = factors[2 * block], relu, _EPS, mean, before, memories[plane]
            _run(space_forward, x, columns[plane], *own[:6], *space, between)
            _run(channels_forward, between, *own[6:], factors[2 * block + 1], relu, _EPS, rows, after)
            saved.append((x, mean, before, between))
            x = after
        ctx.saved = saved, tables, columns, arrays, factors, relu
        return torch.from_numpy(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved, tables, columns, arrays, factors, relu = ctx.saved
        gradient, parts = _array(gradients[0]).copy(), torch.get_num_threads()
        sums = [np.zeros((len(array), parts, *array.shape[1:]), np.float32) for array in arrays]
        channels, rows = gradient.shape[1], _rows(gradient)
        memories = [_memory(channels, *(2 * [table.halo + 1]), *(2 * [table.occupied + 1]), table.occupied) for table in tables]
        for block in reversed(range(len(saved))):
            x, mean, before, between = saved[block]
            plane = block % len(tables)
            scale, shift, conv1, _, conv2, _, linear1, bias1, linear2, _ = (array[block] for array in arrays)
            into = [part[block] for part in sums]
            channel = between, linear1, bias1, linear2, factors[2 * block + 1], relu, _EPS, rows
            _run(channels_backward, *channel, gradient, gradient, tuple(into[6:]))
            memories[plane][3][:] = 0
            space = x, columns[plane], scale, shift, conv1, conv2, factors[2 * block], relu, _EPS, rows, mean, before
            _run(space_backward, *space, gradient, memories[plane], gradient, tuple(into[:6]))
        return torch.from_numpy(gradient), None, None, None, *(torch.from_numpy(part.sum(1)) for part in sums)


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


def _added(parts: np.ndarray) -> Tensor:
    return torch.from_numpy(parts.sum(0) if len(parts) > 1 else parts[0])


def _columns(table: CellTable) -> tuple[np.ndarray, ...]:
    return table.cell, table.points_by_cell[0], table.bounds, table.inverse_count, table.reached, table.taps
