"""What the two ONNX graphs read, from one preprocessed scan. Names and shapes are the contract between `export` and `runtime`.

student.ort.onnx mixes space on the occupied cells alone (fast on CPUs); student.trt.onnx on whole grids with plain convolutions
(fast on GPUs, and every operator is known to TensorRT). All sizes but K vary from scan to scan: N points, E occupied and D halo
cells, Q chunks, M cells of several chunks with up to R of them, H and W.

Flatten sums in chunks instead of scattering: onnxruntime's ScatterND with reduction "add" runs on several threads without locks,
so duplicate indices give wrong sums now and then (seen in 1.31 with 2 threads; microsoft/onnxruntime #18048, #23396).
"""

from __future__ import annotations

import numpy as np

from xkd_ros.core.types import NetInput
from xkd_ros.points.cell_table import COUNT_EPS, CellTable, make_cell_tables

ORT_FILE = "student.ort.onnx"
TRT_FILE = "student.trt.onnx"
PLANES = ("xy", "xz", "yz")
OUTPUT = "logits"
CHUNK = 8
"""Points of a cell that are summed at once."""
OUTSIDE = -1e30
"""Start value of the row that stands for all taps outside the grid: no activation lets anything of it through."""


def occupied_cell_inputs(net_input: NetInput) -> dict[str, np.ndarray]:
    """Build the inputs of student.ort.onnx.

    Returns:
        features (N, 5) float32, neighbours (N, K) int64, and per plane: cell (N,) int64; taps (E, 9) int64 with D for outside the
        grid; base (D + 1, 1) float32, zeros and OUTSIDE in the last row; and the tables of `_chunk_inputs`.
    """
    inputs = {"features": net_input.features, "neighbours": net_input.neighbours}
    for plane, table in zip(PLANES, make_cell_tables(net_input)):
        base = np.zeros((table.halo + 1, 1), np.float32)
        base[-1] = OUTSIDE
        arrays = {"cell": table.cell, "taps": table.taps, "base": base, **_chunk_inputs(table)}
        inputs.update({f"{name}_{plane}": array for name, array in arrays.items()})
    return inputs


def _chunk_inputs(table: CellTable) -> dict[str, np.ndarray]:
    """List the mean of each cell as sums of up to CHUNK points, and sums of these.

    Returns:
        chunk (Q, CHUNK) int64 points with chunk_weight (Q, 1, CHUNK) float32; merge (M, R) int64 chunks of the cells that have
        several, with merge_weight (M, 1, R); source (E,) int64, where each cell's mean is found: its chunk, or Q + its merge.
    """
    order, starts = table.points_by_cell
    count = np.bincount(table.cell, minlength=table.occupied)
    chunks = -(-count // CHUNK)
    first = np.cumsum(chunks) - chunks
    owner = np.repeat(np.arange(table.occupied), chunks)
    slot = (np.arange(len(owner)) - first[owner])[:, None] * CHUNK + np.arange(CHUNK)
    filled = slot < count[owner][:, None]
    # Empty slots repeat a point of the cell, with the weight zero.
    chunk = order[starts[owner][:, None] + np.minimum(slot, count[owner][:, None] - 1)]
    weight = filled * table.inverse_count[owner][:, None]

    several = np.flatnonzero(chunks > 1)
    source = first.copy()
    source[several] = len(owner) + np.arange(len(several))
    several = several if len(several) else np.zeros(1, np.int64)  # no table is ever empty
    column = np.arange(chunks[several].max())
    merge = first[several][:, None] + np.minimum(column, chunks[several][:, None] - 1)
    return {
        "chunk": chunk,
        "chunk_weight": weight.astype(np.float32)[:, None],
        "merge": merge,
        "merge_weight": (column < chunks[several][:, None]).astype(np.float32)[:, None],
        "source": source,
    }


def whole_grid_inputs(net_input: NetInput) -> dict[str, np.ndarray]:
    """Build the inputs of student.trt.onnx.

    Returns:
        features (N, 5) float32, neighbours (N, K) int64, and per plane: cell (N,) int64 flat index into the grid, inverse_count
        (H, W) float32, one over the number of points in each cell, whose shape also tells the graph the size of the grid.
    """
    inputs = {"features": net_input.features, "neighbours": net_input.neighbours}
    for plane, cells, (height, width) in zip(PLANES, net_input.cells, net_input.grids):
        count = np.bincount(cells, minlength=height * width).astype(np.float32)
        inputs[f"cell_{plane}"] = cells
        # An empty cell has the sum zero, whatever it is multiplied with.
        weight = 1.0 / (np.maximum(count, 1.0) + np.float32(COUNT_EPS))
        inputs[f"inverse_count_{plane}"] = weight.reshape(height, width)
    return inputs
