"""Model folder in, ONNX graphs beside the weights out; next room: `runtime`. `xkd export MODEL`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xkd_ros.core.card import CARD_NAME, ModelCard, save_card
from xkd_ros.core.errors import ModelError, require
from xkd_ros.core.files import sha256, write_atomic
from xkd_ros.core.types import NetInput
from xkd_ros.kernels.folding import fold
from xkd_ros.runtime.onnx_inputs import ORT_FILE, OUTPUT, TRT_FILE, whole_grid_inputs
from xkd_ros.runtime.onnxruntime_backend import OnnxRuntimeBackend

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        folder: The model.
        files: Per graph: bytes, operators, and the parity with torch as one line.
        card_hash: Of the card after the export.
    """

    folder: Path
    files: dict[str, tuple[int, int, str]]
    card_hash: str

    def __str__(self) -> str:
        rows = [f"{name}: {size / 1e6:.2f} MB, {operators} operators, {parity}" for name, (size, operators, parity) in self.files.items()]
        return "\n".join([f"{self.folder} (card {self.card_hash})", *rows])

    __rich__ = __str__


def export_onnx(folder: str | Path) -> ExportReport:
    """Write student.ort.onnx and student.trt.onnx, each compared with torch first, and update the card.

    Args:
        folder: Model folder with card and weights.
    Raises:
        MissingPackageError: torch or onnx is not installed.
        ModelError: unusable folder, or a graph that disagrees with torch; nothing is written then.
        XkdError: the folder cannot be written.
    """
    require("onnx", "the export", "pip install 'xkd_ros[train]'")
    require("torch", "the export", "pip install 'xkd_ros[train]'")
    from xkd_ros.export.parity import check_inputs, compare
    from xkd_ros.export.student_graph import build_student_graph
    from xkd_ros.nets.checkpoint import load_student

    folder = Path(folder)
    student, card = load_student(folder)
    weights = fold(student.arrays(), card.network)
    inputs = check_inputs(card)
    written: dict[str, bytes] = {}
    files: dict[str, tuple[int, int, str]] = {}
    forms: tuple[tuple[str, str, Callable[[bytes], Callable[[NetInput], np.ndarray]]], ...] = (
        (ORT_FILE, "occupied_cells", lambda content: OnnxRuntimeBackend(content).infer),
        (TRT_FILE, "whole_grids", _run_whole_grids),
    )
    for name, form, runner in forms:
        model = build_student_graph(weights, card, form)  # type: ignore[arg-type]
        content = model.SerializeToString(deterministic=True)
        parity = compare(student, runner(content), inputs)
        _LOG.info("%s: %s", name, parity)
        if not parity.agrees:
            raise ModelError(f"{name} of {folder} disagrees with torch ({parity}); nothing was written, please report this model")
        written[name] = content
        files[name] = (len(content), len(model.graph.node), str(parity))
    return ExportReport(folder, files, _write(folder, card, written).hash)


def _run_whole_grids(content: bytes) -> Callable[[NetInput], np.ndarray]:
    """Run the TensorRT graph with onnxruntime, which knows all its operators."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda net_input: session.run([OUTPUT], whole_grid_inputs(net_input))[0]


def _write(folder: Path, card: ModelCard, written: dict[str, bytes]) -> ModelCard:
    """Write the graphs and then the card that vouches for them, each atomically."""
    for name, content in written.items():
        write_atomic(folder / name, content)
    card = card.model_copy(update={"files": {**card.files, **{name: sha256(folder / name) for name in written}}})
    save_card(card, folder)
    _LOG.info("%s updated", folder / CARD_NAME)
    return card
