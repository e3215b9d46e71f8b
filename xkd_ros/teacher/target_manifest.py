"""What targets were made from; with it targets are recognised, continued, or refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from xkd_ros.core.config import load_yaml
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.labels import LabelSet
from xkd_ros.teacher.config import TargetConfig
from xkd_ros.teacher.targets import Frames, TeacherPair
from xkd_ros.teacher.teacher import Teacher

_FORMAT = 1


class TeacherRecord(BaseModel):
    """Which teacher gave something."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    fingerprint: str
    gives: tuple[str, ...]


class TargetManifest(BaseModel):
    """What targets were made from; everything that decides their values is here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = _FORMAT
    frames_hash: str
    frames: int
    teachers: tuple[TeacherRecord, ...]
    feature_width: int
    label_set: LabelSet | None
    class_hash: str
    config: TargetConfig
    points: int = 0

    @cached_property
    def hash(self) -> str:
        """Identify the targets; names of teachers and the cutting into shards do not count."""
        exclude: Any = {"points": True, "teachers": {"__all__": {"name"}}, "config": {"frames_per_shard"}}
        return hashlib.sha256(json.dumps(self.model_dump(mode="json", exclude=exclude), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def looks(self) -> str:
        """Fingerprint of the teacher that gives the features; "" without."""
        return next((record.fingerprint for record in self.teachers if "features" in record.gives), "")

    def difference(self, other: TargetManifest) -> str:
        """Say in what targets differ, from the side of these; empty when they agree and one may continue the other."""
        if self.frames_hash != other.frames_hash:
            return "other frames"
        if [record.fingerprint for record in self.teachers] != [record.fingerprint for record in other.teachers]:
            return f"another teacher or preprocessing ({', '.join(record.name for record in self.teachers)})"
        if self.class_hash != other.class_hash:
            return "another class map"
        return "" if self.hash == other.hash and self.config == other.config else "other settings"


def describe_targets(frames: Frames, teachers: Sequence[Teacher], config: TargetConfig) -> TargetManifest:
    """Say what would be made, without making it.

    Raises:
        ConfigError: the teachers do not fit together.
    """
    pair = TeacherPair(teachers)
    records = []
    for teacher in pair.distinct:
        gives = [name for name, giver in (("features", pair.features), ("scores", pair.scores)) if giver is teacher]
        records.append(TeacherRecord(name=teacher.name, fingerprint=teacher.fingerprint, gives=tuple(gives)))
    return TargetManifest(
        frames_hash=frames.hash,
        frames=len(frames),
        teachers=tuple(records),
        feature_width=pair.feature_width,
        label_set=pair.scores.label_set if pair.scores else None,
        class_hash=pair.scores.class_hash if pair.scores else "",
        config=config,
    )


def read_manifest(path: Path) -> TargetManifest:
    """Read a manifest or a plan.

    Raises:
        ConfigError: it is damaged or of another version.
    """
    manifest = load_yaml(path, TargetManifest)
    if manifest.format != _FORMAT:
        raise ConfigError(f"{path} has format {manifest.format}, this version reads {_FORMAT}: make the targets anew")
    return manifest
