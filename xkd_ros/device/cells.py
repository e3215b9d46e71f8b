"""Cells of the three projection planes and what surrounds them, as `points.grid` and `points.cell_table` find them, with fixed shapes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from xkd_ros.core.card import GeometryConfig
from xkd_ros.device.fixed_shapes import begin_of, compact, constant, count_in
from xkd_ros.device.plane_table import PlaneTable, PlaneTables
from xkd_ros.points.cell_table import COUNT_EPS
from xkd_ros.points.grid import CROP_MARGIN_M, PLANES

_OFFSETS = ((-1, -1, -1, 0, 0, 0, 1, 1, 1), (-1, 0, 1, -1, 0, 1, -1, 0, 1))
_HALO_SHARE = 4
"""Room for halo cells, as a multiple of the room for points: scans that fill two thirds of it are not known."""


def inside_field_of_view(points: Tensor, geometry: GeometryConfig) -> Tensor:
    """Tell (N,) which of (N, 3) levelled points lie strictly inside the field of view; NaN does not."""
    low = constant(tuple(value + CROP_MARGIN_M for value in geometry.fov_min_m), points.dtype, points.device)
    high = constant(tuple(value - CROP_MARGIN_M for value in geometry.fov_max_m), points.dtype, points.device)
    return ((points > low) & (points < high)).all(1)


def plane_tables(points: Tensor, real: Tensor, geometry: GeometryConfig) -> tuple[PlaneTables, Tensor]:
    """List the cells of the planes (x, y), (x, z), (y, z).

    Args:
        points: (N, 3) float32, levelled, those that are real inside the field of view.
        real: (N,) bool; padding is in no cell.
        geometry: Field of view and cell size.
    Returns:
        One table per plane, and () bool: there was room for all cells. Where there was not, the tables are of no use.
    """
    low = constant(geometry.fov_min_m, torch.float64, points.device)
    edge = torch.full((1,), geometry.cell_m, dtype=torch.float64, device=points.device)
    last = constant(geometry.grid_shape, torch.int64, points.device) - 1
    along = torch.where(real.unsqueeze(1), (points.double() - low) / edge, 0.0).to(torch.int64).minimum(last)
    made = []
    for first, second in PLANES:
        shape = geometry.grid_shape[first], geometry.grid_shape[second]
        made.append(_table(along[:, first] * shape[1] + along[:, second], real, shape))
    (xy, fits_xy), (xz, fits_xz), (yz, fits_yz) = made
    return (xy, xz, yz), fits_xy & fits_xz & fits_yz


def room_for(points: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Say how many occupied and how many halo cells of an (H, W) grid there is room for."""
    whole = shape[0] * shape[1]
    return min(points, whole), min(_HALO_SHARE * points, whole)


def _table(flat: Tensor, real: Tensor, shape: tuple[int, int]) -> tuple[PlaneTable, Tensor]:
    """Make the table of one plane from (N,) flat cell numbers in a grid of (H, W) cells."""
    whole = shape[0] * shape[1]
    most, most_halo = room_for(len(flat), shape)
    every = torch.arange(whole, device=flat.device)
    count = count_in(torch.where(real, flat, whole), whole)
    occupied = count > 0
    touched = max_pool2d(occupied.view(1, 1, *shape).float(), 3, 1, 1).flatten() > 0
    cell_of, cells = compact(every, occupied, most, whole)
    halo_of, halos = compact(every, touched, most_halo, whole)
    row = _rows(cell_of, whole, most)  # (H * W + 1,) grid → occupied row
    halo_row = _rows(halo_of, whole, most_halo)
    cell = torch.where(real, row[flat], most)
    size = torch.where(cell_of < whole, count[cell_of.clamp(max=whole - 1)], 0)
    table = PlaneTable(
        cell=cell.to(torch.int32),
        order=cell.sort(stable=True).indices.to(torch.int32),
        bounds=begin_of(size),
        inverse_count=1 / (size.float() + COUNT_EPS),
        reached=_around(halo_of, shape, row),
        taps=_around(cell_of, shape, halo_row),
    )
    return table, (cells <= most) & (halos <= most_halo)


def _rows(cells: Tensor, whole: int, nowhere: int) -> Tensor:
    """Invert (R,) grid cells into (whole + 1,) rows; `nowhere` for the cells that are not listed, and for what lies outside."""
    row = cells.new_full((whole + 1,), nowhere).scatter_(0, cells, torch.arange(len(cells), device=cells.device))
    # Free rows of `cells` were written to the place for what lies outside.
    row[whole:].fill_(nowhere)
    return row


def _around(cells: Tensor, shape: tuple[int, int], row: Tensor) -> Tensor:
    """Look the 3x3 neighbourhoods of (R,) grid cells up: (R, 9) int32 rows."""
    height, width = shape
    down, right = (constant(axis, torch.int64, cells.device) for axis in _OFFSETS)
    i, j = cells.unsqueeze(1) // width + down, cells.unsqueeze(1) % width + right
    inside = (cells < height * width).unsqueeze(1) & (i >= 0) & (i < height) & (j >= 0) & (j < width)
    return row[torch.where(inside, i * width + j, height * width)].to(torch.int32)
