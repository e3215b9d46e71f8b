"""How the points of a batch fall into the cells of the three planes, counted once per forward for all blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from xkd_ros.points.cell_table import COUNT_EPS, CellTable, make_cell_table


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane, for a whole batch.

    Attributes:
        cell: (T,) int64 flat index into the (B, H, W) grid.
        shape: (B, H, W).
        occupied: (T,) 1 for real points and 0 for padding; None when every point is real.
    """

    cell: Tensor
    shape: tuple[int, int, int]
    occupied: Tensor | None = None

    @cached_property
    def share(self) -> Tensor:
        """(B * H * W, 1) one over the number of points in each cell."""
        cell = self.cell
        # Counted in float32 whatever the autocast type: bf16 cannot count past 256.
        real = torch.ones(cell.shape, device=cell.device) if self.occupied is None else self.occupied.float()
        count = torch.zeros(self.shape[0] * self.shape[1] * self.shape[2], device=cell.device).index_add(0, cell, real)
        return (1 / (count + COUNT_EPS)).unsqueeze(1)

    @cached_property
    def table(self) -> CellTable:
        """Occupied cells and their surroundings, for the compiled kernels."""
        return make_cell_table(self.cell.numpy(), self.shape)


def make_planes(cells: Tensor, shapes: tuple[tuple[int, int, int], ...], occupied: Tensor | None = None) -> tuple[Plane, ...]:
    """Make the planes of a batch.

    Args:
        cells: (P, T) int64.
        shapes: (B, H, W) of each plane.
        occupied: (T,) 1 for real points and 0 for padding; None when every point is real.
    """
    return tuple(Plane(cell, shape, occupied) for cell, shape in zip(cells, shapes))
