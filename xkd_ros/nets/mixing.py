"""The two halves of a WaffleIron block: points mixed along space on one plane, and along channels (METHODS 1.4, 1.5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xkd_ros.nets.compiled import BlockWeights
from xkd_ros.nets.layers import DropPath, make_activation, make_norm, normalise
from xkd_ros.nets.planes import Plane


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
        keep = self.drop_path.factors(scan, scans, tokens)
        assert self.conv2.bias is not None
        # The scale is applied to the kernels, the mean divided out in the cells: neither costs a pass over the points.
        kernels, bias = self.conv2.weight * self.scale.view(-1, 1, 1, 1), self.conv2.bias * self.scale
        residual = normalise(self.norm, tokens, real)
        if real is not None:
            residual = residual * real.unsqueeze(1)
        # Hundreds of points of one cell: a sum in bfloat16 would lose the late ones.
        residual = residual.to(torch.promote_types(residual.dtype, torch.float32))
        grid = residual.new_zeros(scans * height * width, tokens.shape[1]).index_add_(0, plane.cell, residual)
        grid = (grid * plane.share.to(grid.dtype)).view(scans, height, width, -1).permute(0, 3, 1, 2)  # (B, C, H, W) stored channels-last
        grid = self.activation(self.conv1(grid))
        grid = F.conv2d(grid, kernels, bias, padding=1, groups=len(kernels))
        grid = grid.permute(0, 2, 3, 1).reshape(scans * height * width, -1)  # (B*H*W, C)
        residual = grid.index_select(0, plane.cell)
        return tokens + (residual if keep is None else residual * keep.unsqueeze(1))


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
        keep = self.drop_path.factors(scan, scans, tokens)
        # One small product instead of a scale for every point.
        weight2, bias2 = self.linear2.weight * self.scale.unsqueeze(1), self.linear2.bias * self.scale
        residual = self.activation(self.linear1(normalise(self.norm, tokens, real)))
        residual = F.linear(residual, weight2, bias2)
        return tokens + (residual if keep is None else residual * keep.unsqueeze(1))


def stack_blocks(spatial: nn.ModuleList, channel: nn.ModuleList) -> BlockWeights:
    """Fold norms and scales of blocks with layer norm into the weights beside them, and stack the blocks; differentiable."""

    def stack(mixes: nn.ModuleList, name: str) -> Tensor:
        return torch.stack([mix.get_parameter(name) for mix in mixes])

    space_scale, scale = stack(spatial, "scale"), stack(channel, "scale")  # (L, C)
    linear1 = stack(channel, "linear1.weight")  # (L, out, in)
    bias1 = (linear1 @ stack(channel, "norm.bias").unsqueeze(2)).squeeze(2) + stack(channel, "linear1.bias")
    return BlockWeights(
        stack(spatial, "norm.weight"),
        stack(spatial, "norm.bias"),
        stack(spatial, "conv1.weight").flatten(2).transpose(1, 2),
        stack(spatial, "conv1.bias"),
        stack(spatial, "conv2.weight").flatten(2).transpose(1, 2) * space_scale.unsqueeze(1),
        stack(spatial, "conv2.bias") * space_scale,
        (linear1 * stack(channel, "norm.weight").unsqueeze(1)).transpose(1, 2),
        bias1,
        (stack(channel, "linear2.weight") * scale.unsqueeze(2)).transpose(1, 2),
        stack(channel, "linear2.bias") * scale,
    )
