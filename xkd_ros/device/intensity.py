"""Intensity of any sensor, brought to mean 0 and spread 1 as `points.intensity` does it, with fixed shapes."""

from __future__ import annotations

import torch
from torch import Tensor

from xkd_ros.core.card import IntensityConfig
from xkd_ros.device.fixed_shapes import constant
from xkd_ros.points.intensity import BIN_SHIFT, BINS, FLAT, HIGH_QUANTILE, LOW_QUANTILE, WIDE_RANGE

_UNKNOWN = IntensityConfig()


def statistics_row(config: IntensityConfig) -> tuple[float, ...]:
    """Lay the statistics of a sensor out as numbers: low, high, mean, spread, 1 for a logarithm, 1 for each scan's own instead."""
    return config.low, config.high, config.mean, config.std, float(config.log1p), float(config.per_scan)


def fit(values: Tensor, usable: Tensor) -> Tensor:
    """Learn the normalisation from one scan.

    Args:
        values: (N,) float32 raw intensities; NaN, infinite and negative values are left out.
        usable: (N,) bool.
    Returns:
        (6,) float64 as `statistics_row` lays them out; same as `points.intensity.fit`.
    """
    usable = usable & (values >= 0)
    raw = torch.where(usable, values, torch.nan) + 0.0  # -0 becomes +0
    bin_of = torch.where(usable, raw.view(torch.int32) >> BIN_SHIFT, BINS).clamp_(max=BINS).to(torch.int64)
    empty = torch.zeros(BINS + 1, dtype=torch.float64, device=values.device)
    count = empty.scatter_add(0, bin_of, usable.double())[:BINS]
    total = empty.scatter_add(0, bin_of, torch.where(bin_of < BINS, raw, 0.0).double())[:BINS]
    number = count.sum()
    centre, weight = total / count.clamp(min=1.0), count / number.clamp(min=1.0)
    shares = constant((LOW_QUANTILE, HIGH_QUANTILE), torch.float64, values.device)
    last = torch.where(count > 0, torch.arange(BINS, device=values.device), 0).max()
    low, high = centre[torch.searchsorted(weight.cumsum(0), shares - 1e-12).clamp(max=last)]
    wide = high > WIDE_RANGE
    clipped = centre.clamp(low, high)
    clipped = torch.where(wide, clipped.log1p(), clipped)
    mean = (weight * clipped).sum()
    spread = (weight * (clipped - mean) ** 2).sum().sqrt()
    spread = torch.where(spread <= FLAT * mean.abs().clamp(min=FLAT), 1.0, spread)
    found = torch.stack([low, high, mean, spread, wide.double(), torch.zeros_like(mean)])
    return torch.where(number > 0, found, constant(statistics_row(_UNKNOWN), found.dtype, found.device))


def normalise(values: Tensor, usable: Tensor, statistics: Tensor) -> Tensor:
    """Clip, take the logarithm where the statistics say so, and standardise.

    Args:
        values: (N,) float32 raw intensities.
        usable: (N,) bool, from which a scan's own statistics are taken.
        statistics: (6,) as `statistics_row` lays them out.
    Returns:
        (N,) float32; 0 where the intensity is not a number.
    """
    low, high, mean, spread, log1p, _ = torch.where(statistics[5] > 0, fit(values, usable), statistics)
    scaled = values.clamp(low.float(), high.float())
    scaled = torch.where(log1p > 0, scaled.clamp(min=0.0).log1p(), scaled)
    return ((scaled - mean.float()) * (1 / spread).float()).nan_to_num(0.0, 0.0, 0.0)
