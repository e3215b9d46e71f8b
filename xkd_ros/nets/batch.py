"""Scans laid end to end: what the student eats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xkd_ros.core.types import NetInput


@dataclass(frozen=True, eq=False)
class Batch:
    """B scans with T points in all.

    Attributes:
        features: (T, 5) float32.
        cells: (3, T) int64 flat index into the (B, H, W) grid of each plane.
        shapes: (B, H, W) of each plane.
        neighbours: (T, K) int64 into T.
        scan: (T,) int64 scan of each point.
    """

    features: Tensor
    cells: Tensor
    shapes: tuple[tuple[int, int, int], ...]
    neighbours: Tensor
    scan: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Copy to a device."""
        tensors = (self.features, self.cells, self.neighbours, self.scan)
        features, cells, neighbours, scan = (tensor.to(device, non_blocking=True) for tensor in tensors)
        return Batch(features, cells, self.shapes, neighbours, scan)


def collate(inputs: Sequence[NetInput]) -> Batch:
    """Lay scans end to end; grids take the largest height and width of the batch, which only adds empty cells.

    Empty cells beyond a scan's own halo never reach one of its points, so a scan's output does not depend on its company.
    """
    counts = [len(item) for item in inputs]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    planes = range(len(inputs[0].grids))
    shapes = tuple((len(inputs), *(max(item.grids[p][axis] for item in inputs) for axis in (0, 1))) for p in planes)
    cells = np.empty((len(shapes), offsets[-1]), np.int64)
    for index, item in enumerate(inputs):
        for p in planes:
            _, height, width = shapes[p]
            row, column = np.divmod(item.cells[p], item.grids[p][1])
            cells[p, offsets[index] : offsets[index + 1]] = (index * height + row) * width + column
    return Batch(
        features=torch.from_numpy(np.concatenate([item.features for item in inputs])),
        cells=torch.from_numpy(cells),
        shapes=shapes,  # type: ignore[arg-type]
        neighbours=torch.from_numpy(np.concatenate([item.neighbours + start for item, start in zip(inputs, offsets)])),
        scan=torch.from_numpy(np.repeat(np.arange(len(inputs)), counts)),
    )
