"""Model in, a TensorRT engine for this machine's GPU out, kept where the node looks for it. `xkd export MODEL --tensorrt`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xkd_ros.core.card import load_card
from xkd_ros.core.errors import ModelError
from xkd_ros.runtime.engine_store import EngineFacts, EngineStore, engine_folder
from xkd_ros.runtime.selection import impossible
from xkd_ros.runtime.tensorrt_backend import TensorRtBackend
from xkd_ros.runtime.tensorrt_builder import INSTALL, shape_profile


@dataclass(frozen=True)
class EngineReport:
    """What the node will find.

    Attributes:
        path: The engine.
        facts: What it is.
    """

    path: Path
    facts: EngineFacts

    def __str__(self) -> str:
        return f"{self.path}\n{self.facts}"

    __rich__ = __str__


def export_engine(folder: str | Path, version_compatible: bool = False) -> EngineReport:
    """Build the engine of the first precision whose labels agree with torch's, or find it built before.

    Args:
        folder: Model folder with student.trt.onnx.
        version_compatible: The engine is to be loaded by later versions of TensorRT too.
    Raises:
        MissingPackageError: torch is not installed.
        ModelError: no GPU, no TensorRT, no graph, no precision that agrees, or no place to keep the engine.
    """
    card = load_card(folder)
    reason = impossible("tensorrt", card)
    if reason:
        remedy = f"; {INSTALL}" if reason.endswith("is not installed") else ""
        raise ModelError(f"no TensorRT engine of {card.name} can be built here: {reason}{remedy}")
    facts = TensorRtBackend.load(folder, card, version_compatible).facts
    store, key = EngineStore(engine_folder()), facts.key(shape_profile(card))
    if store.get(key) is None:
        raise ModelError(
            f"the engine was built but cannot be kept in {engine_folder()}; export XDG_CACHE_HOME=/a/folder/that/can/be/written"
        )
    return EngineReport(store.path(key), facts)
