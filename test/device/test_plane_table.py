"""Tables of fixed shapes say what the tables of a scan say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xkd_ros.core.errors import ShapeError
from xkd_ros.core.types import NetInput
from xkd_ros.device.plane_table import pad_table
from xkd_ros.points.cell_table import make_cell_tables


def test_a_padded_table_lists_the_same_points_and_cells(scan: NetInput) -> None:
    table = make_cell_tables(scan)[0]
    few, many, points = table.occupied, table.halo, len(scan)
    wide = pad_table(table, points + 3, few + 4, many + 2, "cpu")
    assert {value.dtype for name, value in vars(wide).items() if name != "inverse_count"} == {torch.int32}
    order, bounds, cell = wide.order.tolist(), wide.bounds.tolist(), wide.cell.tolist()
    assert sorted(order) == list(range(points + 3)) and cell[points:] == [few + 4] * 3
    for e in range(few + 4):
        assert order[bounds[e] : bounds[e + 1]] == [p for p in range(points) if cell[p] == e]
    np.testing.assert_array_equal(wide.reached[:many], np.where(table.reached == few, few + 4, table.reached))
    np.testing.assert_array_equal(wide.taps[:few], np.where(table.taps == many, many + 2, table.taps))
    assert (wide.reached[many:] == few + 4).all() and (wide.taps[few:] == many + 2).all()


@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_capacities_too_small_are_refused(scan: NetInput, lacking: int) -> None:
    table = make_cell_tables(scan)[0]
    capacities = [len(scan), table.occupied, table.halo]
    pad_table(table, *capacities, "cpu")
    capacities[lacking] -= 1
    with pytest.raises(ShapeError, match=f"{table.halo} halo cells, more than the capacities .*; ask for larger ones"):
        pad_table(table, *capacities, "cpu")
