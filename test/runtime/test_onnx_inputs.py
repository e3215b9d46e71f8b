"""The tables that the graphs read, against the sums and means they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from xkd_ros.core.card import ModelCard
from xkd_ros.runtime.onnx_inputs import CHUNK, OUTSIDE, PLANES, occupied_cell_inputs, whole_grid_inputs
from xkd_ros.runtime.probe import probe_inputs


@pytest.mark.parametrize("number", [0, 2])
def test_chunks_and_grids_give_the_mean_of_each_cell(number: int) -> None:
    net_input = probe_inputs(ModelCard())[number]
    values = np.random.default_rng(0).normal(size=(len(net_input), 3))
    sparse, dense = occupied_cell_inputs(net_input), whole_grid_inputs(net_input)
    for plane, cells in zip(PLANES, net_input.cells):
        occupied, row, count = np.unique(cells, return_inverse=True, return_counts=True)
        expected = np.stack([np.bincount(row, column) for column in values.T], axis=1) / count[:, None]
        assert count.max() > 2 * CHUNK and count.min() < CHUNK

        chunks = (sparse[f"chunk_weight_{plane}"] @ values[sparse[f"chunk_{plane}"]])[:, 0]
        merged = (sparse[f"merge_weight_{plane}"] @ chunks[sparse[f"merge_{plane}"]])[:, 0]
        means = np.concatenate([chunks, merged])[sparse[f"source_{plane}"]]
        np.testing.assert_allclose(means, expected, atol=1e-5)
        np.testing.assert_array_equal(sparse[f"cell_{plane}"], row)
        base = sparse[f"base_{plane}"]
        assert base[-1, 0] == np.float32(OUTSIDE) and (base[:-1] == 0).all() and sparse[f"taps_{plane}"].max() < len(base)

        weight = dense[f"inverse_count_{plane}"]
        assert weight.shape == net_input.grids[PLANES.index(plane)] and np.isfinite(weight).all()
        np.testing.assert_allclose(weight.reshape(-1)[occupied], 1 / count, rtol=2e-6)
