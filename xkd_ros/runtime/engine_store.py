"""Built inference engines on disk: found again only for the same graph, precision, shapes, GPU and builder version."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from xkd_ros.core.files import write_atomic
from xkd_ros.runtime.machine import cache_folder


def engine_folder() -> Path:
    """Where the engines of this user lie, and beside them what TensorRT measured while it built them."""
    return cache_folder() / "engines"


def engine_key(**facts: object) -> str:
    """Name an engine by everything it depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]


class EngineFacts(BaseModel):
    """What an engine is, and how it was found to be.

    Attributes:
        graph: SHA-256 of the ONNX graph.
        precision: "float16", "bfloat16" or "float32".
        gpu: Name of the GPU it was built for.
        version: Of the TensorRT that built it.
        version_compatible: Later versions of TensorRT may load it too.
        agreement: Share of the labels that are torch's.
        built_s: Seconds that building took.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    graph: str
    precision: str
    gpu: str
    version: str
    version_compatible: bool
    agreement: float = 0.0
    built_s: float = 0.0

    def key(self, shapes: object) -> str:
        """Name the engine; a version-compatible one has the same name whichever version built it."""
        facts = self.model_dump(include={"graph", "precision", "gpu", "version_compatible"})
        return engine_key(**facts, shapes=shapes, version="this or later" if self.version_compatible else self.version)

    def __str__(self) -> str:
        version = f"TensorRT {self.version}{' and later' if self.version_compatible else ''}"
        share = f"labels agree with torch on {100 * self.agreement:.2f} %"
        return f"{self.precision} for {self.gpu}, {version}, {share}, built in {self.built_s:.0f} s"


class _Record(EngineFacts):
    """The facts with the hash that vouches for the engine."""

    sha256: str


class EngineStore:
    """A folder of `<key>.plan` and `<key>.json` pairs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, key: str) -> Path:
        """Where an engine lies, or would."""
        return self._folder / f"{key}.plan"

    def get(self, key: str) -> tuple[bytes, EngineFacts] | None:
        """Return an engine and its facts; None when absent, half-written or altered."""
        plan = self.path(key)
        try:
            record = _Record.model_validate_json(plan.with_suffix(".json").read_bytes())
            engine = plan.read_bytes()
            if hashlib.sha256(engine).hexdigest() != record.sha256:
                return None
            return engine, EngineFacts(**record.model_dump(exclude={"sha256"}))
        except (OSError, ValueError):
            return None

    def put(self, key: str, engine: bytes, facts: EngineFacts) -> None:
        """Store an engine, each file whole or not at all, the one that vouches for the other last.

        Raises:
            XkdError: the folder cannot be written.
        """
        plan = self.path(key)
        record = _Record(**facts.model_dump(), sha256=hashlib.sha256(engine).hexdigest())
        write_atomic(plan, engine)
        write_atomic(plan.with_suffix(".json"), record.model_dump_json())

    def forget(self, key: str) -> None:
        """Remove an engine that turned out to be unusable."""
        for path in (self.path(key), self.path(key).with_suffix(".json")):
            path.unlink(missing_ok=True)

    def of_graph(self, graph: str) -> list[EngineFacts]:
        """List the whole engines of an ONNX graph, for whichever GPU and version; `graph` is its SHA-256."""
        found = [self.get(path.stem) for path in sorted(self._folder.glob("*.plan"))]
        return [entry[1] for entry in found if entry is not None and entry[1].graph == graph]
