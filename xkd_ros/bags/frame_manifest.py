"""`manifest.json` of a frame store: what is in it, from which recordings, by which settings. Written last: without it there is no store."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.core.card import IntensityConfig
from xkd_ros.core.config import describe
from xkd_ros.core.errors import BagError
from xkd_ros.core.files import write_atomic
from xkd_ros.core.rig import RigConfig

MANIFEST_NAME = "manifest.json"
_LARGEST_BYTES = 400_000_000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceEntry(_Strict):
    """One recording, seen by one of its lidars.

    Attributes:
        bag: File or folder name of the recording.
        sha256: Of its files' names, sizes and contents.
        poses: Where its poses are from; empty without.
        truth: Names of the true labels, id by id; empty without. `truth_hash` identifies them as `LabelSet.hash` does.
        skipped: Reason to number of scans and pictures that are not in the store.
        notes: What a person should know, one line each.
    """

    name: str
    bag: str
    sha256: str
    rig: str
    points_topic: str
    scans: int
    pairs: int
    frames: int
    deskewed: int
    poses: str = ""
    truth: tuple[str, ...] = ()
    truth_hash: str = ""
    truth_frames: int = 0
    body_points: int = Field(0, description="points that were left out as the robot's own")
    skipped: dict[str, int] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


class FrameEntry(_Strict):
    """One frame, without its content."""

    stamp_ns: int
    source: str
    split: Literal["train", "val", "test"]
    points: int = Field(ge=0)
    views: int = Field(ge=0)


class ShardEntry(_Strict):
    """Consecutive frames in one folder; `files` is name to (bytes, sha256)."""

    frames: int = Field(ge=0)
    files: dict[str, tuple[int, str]]


class FrameManifest(_Strict):
    """Everything about a store but points and pictures; frames are in order of their numbers."""

    format: Literal[1] = 1
    plan: str = Field(description="hash of recordings, settings and calibration: equal plans give equal stores")
    config: FrameConfig
    labels: str = Field("", description="hash of the folder of label files; empty without")
    sources: tuple[SourceEntry, ...]
    rigs: dict[str, RigConfig]
    intensity: dict[str, IntensityConfig] = Field(description="rig name to statistics; the default where a rig has no intensity")
    shards: tuple[ShardEntry, ...]
    frames: tuple[FrameEntry, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def hash(self) -> str:
        """Identify the content of the store, files included."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def count(self, split: str) -> int:
        """Count the frames of a split."""
        return sum(frame.split == split for frame in self.frames)


def save_manifest(manifest: FrameManifest, folder: Path) -> None:
    """Write `manifest.json` atomically."""
    write_atomic(folder / MANIFEST_NAME, manifest.model_dump_json(indent=1) + "\n")


def load_manifest(folder: Path) -> FrameManifest:
    """Read and check `manifest.json`.

    Raises:
        BagError: no store, an unfinished one, or a manifest that breaks its own rules.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        hint = "its writing was not finished" if (folder / "shards").is_dir() else "it is no frame store"
        raise BagError(
            f"{folder} has no {MANIFEST_NAME}: {hint}; write the frames again" if folder.is_dir() else f"{folder} does not exist"
        )
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise BagError(f"{path} has {path.stat().st_size} bytes: damaged; write the frames again")
        manifest = FrameManifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BagError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        raise BagError(f"{path} is damaged ({describe(error, FrameManifest)}); write the frames again") from error
    names = {source.name: source.rig for source in manifest.sources}
    if sum(shard.frames for shard in manifest.shards) != len(manifest.frames) or any(
        frame.source not in names for frame in manifest.frames
    ):
        raise BagError(f"{path} contradicts itself: its frames do not match its shards and sources; write the frames again")
    if missing := [rig for rig in names.values() if rig not in manifest.rigs or rig not in manifest.intensity]:
        raise BagError(f"{path} has no rig '{missing[0]}', which a source names; write the frames again")
    return manifest
