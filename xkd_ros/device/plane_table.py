"""Where spatial mixing reads and writes on one plane, in tables whose shapes do not depend on the scan.

In: a `points.cell_table.CellTable`, or what a device computes itself. Out: `PlaneTable`. Next: `device.student`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xkd_ros.core.errors import ShapeError
from xkd_ros.core.types import NetInput
from xkd_ros.points.cell_table import CellTable, make_cell_tables


@dataclass(frozen=True, eq=False)
class PlaneTable:
    """One plane, as `points.cell_table.CellTable`, with room for N points, E occupied and D halo cells.

    N, E and D are capacities, given by the shapes: how much of them a scan fills stands only in what the tables say, so that
    nobody has to ask the device for a count. Rows past that are unused; nothing that a real point reads refers to them.

    Attributes:
        cell: (N,) int32 row among the occupied cells of each point; E for padding points.
        order: (N,) int32 points sorted by cell, padding points last.
        bounds: (E + 1,) int32: the points of cell e are order[bounds[e] : bounds[e + 1]]. Unused rows are empty.
        inverse_count: (E,) float32, 1 / (number of points + COUNT_EPS) of each occupied cell; anything finite in unused rows.
        reached: (D, 9) int32 row among the occupied cells that each halo cell sees at each tap, in the order of the convolution
            weights; E where none is occupied.
        taps: (E, 9) int32 row among the halo cells at each tap of each occupied cell; D where the tap lies outside the grid, and
            in unused rows.
    """

    cell: Tensor
    order: Tensor
    bounds: Tensor
    inverse_count: Tensor
    reached: Tensor
    taps: Tensor


PlaneTables = tuple[PlaneTable, PlaneTable, PlaneTable]
"""Of the planes (x, y), (x, z), (y, z)."""


def pad_table(table: CellTable, points: int, cells: int, halo: int, device: torch.device | str) -> PlaneTable:
    """Widen the table of one scan to fixed capacities.

    Args:
        table: Of one plane.
        points: Capacity N.
        cells: Capacity E.
        halo: Capacity D.
        device: Where the tables shall lie.
    Raises:
        ShapeError: the scan has more points, occupied or halo cells.
    """
    found = (len(table.cell), table.occupied, table.halo)
    if any(have > room for have, room in zip(found, (points, cells, halo))):
        raise ShapeError(
            "a plane has {} points, {} occupied and {} halo cells".format(*found)
            + f", more than the capacities {points}, {cells} and {halo}; ask for larger ones"
        )
    order, _ = table.points_by_cell
    reached = np.where(table.reached == table.occupied, cells, table.reached)
    taps = np.where(table.taps == table.halo, halo, table.taps)
    parts = (
        _padded(table.cell, points, cells),
        np.concatenate([order, np.arange(found[0], points)]),
        _padded(table.bounds, cells + 1, found[0]),
        _padded(table.inverse_count, cells, 0),
        _padded(reached, halo, cells),
        _padded(taps, cells, halo),
    )
    types = (np.float32 if part.dtype == np.float32 else np.int32 for part in parts)
    return PlaneTable(*(torch.from_numpy(part.astype(kind)).to(device) for part, kind in zip(parts, types)))


def exact_inputs(net_input: NetInput, device: torch.device | str) -> tuple[Tensor, Tensor, PlaneTables]:
    """Lay a scan that the CPU has prepared out as the student reads it, with room for nothing more: features, neighbours, tables."""
    tables = make_cell_tables(net_input)
    xy, xz, yz = (pad_table(table, len(net_input), table.occupied, table.halo, device) for table in tables)
    return torch.from_numpy(net_input.features).to(device), torch.from_numpy(net_input.neighbours).to(device, torch.int32), (xy, xz, yz)


def _padded(array: np.ndarray, rows: int, value: int) -> np.ndarray:
    """Append rows of one value."""
    return np.pad(array, [(0, rows - len(array))] + [(0, 0)] * (array.ndim - 1), constant_values=value)
