"""Everything about a frame store that is decided before the first frame is read: sources, rigs, splits, and their hash.

Recordings and settings come in, a `FrameJob` goes out; next: `frame_writer`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.frame_plan import PlannedFrame
from xkd_ros.bags.frame_source import FrameSource
from xkd_ros.bags.source_survey import Survey, survey_sources
from xkd_ros.bags.split import GAP, assign_splits
from xkd_ros.core.errors import BagError
from xkd_ros.core.files import sha256
from xkd_ros.core.progress import Report
from xkd_ros.core.rig import RigConfig, load_rig

# Changes whenever the same recordings and settings give other frames than before.
_FORMAT = 1
# Numbers that differ less than this are one calibration.
_DIGITS = 6
# Poses, names and offsets of a frame; a view; names of files and the manifest.
_FRAME_BYTES, _VIEW_BYTES, _STORE_BYTES = 450, 170, 20_000


Stretch = tuple[int, list[tuple[PlannedFrame, int]]]
"""Index of a source, and consecutive frames of it with their splits: one shard."""


@dataclass(eq=False)
class FrameJob:
    """What is to be written.

    Attributes:
        surveys: The sources, and what a sample of each tells.
        hashes: Of the recording, per source; empty when they were not asked for.
        labels: Hash of the label folder; empty without.
        kept: Per source the frames and their splits (index into SPLITS).
        notes: What a person should know, one line each.
        config: Settings.
    """

    surveys: list[Survey]
    hashes: list[str]
    labels: str
    kept: list[list[tuple[PlannedFrame, int]]]
    notes: list[str]
    config: FrameConfig

    @property
    def frames(self) -> int:
        """Number of frames."""
        return sum(map(len, self.kept))

    @property
    def bytes(self) -> int:
        """Size on disk, about."""
        total = _STORE_BYTES
        for survey, kept in zip(self.surveys, self.kept):
            share = len(kept) / max(1, len(survey.source.plan.frames))
            views = sum(len(frame.pictures) for frame, _ in kept)
            total += round(
                len(kept) * (survey.points * survey.point_bytes + _FRAME_BYTES) + views * _VIEW_BYTES + share * survey.picture_bytes
            )
        return total

    @property
    def plan(self) -> str:
        """Hash of what decides the content of the store."""
        content = {
            "format": _FORMAT,
            "config": self.config.model_dump(mode="json"),
            "bags": self.hashes,
            "labels": self.labels,
            "rigs": [survey.source.rig.model_dump(mode="json") for survey in self.surveys],
            "names": [survey.source.name for survey in self.surveys],
            "frames": [[(frame.stamp_ns, split) for frame, split in kept] for kept in self.kept],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def stretches(self) -> Iterator[Stretch]:
        """Yield source index and frames of each shard; a shard is of one source."""
        size = self.config.shard_frames
        for index, kept in enumerate(self.kept):
            for first in range(0, len(kept), size):
                yield index, kept[first : first + size]


def bag_hash(path: Path) -> str:
    """Hash a recording: names, sizes and contents of its files."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in files:
        name = file.relative_to(path).as_posix() if file != path else file.name
        total.update(f"{name}\0{file.stat().st_size}\0{sha256(file)}\n".encode())
    return total.hexdigest()


def prepare_job(
    bags: Sequence[Path],
    config: FrameConfig,
    rig: Path | Sequence[Path] | None,
    labels: Path | None,
    hashed: bool,
    surveyed: Report | None = None,
) -> FrameJob:
    """Open the recordings and decide what becomes a frame.

    Args:
        bags, config, rig, labels: As for `write_frames`.
        hashed: Read the recordings in full for their hashes.
        surveyed: Called with recordings looked at, recordings in all, and nothing.
    Raises:
        BagError, CalibrationError: as for `write_frames`.
    """
    if not bags:
        raise BagError("no recording was given; name at least one bag")
    if labels is not None and not labels.exists():
        raise BagError(f"there are no labels at {labels}; give a folder of <stamp_ns>.npz, PLY, PCD or CSV files")
    rig_files = [rig] if isinstance(rig, (str, Path)) else list(rig or ())
    rigs = [load_rig(path) for path in rig_files]
    surveys: list[Survey] = []
    hashes: list[str] = []
    label_hash = bag_hash(labels) if hashed and labels is not None else ""
    for number, bag in enumerate(map(Path, bags)):
        if surveyed:
            surveyed(number, len(bags), {})
        found = survey_sources(bag, rigs, labels, config)
        own = bag_hash(found[0].source.path) if hashed else ""
        if own and own in hashes:
            raise BagError(f"{surveys[hashes.index(own)].source.path} and {bag} are the same recording: give it once")
        surveys += found
        hashes += [own] * len(found)
    sources = [survey.source for survey in surveys]
    _name_apart(sources)
    _merge_rigs(sources)
    if labels is not None and not any(source.truth is not None and source.truth.given for source in sources):
        raise BagError(f"no label file in {labels} carries the stamp of a scan in {', '.join(str(bag) for bag in bags)}")
    stamps = [np.array([frame.stamp_ns for frame in source.plan.frames], np.int64) for source in sources]
    names, rig_names, paths = zip(*((source.name, source.rig.name, Path(source.path)) for source in sources))
    splits, notes = assign_splits(stamps, names, rig_names, paths, config)
    kept = [
        [(frame, int(split)) for frame, split in zip(source.plan.frames, chosen) if split != GAP] for source, chosen in zip(sources, splits)
    ]
    return FrameJob(surveys, hashes, label_hash, kept, notes, config)


def _name_apart(sources: Sequence[FrameSource]) -> None:
    """Give recordings of equal names, and the lidars of one recording, names of their own."""
    own = Counter(source.name for source in sources)
    taken: set[str] = set()
    for source in sources:
        name, number = source.name, 1
        # A name made up here must not be one that another recording brings along: "walk" twice, and "walk_2".
        while name in taken or (number > 1 and name in own):
            number += 1
            name = f"{source.name}_{number}"
        source.name = name
        taken.add(name)


def _merge_rigs(sources: Sequence[FrameSource]) -> None:
    """Give equal rigs one name and different ones different names."""
    known: dict[str, tuple[str, RigConfig]] = {}
    for source in sources:
        content = json.dumps(_rounded(source.rig.model_dump(mode="json", exclude={"name"})), sort_keys=True)
        if content not in known:
            taken = {name for name, _ in known.values()}
            name, number = source.rig.name, 1
            while name in taken:
                number += 1
                name = f"{source.rig.name}_{number}"
            known[content] = name, source.rig.model_copy(update={"name": name})
        source.rig = known[content][1]


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, _DIGITS) + 0.0
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
