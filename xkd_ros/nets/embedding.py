"""Point features and the differences to the nearest neighbours → tokens: the first layers of a WaffleIron (METHODS 1.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xkd_ros.nets.layers import MaskedBatchNorm
from xkd_ros.nets.neighbour_max import neighbour_max

_NEIGHBOUR_BLOCK = 1024
"""Points per block of the neighbour embedding at inference: (1024, K, C) floats stay in a core's cache."""


class Embedding(nn.Module):
    """Point features and the differences to the nearest neighbours → tokens (METHODS 1.3)."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.norm = MaskedBatchNorm(channels_in)
        self.point = nn.Linear(channels_in, channels)
        self.difference_norm = MaskedBatchNorm(channels_in)
        self.difference = nn.Linear(channels_in, channels, bias=False)
        self.hidden_norm = MaskedBatchNorm(channels)
        self.neighbour = nn.Linear(channels, channels, bias=False)
        self.merge = nn.Linear(2 * channels, channels)

    def forward(self, features: Tensor, neighbours: Tensor, real: Tensor | None = None) -> Tensor:
        """Embed (T, F) features with (T, K) neighbour indices into (T, C)."""
        # A difference between neighbours is a fiftieth of what is subtracted: bfloat16 would leave little of it.
        with torch.autocast(features.device.type, enabled=False):
            if self.training:
                standard = self.norm.standardise(features, real)
                x = standard * self.norm.weight + self.norm.bias
                weight, bias = self._fold_batch(standard, neighbours, real)
            else:
                x, (weight, bias) = self.norm(features, real), self.folded()
            # The first layer is linear in the difference, so it is applied per point and subtracted, not per neighbour.
            there = x.to(weight.dtype) @ weight.T  # (T, C)
        of_point, of_neighbours = self.merge.weight.chunk(2, dim=1)
        # Two linear layers in a row are one, of 5 inputs instead of C.
        own = F.linear(x, of_point @ self.point.weight, of_point @ self.point.bias + self.merge.bias)
        return own + F.linear(self._neighbours(there, there - bias, neighbours), of_neighbours)

    def _fold_batch(self, standard: Tensor, neighbours: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
        """Fold both batch norms by the statistics of this batch; see `folded`.

        What the second norm sees is linear in the differences, so its mean and variance follow from their covariance (F, F). That of
        the standardised features depends on no weight, so that nothing of the size (T, K) is kept for the way back.
        """
        first, second = self.difference_norm, self.hidden_norm
        with torch.set_grad_enabled(standard.requires_grad):
            points = standard.float()
            difference = (points[neighbours] - points.unsqueeze(1))[slice(None) if real is None else real].flatten(0, 1)  # (T*K, F)
            mean = difference.mean(0)
            centred = difference - mean
            covariance = centred.T @ centred / len(difference)  # (F, F)
        mean, covariance = self.norm.weight * mean, self.norm.weight.outer(self.norm.weight) * covariance
        variance = covariance.diagonal()
        weight = self.difference.weight * (first.weight * torch.rsqrt(variance + first.eps))  # (C, F)
        hidden_variance = ((weight @ covariance) * weight).sum(1)
        shift = self.difference.weight @ first.bias
        first.follow(mean, variance, len(difference))
        second.follow(shift, hidden_variance, len(difference))
        weight = (second.weight * torch.rsqrt(hidden_variance + second.eps)).unsqueeze(1) * weight
        # The second norm takes away what the first one's bias adds; its gradient is zero, not absent, as DDP wants it.
        return weight, second.bias - weight @ mean + (shift - shift)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Fold both batch norms around the first linear layer: (C, F) weight on differences and (C,) bias (METHODS 1.8)."""
        first, second = self.difference_norm, self.hidden_norm
        first_scale, first_bias = first.scale_and_shift()
        second_scale, second_bias = second.scale_and_shift()
        weight = second_scale.unsqueeze(1) * self.difference.weight * first_scale
        return weight, second_scale * (self.difference.weight @ first_bias) + second_bias

    def _neighbours(self, there: Tensor, here: Tensor, neighbours: Tensor) -> Tensor:
        if torch.is_grad_enabled() and not torch.compiler.is_exporting():
            return neighbour_max(there, here, neighbours, self.neighbour.weight)
        if there.is_cuda or torch.compiler.is_exporting():
            return self.neighbour(F.relu(there[neighbours] - here.unsqueeze(1))).amax(1)
        blocks = []
        for start in range(0, len(there), _NEIGHBOUR_BLOCK):
            stop = start + _NEIGHBOUR_BLOCK
            index = neighbours[start:stop]  # (n, K)
            hidden = there.index_select(0, index.flatten()).unflatten(0, index.shape)  # (n, K, C)
            hidden = hidden.sub_(here[start:stop].unsqueeze(1)).relu_()
            blocks.append(self.neighbour(hidden).amax(1))
        return torch.cat(blocks) if blocks else there
