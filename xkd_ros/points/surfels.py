"""Small flat patches of a scan: where surfaces are and which way they face.

In: points of a scan. Out: patches in two sizes. Next room: `levelling`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIN_POINTS = 6
MAX_THICKNESS_M = 0.045  # range noise of a lidar stays below, two surfaces in one cell come out above
MIN_WIDTH_M = 0.04
MIN_WIDTH_PER_THICKNESS = 3.5  # a line of points has no direction across itself
MIN_INCIDENCE = 0.05  # points of one beam around a corner fit a plane through the sensor, which no surface is
MAX_SIGMA_RAD = 0.1
NOISE_FLOOR_M = 0.008
PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


@dataclass(frozen=True, eq=False)
class Surfels:
    """Patches of one cell size.

    Attributes:
        centres_m: (S, 3) float64, mean of the points of each cell.
        normals: (S, 3) float64 unit normals, sign arbitrary; meaningless where not flat.
        area_m2: (S,) float64, area of the rectangle that has the spread of the points.
        sigma_rad: (S,) float64, how far the normal may be off.
        flat: (S,) bool, one surface, wide enough to have a normal.
    """

    centres_m: np.ndarray
    normals: np.ndarray
    area_m2: np.ndarray
    sigma_rad: np.ndarray
    flat: np.ndarray


def find_surfels(points_m: np.ndarray, cell_m: float, merges: tuple[int, ...]) -> list[Surfels]:
    """Fit planes to the points of small and of larger cells.

    Args:
        points_m: (N, 3) float32, metres, finite, within a few hundred metres; the sensor is at the origin.
        cell_m: Edge of a small cell in metres.
        merges: Larger cells are this many small ones wide.
    Returns:
        Patches of each cell size, the smallest first: the cells with at least six points, flat or not.
    """
    index = ((points_m - points_m.min(axis=0)) * np.float32(1.0 / cell_m)).astype(np.int32)
    member, index = _number(index)
    columns = [points_m[:, axis].astype(np.float64) for axis in range(3)]
    values = [None, *columns, *(columns[row] * columns[column] for row, column in PAIRS)]
    sums = np.stack([np.bincount(member, value, len(index)) for value in values])
    found = [_fit(sums)]
    for merge in merges:
        parent, larger = _number(index // merge)
        found.append(_fit(np.stack([np.bincount(parent, row, len(larger)) for row in sums])))
    return found


def _number(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the occupied cells: for rows (N, 3) of cell indices, the number (N,) of each and the cells (S, 3)."""
    size = index.max(axis=0).astype(np.int64) + 1
    flat = (index[:, 0] * size[1] + index[:, 1]) * size[2] + index[:, 2]
    occupied = np.flatnonzero(np.bincount(flat))
    number = np.empty(int(occupied[-1]) + 1, dtype=np.int32)
    number[occupied] = np.arange(len(occupied))
    return number[flat], np.stack(np.unravel_index(occupied, size), axis=1)


def _fit(sums: np.ndarray) -> Surfels:
    """Turn sums (10, S) of 1, x, y, z and their products into patches; float64 keeps millimetres at any range."""
    sums = sums[:, sums[0] >= MIN_POINTS]
    count = sums[0]
    centres = sums[1:4] / count
    covariance = np.empty((len(count), 3, 3))
    for (row, column), product in zip(PAIRS, sums[4:]):
        entry = product / count - centres[row] * centres[column]
        covariance[:, row, column] = covariance[:, column, row] = entry
    variance, axes = np.linalg.eigh(covariance)
    thickness, width, length = np.sqrt(np.maximum(variance, 1e-12)).T
    normals = axes[:, :, 0]
    distance = np.maximum(np.linalg.norm(centres, axis=0), 1e-6)
    incidence = np.abs(np.einsum("ij,ji->i", normals, centres)) / distance
    sigma = np.maximum(thickness, NOISE_FLOOR_M) / width / np.sqrt(count)
    flat = (
        (thickness < MAX_THICKNESS_M)
        & (width > MIN_WIDTH_PER_THICKNESS * thickness)
        & (width > MIN_WIDTH_M)
        & (incidence > MIN_INCIDENCE)
        & (sigma < MAX_SIGMA_RAD)
    )
    area = 12.0 * width * length  # a uniform strip of width w has variance w² / 12
    return Surfels(centres.T, normals, area, sigma, flat)
