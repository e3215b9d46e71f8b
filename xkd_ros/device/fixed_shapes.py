"""What lets a program without data-dependent shapes choose and group: everything has room for the most there can be.

A number goes into a tensor by `fill_` and the like: `tensor[0] = number` is a copy from the host, which a CUDA graph cannot hold
(pytorch pull request 188267 tells, and mends it for later versions).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=256)
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return (V,) numbers on a device, copied there once: a CUDA graph must not copy from the host's ordinary memory."""
    return torch.tensor(values, dtype=dtype, device=device)


def compact(values: Tensor, keep: Tensor, room: int, fill: int = 0) -> tuple[Tensor, Tensor]:
    """Move the values to keep to the front, in their order.

    Args:
        values: (M,) integers.
        keep: (M,) bool.
        room: R, rows of the result; what does not fit is left out.
        fill: Value of the rows that stay free.
    Returns:
        (R,) values and () int64, how many there were to keep, which may be more than R.
    """
    rank = keep.cumsum(0)
    slot = torch.where(keep, rank - 1, room).clamp_(max=room)
    out = values.new_full((room + 1,), fill)
    return out.scatter_(0, slot, values)[:room], rank[-1]


def count_in(group: Tensor, groups: int) -> Tensor:
    """Count the members of each group.

    Args:
        group: (M,) int64, 0 to G; G is for what belongs nowhere.
        groups: G.
    Returns:
        (G,) int64.
    """
    ones = torch.ones((), dtype=torch.int64, device=group.device).expand(len(group))
    return torch.zeros(groups + 1, dtype=torch.int64, device=group.device).scatter_add_(0, group, ones)[:groups]


def begin_of(counts: Tensor) -> Tensor:
    """Turn (G,) counts into (G + 1,) int32: group g stands from row g to row g + 1 of what is sorted by group."""
    return torch.nn.functional.pad(counts.cumsum(0), (1, 0)).to(torch.int32)


def of_largest(values: Tensor, scores: Tensor) -> Tensor:
    """Return () the first of (A,) values whose score is the largest; `argmax` may return any of them."""
    place = torch.arange(len(scores), device=scores.device)
    first = torch.where(scores == scores.max(), place, len(scores)).amin(0, keepdim=True)
    # A number as index would be fetched from the device.
    return values.index_select(0, first).squeeze(0)
