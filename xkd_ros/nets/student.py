"""The student: a WaffleIron backbone and one linear classifier (METHODS 1.5: no final norm)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from xkd_ros.core.card import NetworkConfig
from xkd_ros.nets.batch import Batch
from xkd_ros.nets.planes import make_planes
from xkd_ros.nets.waffleiron import WaffleIron


class Student(nn.Module):
    """Lidar points in, class logits out, at any depth and width."""

    def __init__(self, network: NetworkConfig, drop_path: float = 0.0) -> None:
        super().__init__()
        self.network = network
        self.backbone = WaffleIron(network.depth, network.width, network.norm, network.activation, drop_path=drop_path)
        self.head = nn.Linear(network.width, network.classes)

    def forward(
        self,
        features: Tensor,
        cells: Tensor,
        shapes: tuple[tuple[int, int, int], ...],
        neighbours: Tensor,
        occupied: Tensor | None = None,
        scan: Tensor | None = None,
    ) -> Tensor:
        """Compute logits.

        Args:
            features: (T, 5) float32: intensity, x, y, z, range.
            cells: (3, T) int64 flat index into the (B, H, W) grids.
            shapes: (B, H, W) of each plane.
            neighbours: (T, K) int64 into T, self excluded.
            occupied: (T,) 1 real, 0 padding; None when all are real.
            scan: (T,) int64 scan of each point; needed only with drop path and more than one scan.
        Returns:
            (T, C) logits.
        """
        planes = make_planes(cells, shapes, occupied)
        return self.head(self.backbone(features, neighbours, planes, occupied, scan))

    def on(self, batch: Batch) -> Tensor:
        """Compute (T, C) logits of a batch."""
        return self(batch.features, batch.cells, batch.shapes, batch.neighbours, None, batch.scan)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return its weights as numpy arrays, by name; they share memory with a student on the CPU."""
        return {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}


def count_parameters(module: nn.Module) -> int:
    """Count trainable numbers."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def seeded_student(network: NetworkConfig, seed: int, drop_path: float = 0.0) -> Student:
    """Build a randomly initialised student that depends on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Student(network, drop_path)
