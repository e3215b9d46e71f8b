"""Where the spatial mixing of the network reads and writes, listed for the occupied cells of one plane alone.

In: flat cell indices and the (B, H, W) of their grid. Out: index tables for flatten, two 3x3 convolutions, and inflate.
Indoor grids are nearly empty (5 to 30 % of the cells hold a point), and the convolutions are depthwise, so gathering the nine
taps of the occupied cells is several times cheaper than convolving the whole grid. Next rooms: `kernels`, `runtime`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from xkd_ros.core.types import NetInput

COUNT_EPS = 1e-6
"""Added to the number of points of a cell, as in the public WaffleIron code; keeps released weights compatible."""
TAPS = 9
_OFFSETS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1))

Groups = tuple[np.ndarray, np.ndarray]
"""Positions sorted by group (P,) int64, and where each group begins in them (G,) int64."""


@dataclass(frozen=True, eq=False)
class CellTable:
    """One plane. "Halo cells" are the occupied cells and the cells of the grid that touch one: all that two 3x3 layers need.

    Attributes:
        cell: (N,) int64 row among the E occupied cells of each point.
        inverse_count: (E,) float32, one over the number of points in each occupied cell.
        taps: (E, 9) int64 row among the D halo cells of the 3x3 neighbourhood of each occupied cell, in the order of the
            convolution weights; D where the tap lies outside the grid.
        halo: D.
    """

    cell: np.ndarray
    inverse_count: np.ndarray
    taps: np.ndarray
    halo: int

    @property
    def occupied(self) -> int:
        """Number E of occupied cells."""
        return len(self.taps)

    @cached_property
    def points_by_cell(self) -> Groups:
        """Points grouped by occupied cell."""
        return _grouped(self.cell, self.occupied)

    @cached_property
    def bounds(self) -> np.ndarray:
        """(E + 1,) int64: the points of cell e stand in `points_by_cell` from bounds[e] to bounds[e + 1]."""
        order, starts = self.points_by_cell
        return np.append(starts, len(order))

    @cached_property
    def reached(self) -> np.ndarray:
        """(D, 9) int32 row among the E occupied cells of the neighbourhood of each halo cell; E where none is occupied."""
        table = np.full((self.halo + 1, TAPS), self.occupied, np.int32)
        # A cell sees at an offset what sees it at the opposite one.
        table[self.taps, np.arange(TAPS)[::-1]] = np.arange(self.occupied, dtype=np.int32)[:, None]
        return table[: self.halo]


def make_cell_table(cells: np.ndarray, shape: tuple[int, int, int]) -> CellTable:
    """List the occupied cells of one plane and what surrounds them.

    Args:
        cells: (N,) int64 flat index into the (B, H, W) grid.
        shape: (B, H, W); scans of a batch do not touch each other.
    Returns:
        The table; it leads to the same result as dense convolutions on the grid with zeros around it.
    """
    batch, height, width = shape
    scan, inner = np.divmod(cells, height * width)
    row, column = np.divmod(inner, width)
    stride = width + 2  # one border cell on each side, so that every tap has an index
    padded = (scan * (height + 2) + row + 1) * stride + column + 1
    count = np.bincount(padded, minlength=batch * (height + 2) * stride)
    occupied = np.flatnonzero(count)
    halo = np.flatnonzero(_dilated(count.reshape(batch, height + 2, stride) > 0))

    halo_row = np.full(len(count), len(halo), np.int64)
    halo_row[halo] = np.arange(len(halo))
    cell_row = np.zeros(len(count), np.int64)
    cell_row[occupied] = np.arange(len(occupied))
    return CellTable(
        cell=cell_row[padded],
        inverse_count=1.0 / (count[occupied].astype(np.float32) + np.float32(COUNT_EPS)),
        taps=halo_row[occupied[:, None] + np.array([down * stride + right for down, right in _OFFSETS])],
        halo=len(halo),
    )


def make_cell_tables(net_input: NetInput) -> tuple[CellTable, ...]:
    """Build the table of each plane of one scan."""
    return tuple(make_cell_table(cells, (1, *grid)) for cells, grid in zip(net_input.cells, net_input.grids))


def _dilated(occupied: np.ndarray) -> np.ndarray:
    """Grow (B, H + 2, W + 2) by one cell in all eight directions, then clear the border, which lies outside the grid."""
    wide = occupied.copy()
    wide[:, :, 1:] |= occupied[:, :, :-1]
    wide[:, :, :-1] |= occupied[:, :, 1:]
    grown = wide.copy()
    grown[:, 1:] |= wide[:, :-1]
    grown[:, :-1] |= wide[:, 1:]
    grown[:, [0, -1]] = False
    grown[:, :, [0, -1]] = False
    return grown


def _grouped(group: np.ndarray, groups: int) -> Groups:
    """Sort positions by group; groups past the last come at the end of the order."""
    # 16-bit keys are sorted by radix, several times faster than by comparison.
    key = group.astype(np.uint16) if groups < 2**16 else group
    starts = np.zeros(groups, np.int64)
    np.cumsum(np.bincount(group, minlength=groups)[: groups - 1], out=starts[1:])
    return np.argsort(key, kind="stable"), starts
