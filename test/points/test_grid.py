from __future__ import annotations

import numpy as np
import pytest

from xkd_ros.core.card import GeometryConfig
from xkd_ros.points.grid import full_grids, inside_field_of_view, plane_cells

GEOMETRY = GeometryConfig()
SMALL = GeometryConfig(fov_min_m=(-4, -4, -1), fov_max_m=(4, 4, 3))


def some_points(seed: int, geometry: GeometryConfig, count: int = 300, shrink: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = rng.uniform(geometry.fov_min_m, geometry.fov_max_m, (count, 3)) * shrink
    points = points.astype(np.float32)
    return points[inside_field_of_view(points, geometry)]


def test_cells_match_the_formula_point_by_point():
    points = some_points(0, GEOMETRY)
    cells, grids = plane_cells(points, GEOMETRY, crop=False)
    assert grids == full_grids(GEOMETRY) == ((256, 256), (256, 32), (256, 32))
    low = np.array(GEOMETRY.fov_min_m)
    for plane, (first, second) in enumerate(((0, 1), (0, 2), (1, 2))):
        for number, point in enumerate(points):
            i, j = (int((float(point[axis]) - low[axis]) / GEOMETRY.cell_m) for axis in (first, second))
            assert cells[plane, number] == i * grids[plane][1] + j


@pytest.mark.parametrize("shrink", [1.0, 0.3, 0.02])
def test_cropping_moves_the_grid_and_nothing_else(shrink):
    points = some_points(1, GEOMETRY, shrink=shrink)
    cells, grids = plane_cells(points, GEOMETRY)
    whole, full = plane_cells(points, GEOMETRY, crop=False)
    for plane in range(3):
        rows, columns = np.divmod(cells[plane], grids[plane][1])
        full_rows, full_columns = np.divmod(whole[plane], full[plane][1])
        assert len(np.unique(full_rows - rows)) == 1 and len(np.unique(full_columns - columns)) == 1
        assert rows.min() == min(1, full_rows.min()) and grids[plane][0] - 1 - rows.max() == min(1, full[plane][0] - 1 - full_rows.max())
        assert columns.min() == min(1, full_columns.min())
        assert grids[plane][1] - 1 - columns.max() == min(1, full[plane][1] - 1 - full_columns.max())
        assert cells[plane].max() < grids[plane][0] * grids[plane][1]


@pytest.mark.parametrize("place", ["middle", "corner", "everywhere"])
def test_a_halo_of_one_cell_is_exact_and_none_is_not(place):
    """Two stacked 3x3 convolutions with bias, on the full and on the cropped grid, compared at the occupied cells."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    channels = 4
    first, second = (torch.nn.Conv2d(channels, channels, 3, padding=1, groups=channels).double() for _ in range(2))
    rng = np.random.default_rng(3)
    low, high = {"middle": (-1.2, 1.0), "corner": (2.6, 3.99), "everywhere": (-3.99, 3.99)}[place]
    points = rng.uniform(low, high, (40, 3)).astype(np.float32)
    points[:, 2] = rng.uniform(*{"middle": (0.2, 1.0), "corner": (2.5, 2.99), "everywhere": (-0.99, 2.99)}[place], 40)

    @torch.no_grad()
    def mixed(cells, grid):
        image = torch.zeros(channels, grid[0] * grid[1], dtype=torch.float64)
        values = torch.from_numpy(np.random.default_rng(4).normal(size=(len(cells), channels))).T
        image[:, cells] = values  # any fixed content of the occupied cells will do
        image = second(torch.relu(first(image.reshape(1, channels, *grid))))
        return image.reshape(channels, -1)[:, cells]

    cells, grids = plane_cells(points, SMALL)
    whole, full = plane_cells(points, SMALL, crop=False)
    worst_without = 0.0
    for plane in range(3):
        unique, number = np.unique(whole[plane], return_index=True)
        expected = mixed(unique, full[plane])
        np.testing.assert_allclose(mixed(cells[plane][number], grids[plane]), expected, atol=1e-12)
        rows, columns = np.divmod(unique, full[plane][1])
        rows, columns = rows - rows.min(), columns - columns.min()
        tight = (int(rows.max()) + 1, int(columns.max()) + 1)
        worst_without = max(worst_without, float((mixed(rows * tight[1] + columns, tight) - expected).abs().max()))
    if place == "middle":
        assert worst_without > 0.01  # the test can tell a halo from none


def test_field_of_view_border():
    points = np.array([[32, 0, 0], [31.9998, 0, 0], [-32, 0, 0], [0, 0, 5], [0, 0, -2.9998], [np.nan, 0, 0], [0, np.inf, 0]], np.float32)
    assert inside_field_of_view(points, GEOMETRY).tolist() == [False, True, False, False, True, False, False]
    cells, _ = plane_cells(points[[1, 4]], GEOMETRY, crop=False)
    assert cells[0, 0] // 256 == 255


def test_no_points():
    cells, grids = plane_cells(np.empty((0, 3), np.float32), GEOMETRY)
    assert cells.shape == (3, 0) and grids == ((1, 1), (1, 1), (1, 1))
