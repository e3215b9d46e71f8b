"""The student for one device: the function of `nets.student` in evaluation mode, with shapes that do not depend on the scan.

In: features and neighbours of N points (a capacity; unused rows are padding) and a `PlaneTable` per plane. Out: (N, classes) logits.
Nothing asks the device for a value, so that a CUDA graph can hold the whole forward pass. Next room: `pipeline`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from xkd_ros.core.errors import require
from xkd_ros.device import network_plain
from xkd_ros.device.plane_table import PlaneTable, PlaneTables
from xkd_ros.kernels.folding import fold
from xkd_ros.nets.layers import MaskedBatchNorm
from xkd_ros.nets.mixing import ChannelMix
from xkd_ros.nets.student import Student

_INSTALL = "pip install triton (CUDA builds of torch bring it), or choose kernels=False"


@dataclass(frozen=True, eq=False)
class _Block:
    """Weights of one block: vectors and taps float32, matrices as (in, out) in the type of the products."""

    cell_scale: Tensor
    cell_shift: Tensor
    conv1: Tensor
    conv1_bias: Tensor
    conv2: Tensor
    conv2_bias: Tensor
    token_scale: Tensor
    token_shift: Tensor
    linear1: Tensor
    linear1_bias: Tensor
    linear2: Tensor
    linear2_bias: Tensor


class DeviceStudent:
    """A copy of a student's weights, folded, on one device.

    Tokens stay float32 from block to block; matrix products and what is stored between steps have the type that was asked for, and
    everything is summed in float32. The head is float32 throughout.

    Rows of padding points may hold anything. No other row reads them: neighbours of real points are real, padding points stand in
    no cell, and every other step works row by row.

    Attributes:
        device: Where it is.
    """

    def __init__(self, student: Student, dtype: torch.dtype, device: torch.device | str, kernels: bool) -> None:
        """Fold and copy the weights.

        Args:
            student: Any sizes.
            dtype: float32, bfloat16 or float16.
            device: Where inputs will lie. Kernels need it to be the current CUDA device.
            kernels: Run the Triton kernels; else plain torch.
        Raises:
            MissingPackageError: kernels are wanted and Triton is not installed.
        """
        self._steps = _steps(kernels)
        self.device, self._dtype = torch.device(device), dtype
        weights = fold(student.arrays(), student.network)
        self._layer_norm, self._activation, self._eps = weights.layer_norm, weights.activation, weights.norm_eps
        self._neighbour = (self._put(weights.neighbour1.T), self._put(weights.neighbour1_bias), self._put(weights.neighbour2.T, dtype))
        self._point = (self._put(weights.point_bias), self._put(weights.point.T))
        self._merge = self._put(weights.merge.T, dtype)
        self._head = (self._put(weights.head_bias), self._put(weights.head.T))
        blocks = []
        for block, channel in zip(weights.blocks, student.backbone.channel):
            assert isinstance(channel, ChannelMix)
            # Unlike the other forms of the student, the norm's scale is not in the matrix: it costs nothing while the token is in
            # registers, and tokens that only a batch norm keeps small would leave the range of float16.
            scale, shift = _affine(channel)
            blocks.append(
                _Block(
                    cell_scale=self._put(block.cell_scale),
                    cell_shift=self._put(block.cell_shift),
                    conv1=self._put(block.conv1),
                    conv1_bias=self._put(block.conv1_bias),
                    conv2=self._put(block.conv2),
                    conv2_bias=self._put(block.conv2_bias),
                    token_scale=self._put(scale),
                    token_shift=self._put(shift),
                    linear1=self._put(channel.linear1.weight.detach().cpu().numpy().T, dtype),
                    linear1_bias=self._put(channel.linear1.bias.detach().cpu().numpy(), dtype),
                    linear2=self._put(block.linear2.T, dtype),
                    linear2_bias=self._put(block.linear2_bias, dtype),
                )
            )
        self._blocks = tuple(blocks)

    @torch.inference_mode()
    def forward(self, features: Tensor, neighbours: Tensor, tables: PlaneTables) -> Tensor:
        """Compute logits. The first call compiles the kernels for these shapes: make one before a CUDA graph is captured.

        Args:
            features: (N, 5) float32: intensity, x, y, z, range.
            neighbours: (N, K) int32 into N, self excluded; 0 in padding rows.
            tables: Of the planes (x, y), (x, z), (y, z).
        Returns:
            (N, classes) float32; anything in padding rows.
        """
        best = self._steps.neighbour_max(features, neighbours, *self._neighbour)
        bias, weight = self._point
        # The true tokens are tokens + branch: whoever reads both next adds them, which saves a pass over the points.
        tokens, branch = torch.addmm(bias, features, weight), best @ self._merge
        for index, block in enumerate(self._blocks):
            branch = self._mix(block, tables[index % len(tables)], tokens, branch)
        bias, weight = self._head
        return torch.addmm(bias, tokens + branch, weight)

    def _mix(self, block: _Block, table: PlaneTable, tokens: Tensor, branch: Tensor) -> Tensor:
        """Run one block: add the old branch and the spatial one to the tokens, in place, and return the channel one."""
        norm = self._layer_norm, self._eps
        cells = self._steps.flatten(tokens, branch, table, block.cell_scale, block.cell_shift, *norm, self._dtype)
        halo = self._steps.convolve(cells, table.reached, block.conv1, block.conv1_bias, self._activation)
        mixed = self._steps.convolve(halo, table.taps, block.conv2, block.conv2_bias, "none")
        x = self._steps.inflate(tokens, branch, mixed, table.cell, block.token_scale, block.token_shift, *norm)
        if self._activation == "relu":
            # One kernel of cuBLAS, which also has gelu, but only its approximation by tanh.
            hidden = torch._addmm_activation(block.linear1_bias, x, block.linear1)
        else:
            hidden = network_plain.activate(torch.addmm(block.linear1_bias, x, block.linear1), self._activation)
        return torch.addmm(block.linear2_bias, hidden, block.linear2)

    def _put(self, array: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, dtype, copy=True)


def _steps(kernels: bool) -> ModuleType:
    """Choose between the modules of the same functions."""
    if not kernels:
        return network_plain
    require("triton", "kernels on the device", _INSTALL)
    from xkd_ros.device import network_kernels

    return network_kernels


def _affine(channel: ChannelMix) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift (C,) of the norm before the linear layers, in evaluation mode."""
    norm = channel.norm
    if isinstance(norm, MaskedBatchNorm):
        scale, shift = norm.scale_and_shift()
    else:
        assert isinstance(norm, nn.LayerNorm)
        scale, shift = norm.weight, norm.bias
    return scale.detach().cpu().numpy(), shift.detach().cpu().numpy()
