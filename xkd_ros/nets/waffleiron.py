"""WaffleIron: points mixed along channels by small MLPs and along space by 2D convolutions on three planes.

In: points of one or several scans laid end to end, (T, C) with T the total number of points, so that no padding is needed.
Out: (T, C) tokens. Next: a head (`student.py`).

Source: Puy, Boulch, Marlet, "Using a Waffle Iron for Automotive Point Cloud Semantic Segmentation", ICCV 2023 (METHODS 1.3
to 1.5). Points-major layout and ragged batches are ours; the function is the same, tested against the public implementation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xkd_ros.core.errors import ModelError
from xkd_ros.nets.compiled import mix_blocks, runs_compiled
from xkd_ros.nets.embedding import Embedding
from xkd_ros.nets.mixing import ChannelMix, SpatialMix, stack_blocks
from xkd_ros.nets.planes import Plane


class WaffleIron(nn.Module):
    """Embedding and `depth` blocks; block l works on plane l mod 3: (x, y), (x, z), (y, z).

    With `checkpointing`, training keeps only the tokens between blocks and computes the inside of a block again on the way back:
    a third more time for a small part of the memory. The compiled kernels of CPUs keep little more than that in any case.
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
        self._layer_norm, self._relu = norm == "layer", activation == "relu"
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
        return self.mix(self.embedding(features, neighbours, real), planes, real, scan)

    def mix(self, tokens: Tensor, planes: tuple[Plane, ...], real: Tensor | None = None, scan: Tensor | None = None) -> Tensor:
        """Mix (T, C) embedded tokens by all blocks; `real` (T,) bool marks the points that count, None: all."""
        if self.training and real is None and self._layer_norm and runs_compiled(tokens):
            halves = [half for block in zip(self.spatial, self.channel) for half in block if isinstance(half, SpatialMix | ChannelMix)]
            keep = [half.drop_path.factors(scan, planes[0].shape[0], tokens) for half in halves]
            return mix_blocks(tokens, [plane.table for plane in planes], stack_blocks(self.spatial, self.channel), keep, self._relu)
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
