"""WaffleIron: points mixed along channels by small MLPs and along space by 2D convolutions on three planes.

In: points of one or several scans laid end to end, (T, C) with T the total number of points, so that no padding is needed.
Out: (T, C) tokens. Next: a head (`student.py`).

Source: Puy, Boulch, Marlet, "Using a Waffle Iron for Automotive Point Cloud Semantic Segmentation", ICCV 2023 (METHODS 1.3
to 1.5). Points-major layout and ragged batches are ours; the function is the same, tested against the public implementation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xkd_ros.core.errors import ModelError
from xkd_ros.nets.neighbour_max import neighbour_max

COUNT_EPS = 1e-6
"""Added to the number of points of a cell, as in the paper's code; keeps released weights bit-compatible."""
_NEIGHBOUR_BLOCK = 1024
"""Points per block of the neighbour embedding at inference: (1024, K, C) floats stay in a core's cache."""


@dataclass(frozen=True, eq=False)
class Plane:
    """How points fall into the cells of one plane, for a whole batch.

    Attributes:
        cell: (T,) int64 flat index into the (B, H, W) grid.
        share: (B * H * W, 1) one over the number of points in each cell.
        shape: (B, H, W).
    """

    cell: Tensor
    share: Tensor
    shape: tuple[int, int, int]


def make_planes(cells: Tensor, shapes: tuple[tuple[int, int, int], ...], occupied: Tensor | None = None) -> tuple[Plane, ...]:
    """Count the points of every cell once per forward, for all blocks.

    Args:
        cells: (P, T) int64.
        shapes: (B, H, W) of each plane.
        occupied: (T,) 1 for real points and 0 for padding; None when every point is real.
    """
    planes = []
    for cell, shape in zip(cells, shapes):
        # Counted in float32 whatever the autocast type: bf16 cannot count past 256.
        real = torch.ones(cell.shape, device=cell.device) if occupied is None else occupied.float()
        count = torch.zeros(shape[0] * shape[1] * shape[2], device=cell.device).index_add(0, cell, real)
        planes.append(Plane(cell, (1 / (count + COUNT_EPS)).unsqueeze(1), shape))
    return tuple(planes)


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch norm over (T, C) whose training statistics leave padding out."""

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """Normalise (T, C); `real` (T,) bool marks the points that count."""
        if not self.training or real is None:
            return super().forward(x)
        out = torch.zeros_like(x)
        out[real] = super().forward(x[real])
        return out

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


def _normalise(norm: nn.Module, x: Tensor, real: Tensor | None) -> Tensor:
    return norm(x, real) if isinstance(norm, MaskedBatchNorm) else norm(x)


def make_activation(kind: str) -> nn.Module:
    """Build "relu" or "gelu"."""
    return nn.GELU() if kind == "gelu" else nn.ReLU()


class DropPath(nn.Module):
    """Drop a residual branch for whole scans, rescaling the survivors (METHODS 1.5: constant over depth)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor, scan: Tensor | None, scans: int) -> Tensor:
        """Keep or drop (T, C) per scan; `scan` (T,) int64 names the scan of each point, None when there is one."""
        if not self.training or self.probability == 0.0:
            return x
        keep = 1 - self.probability
        factor = torch.rand(scans, device=x.device).lt(keep).to(x.dtype) / keep
        return x * (factor if scan is None else factor.index_select(0, scan).unsqueeze(1))


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
        x = self.norm(features, real)
        # The first layer is linear in the difference, so it is applied per point and subtracted, not per neighbour.
        weight, bias = self._fold_batch(x, neighbours, real) if self.training else self.folded()
        there = x @ weight.T  # (T, C)
        return self.merge(torch.cat([self.point(x), self._neighbours(there, there - bias, neighbours)], dim=1))

    def _fold_batch(self, x: Tensor, neighbours: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
        """Fold both batch norms by the statistics of this batch; see `folded`.

        What the second norm sees is linear in the differences, so its mean and variance follow from their covariance (F, F).
        """
        first, second = self.difference_norm, self.hidden_norm
        with torch.autocast(x.device.type, enabled=False):
            points = x.float()
            difference = (points[neighbours] - points.unsqueeze(1))[slice(None) if real is None else real].flatten(0, 1)  # (T*K, F)
            mean = difference.mean(0)
            centred = difference - mean
            covariance = centred.T @ centred / len(difference)  # (F, F)
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


class SpatialMix(nn.Module):
    """tokens + drop(scale · inflate(convolutions(flatten(norm(tokens)))))."""

    def __init__(self, channels: int, norm: str, activation: str, drop_path: float) -> None:
        super().__init__()
        self.norm = make_norm(norm, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.activation = make_activation(activation)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        # As their gradients come out; with other strides DDP copies and warns.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # LayerScale starts at U(-1, 1) in the paper's code (a depthwise 1x1 convolution's default), not small.
        self.scale = nn.Parameter(torch.empty(channels).uniform_(-1, 1))
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, plane: Plane, real: Tensor | None, scan: Tensor | None) -> Tensor:
        """Mix (T, C) tokens that share or neighbour a cell of one plane."""
        scans, height, width = plane.shape
        residual = _normalise(self.norm, tokens, real)
        if real is not None:
            residual = residual * real.unsqueeze(1)
        # The mean is divided out in the cells and the scale is applied to the kernels: neither costs a pass over the points.
        grid = residual.new_zeros(scans * height * width, tokens.shape[1]).index_add_(0, plane.cell, residual)
        grid = (grid * plane.share.to(grid.dtype)).view(scans, height, width, -1).permute(0, 3, 1, 2)  # (B, C, H, W) stored channels-last
        grid = self.activation(self.conv1(grid))
        assert self.conv2.bias is not None
        kernels = self.conv2.weight * self.scale.view(-1, 1, 1, 1)
        grid = F.conv2d(grid, kernels, self.conv2.bias * self.scale, padding=1, groups=len(kernels))
        grid = grid.permute(0, 2, 3, 1).reshape(scans * height * width, -1)  # (B*H*W, C)
        return tokens + self.drop_path(grid.index_select(0, plane.cell), scan, scans)


class ChannelMix(nn.Module):
    """tokens + drop(scale · MLP(norm(tokens)))."""

    def __init__(self, channels: int, norm: str, activation: str, drop_path: float) -> None:
        super().__init__()
        self.norm = make_norm(norm, channels)
        self.linear1 = nn.Linear(channels, channels)
        self.activation = make_activation(activation)
        self.linear2 = nn.Linear(channels, channels)
        self.scale = nn.Parameter(torch.empty(channels).uniform_(-1, 1))
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, real: Tensor | None, scan: Tensor | None, scans: int) -> Tensor:
        """Mix the channels of each of the (T, C) tokens."""
        residual = _normalise(self.norm, tokens, real)
        residual = self.activation(self.linear1(residual))
        # One small product instead of a scale for every point.
        residual = F.linear(residual, self.linear2.weight * self.scale.unsqueeze(1), self.linear2.bias * self.scale)
        return tokens + self.drop_path(residual, scan, scans)


class WaffleIron(nn.Module):
    """Embedding and `depth` blocks; block l works on plane l mod 3: (x, y), (x, z), (y, z).

    With `checkpointing`, training keeps only the tokens between blocks and computes the inside of a block again on the way back:
    a third more time for a small part of the memory.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        norm: str = "layer",
        activation: str = "relu",
        channels_in: int = 5,
        drop_path: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if checkpointing and norm == "batch":
            raise ModelError("gradient checkpointing would count every batch twice in the batch norm of the blocks; use norm: layer")
        self.checkpointing = checkpointing
        self.embedding = Embedding(channels_in, width)
        self.spatial = nn.ModuleList(SpatialMix(width, norm, activation, drop_path) for _ in range(depth))
        self.channel = nn.ModuleList(ChannelMix(width, norm, activation, drop_path) for _ in range(depth))

    def forward(
        self,
        features: Tensor,
        neighbours: Tensor,
        planes: tuple[Plane, ...],
        occupied: Tensor | None = None,
        scan: Tensor | None = None,
    ) -> Tensor:
        """Compute tokens.

        Args:
            features: (T, F) float32.
            neighbours: (T, K) int64 into T.
            planes: From `make_planes`.
            occupied: (T,) 1 for real points, 0 for padding; None when all are real.
            scan: (T,) int64 scan of each point; None for a single scan.
        Returns:
            (T, C) tokens.
        """
        real = None if occupied is None else occupied.bool()
        tokens = self.embedding(features, neighbours, real)
        for index in range(len(self.spatial)):
            plane = planes[index % len(planes)]
            if self.checkpointing and self.training and torch.is_grad_enabled():
                tokens = checkpoint(self._block, index, tokens, plane, real, scan, use_reentrant=False)
            else:
                tokens = self._block(index, tokens, plane, real, scan)
        return tokens

    def _block(self, index: int, tokens: Tensor, plane: Plane, real: Tensor | None, scan: Tensor | None) -> Tensor:
        tokens = self.spatial[index](tokens, plane, real, scan)
        return self.channel[index](tokens, real, scan, plane.shape[0])
