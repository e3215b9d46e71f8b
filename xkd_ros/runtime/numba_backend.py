"""The student as loops compiled on this machine: the fastest way on a CPU, without torch."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np

from xkd_ros.core.card import WEIGHTS_NAME, ModelCard, model_file
from xkd_ros.core.errors import ModelError, require
from xkd_ros.core.types import NetInput
from xkd_ros.core.weights import check_weights
from xkd_ros.kernels.compiler import rows_per_block
from xkd_ros.kernels.folding import FoldedBlock, fold
from xkd_ros.kernels.forward import forward
from xkd_ros.kernels.team import run, threads_for
from xkd_ros.points.cell_table import make_cell_tables

_LOG = logging.getLogger(__name__)
_WORTH_A_LINE_S = 2.0
_INSTALL = "pip install safetensors"


class NumbaBackend:
    """Runs student.safetensors."""

    name = "numba"

    def __init__(self, state: dict[str, np.ndarray], card: ModelCard, threads: int | None = None) -> None:
        """Fold the weights and lay them out for the kernels, which the first scan on a machine compiles for some seconds.

        Args:
            state: Weights by the names of `Student.state_dict`; copied.
            card: Their card.
            threads: CPU threads; None takes one per core.
        Raises:
            ModelError: weights of another network than the card's.
        """
        # Compiled loops look at no bounds.
        check_weights({name: value.shape for name, value in state.items()}, card.network, WEIGHTS_NAME)
        weights = fold(state, card.network)
        first = (weights.neighbour1.T, weights.neighbour1_bias, weights.neighbour2.T)
        self._embedding = tuple(map(_row_major, (*first, weights.point.T, weights.point_bias, weights.merge.T)))
        self._blocks = tuple(_stacked(weights.blocks, name) for name in FoldedBlock.__dataclass_fields__)
        self._head = (_row_major(weights.head.T), _row_major(weights.head_bias))
        self._kind = (weights.layer_norm, weights.activation != "gelu", np.float32(weights.norm_eps))
        self._rows = rows_per_block(len(weights.merge))
        self._threads = threads
        self._compile(card)

    @classmethod
    def load(cls, folder: str | Path, card: ModelCard, threads: int | None = None) -> NumbaBackend:
        """Load the weights of a model folder.

        Raises:
            MissingPackageError: safetensors is not installed.
            ModelError: damaged, or not the file the card was written for.
        """
        safetensors = require("safetensors.numpy", "the numba backend", _INSTALL)
        path = model_file(folder, card, WEIGHTS_NAME)
        try:
            state = safetensors.load(path.read_bytes())
        except Exception as error:  # its errors and numpy's share no base class
            raise ModelError(f"{path} is not a readable safetensors file ({error}); copy or export the model again") from error
        return cls(state, card, threads)

    def infer(self, net_input: NetInput) -> np.ndarray:
        """Return (N, C) float32 logits."""
        count, channels = len(net_input), len(self._embedding[2])
        logits = np.empty((count, len(self._head[1])), np.float32)
        if not count:
            return logits
        planes = _planes(net_input)
        few, many = (max(map(len, tables)) for tables in (planes[5], planes[4]))
        memory = tuple(np.empty((rows, channels), np.float32) for rows in (count, count, few + 1, many + 1))
        counters = np.zeros(4 * len(self._blocks[0]) + 3, np.int64)
        weights = self._embedding, self._blocks, self._head
        inputs = counters, net_input.features, net_input.neighbours, planes
        run(forward, threads_for(self._threads), *inputs, *weights, *self._kind, self._rows, memory, logits)
        return logits

    def _compile(self, card: ModelCard) -> None:
        """Run one point through, so that no scan has to wait for the compiler."""
        begun = time.perf_counter()
        _LOG.info("loading the compiled network; the first time on a machine it is compiled, which takes half a minute")
        index = np.zeros((3, 1), np.int64)
        near = np.zeros((1, card.geometry.neighbours), np.int64)
        self.infer(NetInput(np.zeros((1, 5), np.float32), index, ((1, 1),) * 3, near, index[0], index[0], np.eye(3)))
        seconds = time.perf_counter() - begun
        if seconds > _WORTH_A_LINE_S:
            _LOG.info("network ready after %.0f s; the next start finds it on disk", seconds)


def _planes(net_input: NetInput) -> tuple:
    """Build the tables that `kernels.forward` reads."""
    tables = make_cell_tables(net_input)
    return (
        np.stack([table.cell for table in tables]).astype(np.int32),
        np.stack([table.points_by_cell[0] for table in tables]).astype(np.int32),
        tuple(table.bounds.astype(np.int32) for table in tables),
        tuple(table.inverse_count for table in tables),
        tuple(table.reached for table in tables),
        tuple(table.taps.astype(np.int32) for table in tables),
    )


def _stacked(blocks: tuple[FoldedBlock, ...], name: str) -> np.ndarray:
    """One weight of all layers, matrices as (in, out)."""
    parts = [getattr(block, name) for block in blocks]
    return _row_major(np.stack([part.T if name in ("linear1", "linear2") else part for part in parts]))


def _row_major(array: np.ndarray) -> np.ndarray:
    return np.array(array, np.float32, order="C")
