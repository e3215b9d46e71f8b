"""The student for the robot's CPU: constants multiplied together once, spatial mixing on occupied cells alone.

In: one preprocessed scan. Out: logits. The function is `Student.forward` in evaluation mode up to float rounding; the weights
that `fold` returns are also what `export` writes into ONNX graphs. Next room: `runtime`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xkd_ros.core.types import NetInput
from xkd_ros.nets.student import Student
from xkd_ros.nets.waffleiron import ChannelMix, SpatialMix
from xkd_ros.points.cell_table import TAPS, CellTable, make_cell_tables

NORM_EPS = 1e-5
"""Of torch's LayerNorm, which the blocks use with its defaults."""


@dataclass(frozen=True, eq=False)
class FoldedBlock:
    """Weights of one block (C channels).

    Attributes:
        cell_scale, cell_shift: (C,) applied to the mean of the normalised tokens of each occupied cell.
        conv1, conv2: (9, C) taps of the depthwise convolutions and conv1_bias, conv2_bias (C,); LayerScale is in the second.
        linear1, linear2: (C, C) as (out, in), with linear1_bias, linear2_bias (C,); the norm's affine part is in the first,
            LayerScale in the second.
    """

    cell_scale: Tensor
    cell_shift: Tensor
    conv1: Tensor
    conv1_bias: Tensor
    conv2: Tensor
    conv2_bias: Tensor
    linear1: Tensor
    linear1_bias: Tensor
    linear2: Tensor
    linear2_bias: Tensor


@dataclass(frozen=True, eq=False)
class FoldedWeights:
    """All weights of an evaluation-mode student.

    Attributes:
        neighbour1: (C, F) and neighbour1_bias (C,): first layer of the neighbour branch, on differences of raw features.
        neighbour2: (C, C) second layer of the neighbour branch.
        point: (C, F) and point_bias (C,): the point branch through the merging layer.
        merge: (C, C) the part of the merging layer that reads the neighbour branch.
        blocks: One per depth.
        head: (classes, C) and head_bias (classes,).
        layer_norm: True when blocks normalise each token; False when that is folded away (batch norm).
        activation: "relu" or "gelu", in the blocks; the neighbour branch always has relu.
        norm_eps: Added to the variance by the layer norm.
    """

    neighbour1: Tensor
    neighbour1_bias: Tensor
    neighbour2: Tensor
    point: Tensor
    point_bias: Tensor
    merge: Tensor
    blocks: tuple[FoldedBlock, ...]
    head: Tensor
    head_bias: Tensor
    layer_norm: bool
    activation: str
    norm_eps: float


@torch.no_grad()
def fold(student: Student) -> FoldedWeights:
    """Multiply together what is constant at inference (METHODS 1.8, and layer norm's affine part).

    Args:
        student: In any mode; evaluation mode is what is folded.
    """
    embedding = student.backbone.embedding
    # The first norm cancels in the differences but for its scale.
    scale, shift = _affine(embedding.norm)
    difference, difference_bias = embedding.folded()
    width = student.network.width
    merge_point, merge_near = embedding.merge.weight[:, :width], embedding.merge.weight[:, width:]
    blocks = []
    for spatial, channel in zip(student.backbone.spatial, student.backbone.channel):
        assert isinstance(spatial, SpatialMix) and isinstance(channel, ChannelMix)
        cell_scale, cell_shift = _affine(spatial.norm)
        token_scale, token_shift = _affine(channel.norm)
        blocks.append(
            FoldedBlock(
                cell_scale=cell_scale,
                cell_shift=cell_shift,
                conv1=spatial.conv1.weight.flatten(1).T.contiguous(),
                conv1_bias=_bias(spatial.conv1).clone(),
                conv2=(spatial.conv2.weight.flatten(1) * spatial.scale[:, None]).T.contiguous(),
                conv2_bias=_bias(spatial.conv2) * spatial.scale,
                linear1=channel.linear1.weight * token_scale,
                linear1_bias=channel.linear1.weight @ token_shift + channel.linear1.bias,
                linear2=channel.linear2.weight * channel.scale[:, None],
                linear2_bias=channel.linear2.bias * channel.scale,
            )
        )
    return FoldedWeights(
        neighbour1=difference * scale,
        neighbour1_bias=difference_bias,
        neighbour2=embedding.neighbour.weight.detach().clone(),
        point=merge_point @ (embedding.point.weight * scale),
        point_bias=merge_point @ (embedding.point.weight @ shift + embedding.point.bias) + embedding.merge.bias,
        merge=merge_near.contiguous(),
        blocks=tuple(blocks),
        head=student.head.weight.detach().clone(),
        head_bias=student.head.bias.detach().clone(),
        layer_norm=student.network.norm == "layer",
        activation=student.network.activation,
        norm_eps=NORM_EPS,
    )


def _bias(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias.detach()


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,) that a norm applies in evaluation mode, after standardising in the case of a layer norm."""
    if isinstance(norm, nn.LayerNorm):
        return norm.weight.detach().clone(), norm.bias.detach().clone()
    assert isinstance(norm, nn.BatchNorm1d) and norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - scale * norm.running_mean


class _Table:
    """The tensors of one plane that the blocks read."""

    def __init__(self, table: CellTable) -> None:
        self.occupied, self.halo = table.occupied, table.halo
        self.cell = torch.from_numpy(table.cell)
        self.inverse_count = torch.from_numpy(table.inverse_count).unsqueeze(1)
        self.points, self.starts = map(torch.from_numpy, table.points_by_cell)
        self.taps = torch.from_numpy(table.taps.reshape(-1))
        self.tap_order, self.tap_starts = map(torch.from_numpy, table.taps_by_halo)


class _Workspace:
    """Memory that stays: fresh megabytes cost page faults, which take longer than the arithmetic."""

    def __init__(self) -> None:
        self._blocks: dict[str, Tensor] = {}

    def take(self, name: str, rows: int, columns: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return an uninitialised (rows, columns) tensor, the same memory for the same name; a name keeps its dtype."""
        block = self._blocks.get(name)
        if block is None or block.numel() < rows * columns:
            block = torch.empty(rows * columns * 5 // 4, dtype=dtype)
            self._blocks[name] = block
        return block[: rows * columns].view(rows, columns)


class FoldedStudent:
    """Evaluate a student on the CPU, several times faster than its layers one by one. Not for several threads at once."""

    def __init__(self, student: Student, dtype: torch.dtype = torch.float32) -> None:
        """Fold the weights.

        Args:
            student: Trained network.
            dtype: Of the matrix products: float32, or bfloat16 where the CPU multiplies it faster. All else stays float32.
        """
        self.weights = weights = fold(student)
        self.dtype = dtype
        self._workspace = _Workspace()
        self._relu = weights.activation != "gelu"
        self._spread = [block.conv1.flip(0) for block in weights.blocks]
        self._neighbour2 = weights.neighbour2.T.contiguous().to(dtype)
        self._linear1 = [block.linear1.T.contiguous().to(dtype) for block in weights.blocks]
        self._linear1_bias = [block.linear1_bias.to(dtype) for block in weights.blocks]
        self._linear2 = [block.linear2.T.contiguous().to(dtype) for block in weights.blocks]

    @torch.inference_mode()
    def __call__(self, net_input: NetInput) -> Tensor:
        """Compute (N, classes) float32 logits of one scan."""
        features = torch.from_numpy(net_input.features)
        if not len(features):
            return torch.empty(0, len(self.weights.head))
        tables = [_Table(table) for table in make_cell_tables(net_input)]
        tokens = self._embed(features, torch.from_numpy(net_input.neighbours))
        for index, block in enumerate(self.weights.blocks):
            self._mix_space(tokens, tables[index % len(tables)], block, self._spread[index])
            self._mix_channels(tokens, index)
        return F.linear(tokens, self.weights.head, self.weights.head_bias)

    def _embed(self, features: Tensor, neighbours: Tensor) -> Tensor:
        """Embed (N, F) features with (N, K) neighbours into (N, C) tokens."""
        weights, dtype = self.weights, self.dtype
        size = (len(features), len(weights.merge))
        take = self._workspace.take
        # The first layer is linear in the difference, so it is applied per point and subtracted, not per neighbour.
        there = torch.mm(features, weights.neighbour1.T, out=take("tokens", *size))  # (N, C)
        here = torch.sub(there, weights.neighbour1_bias, out=take("spare", *size))
        hidden = take("normalised", *size)
        best, product = take("best", *size, dtype), take("hidden", *size, dtype)
        narrow = hidden if dtype == torch.float32 else take("narrow", *size, dtype)
        for number, index in enumerate(neighbours.T.contiguous()):  # one neighbour of every point at a time: stays in cache
            torch.index_select(there, 0, index, out=hidden).sub_(here).relu_()
            if narrow is not hidden:
                narrow.copy_(hidden)
            if number == 0:
                torch.mm(narrow, self._neighbour2, out=best)
            else:
                torch.maximum(best, torch.mm(narrow, self._neighbour2, out=product), out=best)
        tokens = torch.addmm(weights.point_bias, features, weights.point.T, out=there)
        return tokens.addmm_(best.float(), weights.merge.T)

    def _normalise(self, tokens: Tensor) -> Tensor:
        """Standardise each of the (N, C) tokens; batch norm is folded away already."""
        if not self.weights.layer_norm:
            return tokens
        channels = tokens.shape[1]
        out = torch.sub(tokens, tokens.mean(1, keepdim=True), out=self._workspace.take("normalised", *tokens.shape))
        spread = torch.linalg.vector_norm(out, dim=1, keepdim=True)
        return out.mul_(spread.square_().div_(channels).add_(self.weights.norm_eps).rsqrt_())

    def _mix_space(self, tokens: Tensor, table: _Table, block: FoldedBlock, spread: Tensor) -> None:
        """Flatten, two depthwise convolutions, inflate; adds to (N, C) `tokens` in place."""
        count, channels = tokens.shape
        take = self._workspace.take
        cells = F.embedding_bag(table.points, self._normalise(tokens), table.starts, mode="sum")  # (E, C)
        cells.mul_(table.inverse_count).mul_(block.cell_scale).add_(block.cell_shift)
        # A cell reaches its neighbour at an offset with the weight of the opposite tap.
        taps = take("taps", table.occupied * TAPS, channels)
        torch.mul(cells.unsqueeze(1), spread, out=taps.view(table.occupied, TAPS, channels))
        halo = F.embedding_bag(table.tap_order, taps, table.tap_starts, mode="sum").add_(block.conv1_bias)  # (D, C)
        outside = take("halo", table.halo + 1, channels)
        outside[table.halo] = 0.0  # what lies outside the grid is zero, not activation(bias)
        if self._relu:
            torch.clamp_min(halo, 0.0, out=outside[: table.halo])
        else:
            outside[: table.halo] = F.gelu(halo)
        torch.index_select(outside, 0, table.taps, out=taps)
        torch.sum(taps.view(table.occupied, TAPS, channels).mul_(block.conv2), 1, out=cells)
        cells.add_(block.conv2_bias)
        tokens.add_(torch.index_select(cells, 0, table.cell, out=take("spare", count, channels)))

    def _mix_channels(self, tokens: Tensor, index: int) -> None:
        """Two linear layers on each token; adds to (N, C) `tokens` in place."""
        count, channels = tokens.shape
        take = self._workspace.take
        normalised = self._normalise(tokens)
        if self.dtype != torch.float32:
            normalised = take("narrow", count, channels, self.dtype).copy_(normalised)
        hidden = take("hidden", count, channels, self.dtype)
        torch.addmm(self._linear1_bias[index], normalised, self._linear1[index], out=hidden)
        hidden = hidden.relu_() if self._relu else F.gelu(hidden)
        if self.dtype == torch.float32:
            tokens.addmm_(hidden, self._linear2[index])
        else:
            tokens.add_(torch.mm(hidden, self._linear2[index], out=take("narrow", count, channels, self.dtype)))
        tokens.add_(self.weights.blocks[index].linear2_bias)
