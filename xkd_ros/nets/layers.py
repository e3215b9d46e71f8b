"""Small layers that several networks share: norms that know padding, activations, drop path."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch norm over (T, C) whose training statistics leave padding out."""

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """Normalise (T, C); `real` (T,) bool marks the points that count."""
        if not self.training or real is None:
            return super().forward(x)
        out = torch.zeros_like(x)
        out[real] = super().forward(x[real])
        return out

    def standardise(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """Do what training does to (T, C), all but scale and shift: what comes out depends on no weight."""
        if real is not None:
            out = torch.zeros_like(x)
            out[real] = self.standardise(x[real])
            return out
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked += 1
        return F.batch_norm(x, self.running_mean, self.running_var, None, None, True, self.momentum, self.eps)

    @torch.no_grad()
    def follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Let the statistics follow a batch of `count` rows with this mean and variance, as torch does."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean.detach(), self.momentum)
        self.running_var.lerp_(variance.detach() * (count / max(count - 1, 1)), self.momentum)
        self.num_batches_tracked += 1

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Return scale and shift (C,) that evaluation mode applies."""
        assert self.running_var is not None and self.running_mean is not None
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - scale * self.running_mean


def make_norm(kind: str, channels: int) -> nn.Module:
    """Build "layer" or "batch" normalisation over the channels of (T, C)."""
    return MaskedBatchNorm(channels) if kind == "batch" else nn.LayerNorm(channels)


def normalise(norm: nn.Module, x: Tensor, real: Tensor | None) -> Tensor:
    """Normalise (T, C); `real` (T,) bool marks the points that a batch norm counts."""
    return norm(x, real) if isinstance(norm, MaskedBatchNorm) else norm(x)


def make_activation(kind: str) -> nn.Module:
    """Build "relu" or "gelu"."""
    return nn.GELU() if kind == "gelu" else nn.ReLU()


class DropPath(nn.Module):
    """Drop a residual branch for whole scans, rescaling the survivors (METHODS 1.5: constant over depth)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def factors(self, scan: Tensor | None, scans: int, like: Tensor) -> Tensor | None:
        """Draw what multiplies the branch at each of the (T, C) points of `like`.

        Args:
            scan: (T,) int64 scan of each point; None when there is one.
            scans: Their number.
            like: Gives T, dtype and device.
        Returns:
            (T,); None when nothing is dropped.
        """
        if not self.training or self.probability == 0.0:
            return None
        keep = 1 - self.probability
        factor = torch.rand(scans, device=like.device).lt(keep).to(like.dtype) / keep
        return factor.expand(len(like)) if scan is None else factor.index_select(0, scan)
