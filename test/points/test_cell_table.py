"""Tables of occupied cells against plain loops over the whole grid."""

from __future__ import annotations

import numpy as np
import pytest

from xkd_ros.points.cell_table import CellTable, make_cell_table


def halo_cells(cells: np.ndarray, shape: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """All cells of the grid that are occupied or touch an occupied one, in order."""
    _, height, width = shape
    found = set()
    for cell in cells:
        scan, inner = divmod(int(cell), height * width)
        row, column = divmod(inner, width)
        for i in range(max(row - 1, 0), min(row + 2, height)):
            for j in range(max(column - 1, 0), min(column + 2, width)):
                found.add((scan, i, j))
    return sorted(found)


@pytest.mark.parametrize("shape", [(1, 7, 9), (3, 4, 5), (2, 1, 6), (1, 1, 1)])
@pytest.mark.parametrize("points", [1, 12, 200])
def test_table_against_loops(shape: tuple[int, int, int], points: int) -> None:
    batch, height, width = shape
    cells = np.random.default_rng(points).integers(0, batch * height * width, points)
    table = make_cell_table(cells, shape)
    occupied, row, count = np.unique(cells, return_inverse=True, return_counts=True)
    np.testing.assert_array_equal(table.cell, row)
    np.testing.assert_allclose(table.inverse_count, 1 / (count + 1e-6), rtol=1e-6)
    halo = halo_cells(cells, shape)
    assert table.halo == len(halo) and table.occupied == len(occupied)
    for cell, taps in zip(occupied, table.taps):
        scan, inner = divmod(int(cell), height * width)
        i, j = divmod(inner, width)
        around = [(scan, i + di, j + dj) for di in (-1, 0, 1) for dj in (-1, 0, 1)]
        # What lies outside the grid, another scan of the batch included, has no row.
        assert taps.tolist() == [halo.index(place) if place in halo else len(halo) for place in around]
        assert all((place in halo) == (0 <= place[1] < height and 0 <= place[2] < width) for place in around)


def members(table: CellTable, groups: tuple[np.ndarray, np.ndarray]) -> list[list[int]]:
    order, starts = groups
    return [sorted(part.tolist()) for part in np.split(order, starts[1:])]


def test_groups_hold_every_point_once() -> None:
    cells = np.random.default_rng(0).integers(0, 6 * 8, 90)
    table = make_cell_table(cells, (1, 6, 8))
    points = members(table, table.points_by_cell)
    assert points == [np.flatnonzero(table.cell == cell).tolist() for cell in range(table.occupied)]
    order, starts = table.points_by_cell
    assert len(order) == len(cells) and len(starts) == table.occupied


def test_halo_cells_are_reached_by_what_reaches_them() -> None:
    cells = np.random.default_rng(1).integers(0, 2 * 6 * 8, 40)
    table = make_cell_table(cells, (2, 6, 8))
    expected = np.full((table.halo, 9), table.occupied)
    for cell, taps in enumerate(table.taps):
        for tap, halo in enumerate(taps):
            if halo < table.halo:
                expected[halo, 8 - tap] = cell
    np.testing.assert_array_equal(table.reached, expected)
    assert (table.reached == table.occupied).any() and (table.reached < table.occupied).any(axis=1).all()


def test_more_cells_than_sixteen_bits_count() -> None:
    cells = np.arange(300 * 300)[::-1].copy()
    table = make_cell_table(cells, (1, 300, 300))
    order, starts = table.points_by_cell
    assert table.occupied == 90_000
    np.testing.assert_array_equal(order, cells)
    np.testing.assert_array_equal(starts, np.arange(90_000))
