"""Built inference engines on disk: found again only for the same graph, precision, shapes, GPU and builder version."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from xkd_ros.core.files import sha256, write_atomic


def engine_key(**facts: object) -> str:
    """Name an engine by everything it depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]


class EngineStore:
    """A folder of `<key>.plan` and `<key>.json` pairs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> tuple[bytes, float] | None:
        """Return an engine and its measured label agreement; None when absent, half-written or altered."""
        plan, facts = self._paths(key)
        try:
            content = json.loads(facts.read_text())
            share, digest = float(content["agreement"]), str(content["sha256"])
            return (plan.read_bytes(), share) if sha256(plan) == digest else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, engine: bytes, agreement: float) -> None:
        """Store an engine, each file whole or not at all, the one that vouches for the other last.

        Raises:
            XkdError: the folder cannot be written.
        """
        plan, facts = self._paths(key)
        write_atomic(plan, engine)
        write_atomic(facts, json.dumps({"agreement": agreement, "sha256": hashlib.sha256(engine).hexdigest()}))

    def forget(self, key: str) -> None:
        """Remove an engine that turned out to be unusable."""
        for path in self._paths(key):
            path.unlink(missing_ok=True)

    def _paths(self, key: str) -> tuple[Path, Path]:
        return self._folder / f"{key}.plan", self._folder / f"{key}.json"
