"""The student on onnxruntime: CPU, without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xkd_ros.core.card import ModelCard, model_file
from xkd_ros.core.errors import ModelError, require
from xkd_ros.core.types import NetInput
from xkd_ros.runtime.onnx_inputs import ORT_FILE, OUTPUT, occupied_cell_inputs


class OnnxRuntimeBackend:
    """Runs student.ort.onnx."""

    name = "onnxruntime"

    def __init__(self, model: bytes, threads: int | None = None) -> None:
        """Prepare a session.

        Args:
            model: The graph.
            threads: CPU threads; None takes one per core.
        Raises:
            MissingPackageError: onnxruntime is not installed.
            ModelError: the graph cannot be run.
        """
        onnxruntime = require("onnxruntime", "the onnxruntime backend", "pip install onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Waiting threads sleep instead of spinning: the robot's other programs want these cores too.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no base class
            raise ModelError(f"onnxruntime cannot run this graph ({' '.join(str(error).split())[:200]}); export the model again") from error

    @classmethod
    def load(cls, folder: str | Path, card: ModelCard, threads: int | None = None) -> OnnxRuntimeBackend:
        """Load the graph of a model folder.

        Raises:
            ModelError: not exported, or not the file the card was written for.
        """
        return cls(model_file(folder, card, ORT_FILE).read_bytes(), threads)

    def infer(self, net_input: NetInput) -> np.ndarray:
        """Return (N, C) float32 logits."""
        return self._session.run([OUTPUT], occupied_cell_inputs(net_input))[0]
