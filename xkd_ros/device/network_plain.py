"""The steps of the network that are no matrix products, in plain torch: for devices without Triton, and what its kernels must equal.

In: tensors on one device, tables of `plane_table`. Shapes depend on shapes alone, and nothing waits for the device.
Letters: N points, K neighbours, F features, C channels, E occupied and D halo cells, all of them capacities. Next: `device.student`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xkd_ros.device.plane_table import PlaneTable

_NEIGHBOUR_BLOCK = 4096
"""Points whose (points, K, C) hidden values are held at once."""


def neighbour_max(features: Tensor, neighbours: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor) -> Tensor:
    """Compute the neighbour branch of the embedding: max over neighbours of relu(difference @ weight1 + bias1) @ weight2.

    Args:
        features: (N, F) float32.
        neighbours: (N, K) int32 into N.
        weight1: (F, C) float32, with bias1 (C,).
        weight2: (C, C) as (in, out), in the type of the products.
    Returns:
        (N, C) in the type of weight2.
    """
    blocks = []
    for start in range(0, len(features), _NEIGHBOUR_BLOCK):
        index = neighbours[start : start + _NEIGHBOUR_BLOCK]
        there = features.index_select(0, index.flatten()).unflatten(0, index.shape)  # (n, K, F)
        # Differences first: half the digits of a product of far points would cancel.
        difference = there - features[start : start + _NEIGHBOUR_BLOCK].unsqueeze(1)
        hidden = F.relu(difference @ weight1 + bias1).to(weight2.dtype)  # (n, K, C)
        blocks.append((hidden @ weight2).amax(1))
    return torch.cat(blocks)


def flatten(
    tokens: Tensor, branch: Tensor, table: PlaneTable, scale: Tensor, shift: Tensor, layer_norm: bool, eps: float, dtype: torch.dtype
) -> Tensor:
    """Average the normalised tokens of each occupied cell. On CUDA the order of the sum, and so its last digits, may change.

    Args:
        tokens: (N, C) float32.
        branch: (N, C), what is to be added to them first.
        table: Of the plane.
        scale: (C,) float32 of the norm, with shift (C,).
        layer_norm: Standardise each token first; else scale and shift are all (batch norm).
        eps: Added to the variance.
        dtype: Of the result.
    Returns:
        (E, C); anything in unused rows.
    """
    token = tokens + branch
    if layer_norm:
        token = F.layer_norm(token, token.shape[1:], eps=eps)
    total = token.new_zeros(len(table.inverse_count) + 1, token.shape[1]).index_add_(0, table.cell, token)
    return (total[:-1] * table.inverse_count.unsqueeze(1) * scale + shift).to(dtype)


def convolve(source: Tensor, table: Tensor, kernel: Tensor, bias: Tensor, activation: str) -> Tensor:
    """Convolve depthwise, 3x3, from listed cells to listed cells.

    Args:
        source: (S, C).
        table: (R, 9) int32 row of `source` at each tap; S stands for a row of zeros.
        kernel: (9, C) float32, with bias (C,).
        activation: "relu", "gelu" or "none", applied to the result.
    Returns:
        (R, C) in the type of `source`; anything in rows where no tap sees a row.
    """
    padded = F.pad(source, (0, 0, 0, 1))
    out = bias.expand(len(table), -1)
    for tap in range(table.shape[1]):
        out = torch.addcmul(out, padded.index_select(0, table[:, tap]).float(), kernel[tap])
    return activate(out, activation).to(source.dtype)


def inflate(
    tokens: Tensor,
    branch: Tensor,
    mixed: Tensor,
    cell: Tensor,
    scale: Tensor,
    shift: Tensor,
    layer_norm: bool,
    eps: float,
) -> Tensor:
    """Add to each token, in place, what it still lacks and the value of its cell, and normalise it for the linear layers.

    Args:
        tokens: (N, C) float32; changed.
        branch: (N, C).
        mixed: (E, C).
        cell: (N,) int32 row of `mixed`; E adds nothing.
        scale: (C,) float32 of the norm, with shift (C,).
        layer_norm: Standardise each token first; else scale and shift are all (batch norm).
        eps: Added to the variance.
    Returns:
        (N, C) in the type of `branch`.
    """
    tokens.add_(branch).add_(F.pad(mixed, (0, 0, 0, 1)).index_select(0, cell))
    normalised = F.layer_norm(tokens, tokens.shape[1:], eps=eps) if layer_norm else tokens
    return torch.addcmul(shift, normalised, scale).to(branch.dtype)


def activate(x: Tensor, activation: str) -> Tensor:
    """Apply "relu", "gelu" or "none"."""
    if activation == "none":
        return x
    return F.gelu(x) if activation == "gelu" else F.relu(x)
