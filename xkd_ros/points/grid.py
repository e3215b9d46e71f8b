"""2D cells of the three projection planes, cropped to what is occupied.

In: sampled points inside the field of view. Out: a flat cell index per point and plane, and the size of each cropped
grid. Next room: the flatten and inflate steps of the network.
"""

from __future__ import annotations

import numpy as np

from xkd_ros.core.card import GeometryConfig

PLANES = ((0, 1), (0, 2), (1, 2))  # axes (x, y), (x, z), (y, z)
CROP_MARGIN_M = 1e-4  # keeps the truncated cell index below the grid size
HALO_CELLS = 1  # two 3x3 convolutions: a halo of one empty cell carries every bias that an occupied cell can see
Grids = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def full_grids(geometry: GeometryConfig) -> Grids:
    """Sizes (H, W) of the uncropped grids of the planes (x, y), (x, z), (y, z)."""
    nx, ny, nz = geometry.grid_shape
    return (nx, ny), (nx, nz), (ny, nz)


def inside_field_of_view(points_m: np.ndarray, geometry: GeometryConfig) -> np.ndarray:
    """Tell which points lie strictly inside the field of view.

    Args:
        points_m: (N, 3), metres, levelled lidar frame. NaN is outside.
    Returns:
        (N,) bool.
    Source: METHODS 1.2.
    """
    inside = np.ones(len(points_m), dtype=bool)
    for axis in range(3):
        column = points_m[:, axis]
        inside &= column > geometry.fov_min_m[axis] + CROP_MARGIN_M
        inside &= column < geometry.fov_max_m[axis] - CROP_MARGIN_M
    return inside


def plane_cells(points_m: np.ndarray, geometry: GeometryConfig, crop: bool = True) -> tuple[np.ndarray, Grids]:
    """Find the cell of each point on each plane.

    A cropped grid covers the occupied rectangle and a halo of one cell, clamped at the border of the full grid, and
    then gives the same convolution results at occupied cells as the full grid does: the first convolution turns an
    empty cell beside an occupied one into its bias, which the second convolution reads; outside the full grid both
    read zeros.

    Args:
        points_m: (N, 3), metres, levelled lidar frame, all inside the field of view.
        geometry: Field of view and cell size.
        crop: False keeps the full grids.
    Returns:
        cells (3, N) int64, flat index `i * W + j` into each grid, and the three grid sizes (H, W).
    Source: METHODS 1.4 and 1.5.
    """
    count = len(points_m)
    cells = np.empty((3, count), dtype=np.int64)
    if count == 0:
        return cells, (((1, 1),) * 3 if crop else full_grids(geometry))
    index, size = [], []
    for axis, full in enumerate(geometry.grid_shape):
        cell = (points_m[:, axis].astype(np.float64) - geometry.fov_min_m[axis]) / geometry.cell_m
        along = np.minimum(cell.astype(np.int64), full - 1)
        if crop:
            low = max(int(along.min()) - HALO_CELLS, 0)
            high = min(int(along.max()) + HALO_CELLS, full - 1)
            along -= low
            full = high - low + 1
        index.append(along)
        size.append(full)
    for plane, (first, second) in enumerate(PLANES):
        np.multiply(index[first], size[second], out=cells[plane])
        cells[plane] += index[second]
    return cells, tuple((size[first], size[second]) for first, second in PLANES)  # type: ignore[return-value]
