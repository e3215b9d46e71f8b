"""Which class of ours each of the 150 ADE20K classes is: YAML presets in config/classes, or a file of the user."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from xkd_ros.core.config import load_yaml
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.labels import INDOOR12, STRUCT4, LabelSet
from xkd_ros.core.share import find_shared, share_folders
from xkd_ros.core.types import UNKNOWN

ADE20K_COUNT = 150
IGNORE = "ignore"
# How the names of a model must start, by its class id: hard-coded maps found in public code are sometimes shifted by one (METHODS 8.2).
ADE20K_ANCHORS = {0: "wall", 3: "floor", 5: "ceiling", 8: "window", 12: "person", 14: "door", 15: "table", 19: "chair"}
_LABEL_SETS = {"indoor12": INDOOR12, "struct4": STRUCT4}
_FOLDER = "config/classes"


class ClassMap(BaseModel):
    """Groups of ADE20K ids, one per class of ours, and the group `ignore`; every id stands in exactly one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    label_set: LabelSet = Field(alias="labels", description="indoor12, struct4, or names and colours of your own")
    classes: dict[str, tuple[int, ...]] = Field(description="class name or `ignore` → ADE20K ids, 0 = wall")

    @model_validator(mode="before")
    @classmethod
    def _named_label_set(cls, content: Any) -> Any:
        if isinstance(content, dict) and isinstance(content.get("labels"), str):
            if content["labels"] not in _LABEL_SETS:
                raise ValueError(f"labels '{content['labels']}' is unknown: use {', '.join(_LABEL_SETS)}, or give names and colours")
            return {**content, "labels": _LABEL_SETS[content["labels"]]}
        return content

    @model_validator(mode="after")
    def _complete(self) -> ClassMap:
        unknown = set(self.classes) - {*self.label_set.names, IGNORE}
        absent = set(self.label_set.names) - set(self.classes)
        if unknown or absent:
            raise ValueError(f"groups and labels differ: no label for {sorted(unknown)}, no group for {sorted(absent)}")
        given = [number for group in self.classes.values() for number in group]
        doubled = sorted({number for number in given if given.count(number) > 1})
        missing = sorted(set(range(ADE20K_COUNT)) - set(given))
        outside = sorted(set(given) - set(range(ADE20K_COUNT)))
        if doubled or missing or outside:
            raise ValueError(
                f"each ADE20K id from 0 to {ADE20K_COUNT - 1} must stand once: "
                f"twice {doubled}, missing {missing[:12]}{' ...' if len(missing) > 12 else ''}, unknown {outside}"
            )
        return self

    @cached_property
    def ade20k(self) -> dict[int, int]:
        """ADE20K id → class id of the label set, 255 = ignored; sorted by ADE20K id."""
        number = {name: place for place, name in enumerate(self.label_set.names)} | {IGNORE: UNKNOWN}
        return dict(sorted((ade, number[name]) for name, group in self.classes.items() for ade in group))

    @cached_property
    def groups(self) -> np.ndarray:
        """Matrix that sums ADE20K scores into ours: (C + 1, 150) float32 of zeros and ones, the last row is what is ignored."""
        matrix = np.zeros((len(self.label_set) + 1, ADE20K_COUNT), np.float32)
        for ade, ours in self.ade20k.items():
            matrix[-1 if ours == UNKNOWN else ours, ade] = 1
        return matrix

    @cached_property
    def hash(self) -> str:
        """Identify names and mapping: targets, models and results of different hashes must not be mixed or compared."""
        return hashlib.sha256(json.dumps([self.label_set.names, list(self.ade20k.items())]).encode()).hexdigest()[:16]


def load_class_map(name: str | Path) -> ClassMap:
    """Load a preset by its name (indoor12, struct4_seed, struct4_aligned) or a YAML file by its path.

    Raises:
        ConfigError: no such preset or file, or a map that is not complete.
    """
    path = Path(name).expanduser()
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return load_yaml(path, ClassMap)
    try:
        return load_yaml(find_shared(f"{_FOLDER}/{path.name}.yaml"), ClassMap)
    except ConfigError as error:
        presets = sorted({file.stem for folder in share_folders() for file in (folder / _FOLDER).glob("*.yaml")})
        if path.name in presets and path.name == str(name):
            raise
        raise ConfigError(f"there is no class map '{name}'; give a YAML file, or one of: {', '.join(presets)}") from error
