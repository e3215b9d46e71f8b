"""The compiled kernels as differentiable operations: training on a CPU several times faster than layer by layer.

Same function as the plain modules of `mixing` and `neighbour_max`, which run everywhere else and are what these are tested against.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import util
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

_EPS = np.float32(1e-5)
"""Of torch's layer norm."""

if TYPE_CHECKING:
    from xkd_ros.points.cell_table import CellTable


def runs_compiled(x: Tensor) -> bool:
    """Whether kernels may stand in for torch: training in float32 on a CPU with numba."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or not torch.is_grad_enabled() or torch.compiler.is_exporting():
        return False
    return not torch.is_autocast_enabled("cpu") and _has_numba()


@contextmanager
def _kernels(channels: int) -> Iterator[tuple[int, int]]:
    """Rows per block and number of parts for a kernel that runs inside, on torch's number of threads."""
    from xkd_ros.kernels.compiler import ONE_CALLER, rows_per_block, use_threads

    threads = torch.get_num_threads()
    with ONE_CALLER:
        use_threads(threads)
        yield rows_per_block(channels), threads


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _factors(keep: Tensor | None, tokens: Tensor) -> np.ndarray:
    return np.ones(len(tokens), np.float32) if keep is None else _array(keep)


def _added(parts: np.ndarray) -> Tensor:
    return torch.from_numpy(parts.sum(0) if len(parts) > 1 else parts[0])


def _rows(table: CellTable) -> tuple[np.ndarray, ...]:
    order, starts = table.points_by_cell
    return table.cell, order, np.append(starts, len(order)), table.inverse_count, table.reached, table.taps


@cache
def _has_numba() -> bool:
    return util.find_spec("numba") is not None


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
        from xkd_ros.kernels.mixing import channels_forward

        arrays = [*map(_array, (tokens, weight1, bias1, weight2, bias2)), _factors(keep, tokens)]
        ctx.arrays, ctx.relu = arrays, relu
        with _kernels(tokens.shape[1]) as (rows, _):
            return torch.from_numpy(channels_forward(*arrays, relu, _EPS, rows))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from xkd_ros.kernels.mixing import channels_backward

        tokens, weight1, bias1, weight2, _, keep = ctx.arrays
        with _kernels(tokens.shape[1]) as (rows, parts):
            out, *sums = channels_backward(tokens, weight1, bias1, weight2, keep, ctx.relu, _EPS, rows, parts, _array(gradients[0]))
        return torch.from_numpy(out), *map(_added, sums), None, None


class _MixSpace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, *rest: Any) -> Tensor:
        from xkd_ros.kernels.mixing import space_forward

        *weights, keep, table, relu = rest
        arrays, factors = [*map(_array, weights)], _factors(keep, tokens)
        with _kernels(tokens.shape[1]) as (_, parts):
            out, mean, before = space_forward(_array(tokens), *_rows(table), *arrays, factors, relu, _EPS, parts)
        ctx.saved = _array(tokens), table, arrays, factors, relu, mean, before
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from xkd_ros.kernels.mixing import space_backward

        tokens, table, (scale, shift, conv1, _, conv2, _), keep, relu, mean, before = ctx.saved
        with _kernels(tokens.shape[1]) as (rows, parts):
            out, *sums = space_backward(
                tokens, *_rows(table), scale, shift, conv1, conv2, keep, relu, _EPS, rows, parts, mean, before, _array(gradients[0])
            )
        return torch.from_numpy(out), *map(_added, sums), None, None, None


class _LargestAnswer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, there: Tensor, here: Tensor, neighbours: Tensor, weight: Tensor) -> Tensor:
        from xkd_ros.kernels.neighbours import largest_forward

        arrays = [*map(_array, (there, here, neighbours))]
        with _kernels(weight.shape[1]) as (rows, _):
            best, winner = largest_forward(*arrays, _array(weight.T), rows)
        ctx.saved = *arrays, _array(weight), winner
        return torch.from_numpy(best)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from xkd_ros.kernels.neighbours import largest_backward

        with _kernels(ctx.saved[0].shape[1]) as (_, parts):
            there, here, weight = largest_backward(*ctx.saved, _array(gradients[0]), parts)
        return _added(there), torch.from_numpy(here), None, _added(weight)
