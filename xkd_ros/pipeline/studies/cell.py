"""One cell of a study: what is computed at once, and the small JSON that it leaves behind."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Cell(_Strict):
    """One training and its evaluation.

    Attributes:
        study: Name of the study.
        name: Of the cell; also of its file.
        seed: Repetition; cells of equal seeds are compared in pairs.
        parameters: What differs between cells, and the teacher's name.
        scale: All sizes.
    """

    study: str
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=120)
    seed: int = Field(ge=0)
    parameters: dict[str, Any]
    scale: dict[str, Any]

    @property
    def key(self) -> str:
        """Identify everything that the cell is defined by."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:16]


class CellResult(_Strict):
    """What a finished cell found.

    Attributes:
        cell, key: The cell; the key shows when its definition has changed since.
        class_hash: Of the class map; results of different ones are never compared.
        inputs: Hashes of the frames it was evaluated on and of the teacher.
        metrics: What tables need.
        seconds: Of the cell itself, since it was last begun.
        shared_seconds: For what other cells use too: recordings, teacher, distillation.
        machine, versions: Where it ran.
    """

    format: Literal[1] = 1
    cell: Cell
    key: str
    class_hash: str
    inputs: dict[str, str]
    metrics: dict[str, Any]
    seconds: float
    shared_seconds: float = 0.0
    machine: dict[str, Any] = {}
    versions: dict[str, str] = {}
