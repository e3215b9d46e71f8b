"""Names and colours of the classes, and the map from twelve indoor classes to four structural ones."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

UNKNOWN_COLOUR = (64, 64, 64)


class LabelSet(BaseModel):
    """Class ids are positions in these two lists."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]

    @model_validator(mode="after")
    def _complete(self) -> LabelSet:
        if not self.names or len(self.names) != len(self.colours) or len(self.names) > 254:
            raise ValueError(f"{len(self.names)} names and {len(self.colours)} colours; one colour per name, 1 to 254 classes")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"class names repeat: {self.names}")
        if any(not 0 <= channel <= 255 for colour in self.colours for channel in colour):
            raise ValueError("colours are (red, green, blue) from 0 to 255")
        return self

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def hash(self) -> str:
        """Identify the class map: results of different hashes must not be compared."""
        return hashlib.sha256(json.dumps(self.names).encode()).hexdigest()[:16]

    @cached_property
    def palette(self) -> np.ndarray:
        """Colours as (256, 3) uint8; every id without a class is dark grey."""
        palette = np.full((256, 3), UNKNOWN_COLOUR, np.uint8)
        palette[: len(self.colours)] = self.colours
        return palette


INDOOR12 = LabelSet(
    names=(
        "wall", "floor", "ceiling", "door", "window", "column",
        "stairs", "table", "chair", "furniture", "person", "clutter",
    ),
    colours=(
        (174, 184, 196), (120, 94, 64), (232, 222, 180), (226, 120, 30), (70, 190, 230), (110, 80, 160),
        (200, 60, 140), (46, 139, 87), (150, 205, 50), (30, 90, 200), (230, 30, 40), (250, 210, 50),
    ),
)  # fmt: skip
"""METHODS 8.3."""

STRUCT4 = LabelSet(
    names=("wall", "floor", "ceiling", "non-structural"), colours=((174, 184, 196), (120, 94, 64), (232, 222, 180), (30, 90, 200))
)
"""METHODS 8.4, preset struct4_aligned."""

INDOOR12_TO_STRUCT4 = np.full(256, 255, np.uint8)
"""(256,) uint8: wall and column are wall, floor, ceiling, everything else non-structural, unknown stays 255."""
INDOOR12_TO_STRUCT4[:12] = [0, 1, 2, 3, 3, 0, 3, 3, 3, 3, 3, 3]
