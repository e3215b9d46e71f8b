"""Pseudo-labels on disk: folders of plain .npy files, one per few hundred frames, and a manifest that is written last.

`LabelWriter` fills a folder and can go on after an interruption; `LabelStore` reads a whole one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from xkd_ros.bags.array_file import open_array
from xkd_ros.core.config import load_yaml
from xkd_ros.core.errors import ConfigError, XkdError
from xkd_ros.core.files import inside, write_atomic
from xkd_ros.core.labels import LabelSet
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.consolidation import FrameLabels
from xkd_ros.distill.label_statistics import LabelStatistics
from xkd_ros.distill.part_files import Columns, PartFiles, check_divides, write_columns
from xkd_ros.distill.pseudo_config import PseudoConfig

MANIFEST_NAME, PLAN_NAME = "manifest.json", "plan.json"
_COLUMNS = ("labels", "confidence", "reason")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelPlan(_Strict):
    """What a folder of pseudo-labels is made from; another plan never goes on in the same folder.

    Attributes:
        frames_hash, targets_hash: The stores it was made from.
        class_hash: Identifies label set and class map.
        label_set: Names and colours of the K classes.
        config: Filters and consolidation.
        thresholds: Smallest confidence of each class.
    """

    format: Literal[1] = 1
    frames_hash: str
    targets_hash: str
    class_hash: str
    label_set: LabelSet
    config: PseudoConfig
    thresholds: tuple[float, ...] = ()

    def differences(self, other: LabelPlan) -> list[str]:
        """Name what two plans do not share; thresholds follow from the rest."""
        named = {"frames": "frames_hash", "targets": "targets_hash", "class map": "class_hash", "label set": "label_set"}
        found = [name for name, key in named.items() if getattr(self, key) != getattr(other, key)]
        settings = [key for key in PseudoConfig.model_fields if key != "frames_per_part"]
        return found + [key for key in settings if getattr(self.config, key) != getattr(other.config, key)]


class PartInfo(_Strict):
    """One file set: its folder, frames and points."""

    name: str
    frames: int
    points: int


class LabelManifest(LabelPlan):
    """A plan that was carried out: parts, and counts by split, class and reason (see `LabelStatistics`)."""

    parts: tuple[PartInfo, ...]
    statistics: dict[str, tuple[tuple[int, ...], ...]]

    @cached_property
    def hash(self) -> str:
        """Identify the labels, which follow from the inputs named here; the cutting into parts does not count."""
        content = self.model_dump_json(exclude={"parts": True, "config": {"frames_per_part"}})
        return hashlib.sha256(content.encode()).hexdigest()[:16]


class LabelStore:
    """Labels and confidence of every frame, by frame number."""

    def __init__(self, folder: str | Path, frames_hash: str | None = None) -> None:
        """Open a whole store.

        Args:
            folder: Written by `write_pseudo_labels`.
            frames_hash: Of the frame store that the labels must belong to; None does not ask.
        Raises:
            XkdError: not whole, damaged, or of other frames.
        """
        self.folder = Path(folder)
        if not (self.folder / MANIFEST_NAME).is_file():
            raise XkdError(f"{self.folder} holds no whole set of pseudo-labels; run `xkd pseudo`, which goes on where it stopped")
        self.manifest = load_yaml(self.folder / MANIFEST_NAME, LabelManifest)
        if frames_hash is not None and frames_hash != self.manifest.frames_hash:
            raise ConfigError(f"the pseudo-labels in {self.folder} are of other frames; run `xkd pseudo` again into an empty folder")
        self._parts = PartFiles(self.folder, [(part.name, part.frames) for part in self.manifest.parts], self._read, self._check, _REMEDY)

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return labels (N,) uint8, 255 unknown, and confidence (N,) float32, 0 where unknown."""
        columns = self._columns(number)
        return columns["labels"].copy(), columns["confidence"].astype(np.float32) / 255

    def reasons(self, number: int) -> np.ndarray:
        """Return (N,) uint8 of `Reason`: where a label comes from, or why there is none."""
        return self._columns(number)["reason"].copy()

    @property
    def hash(self) -> str:
        """Identifies these labels."""
        return self.manifest.hash

    @property
    def class_hash(self) -> str:
        """Identifies label set and class map."""
        return self.manifest.class_hash

    @property
    def label_set(self) -> LabelSet:
        """Names and colours of the classes."""
        return self.manifest.label_set

    def statistics(self, split: str | None = None) -> LabelStatistics:
        """Count what became of the points, over one split or all."""
        total = LabelStatistics(self.label_set.names)
        for name, counts in self.manifest.statistics.items():
            if split in (None, name):
                total.counts += np.array(counts, np.int64)
        return total

    def _columns(self, number: int) -> Columns:
        try:
            columns, row = self._parts.find(number)
        except KeyError as error:
            raise IndexError(f"frame {number} has no pseudo-labels in {self.folder}") from error
        rows = slice(int(columns["offsets"][row]), int(columns["offsets"][row + 1]))
        return {name: columns[name][rows] for name in _COLUMNS}

    def _read(self, folder: Path, index: int) -> Columns:
        part = self.manifest.parts[index]
        columns = {name: open_array(folder / f"{name}.npy", ("u1",), (part.points,), _REMEDY) for name in _COLUMNS}
        columns["offsets"] = np.array(open_array(folder / "offsets.npy", ("<i8",), (part.frames + 1,), _REMEDY))
        return columns

    def _check(self, folder: Path, columns: Columns) -> None:
        classes = len(self.label_set)
        check_divides(folder, "offsets", columns["offsets"], len(columns["labels"]), _REMEDY)
        strange = columns["labels"][(columns["labels"] >= classes) & (columns["labels"] != UNKNOWN)]
        if len(strange):
            raise XkdError(f"{folder / 'labels'}.npy has class {strange[0]} of {classes}: damaged; {_REMEDY}")


_REMEDY = "delete the folder and run `xkd pseudo` again"


class LabelWriter:
    """Fills a folder part by part.

    Args:
        folder: May hold the parts of an interrupted run of the same plan.
        plan: What the labels are made from; its thresholds may still be missing.
    Raises:
        ConfigError: the folder holds labels of another plan.
    """

    def __init__(self, folder: str | Path, plan: LabelPlan) -> None:
        self.folder = Path(folder)
        self.whole = (self.folder / MANIFEST_NAME).is_file()
        path = self.folder / (MANIFEST_NAME if self.whole else PLAN_NAME)
        earlier = load_yaml(path, LabelManifest if self.whole else LabelPlan) if path.is_file() else None
        if earlier is None and self.folder.is_dir() and any(not entry.name.startswith(".") for entry in self.folder.iterdir()):
            raise ConfigError(f"{self.folder} is not empty and holds no pseudo-labels; choose another folder")
        if earlier is not None and (different := plan.differences(earlier)):
            raise ConfigError(f"{self.folder} holds pseudo-labels of other {', '.join(different)}; delete it or choose another folder")
        self.plan = earlier or plan
        self._numbers: list[int] = []
        self._frames: list[FrameLabels] = []
        self._statistics: dict[str, LabelStatistics] = {}
        self._parts: list[PartInfo] = []
        while (part := self._finished(len(self._parts))) is not None:
            self._parts.append(part)

    @property
    def done(self) -> int:
        """Frames in finished parts."""
        return sum(part.frames for part in self._parts)

    def so_far(self, split: str) -> LabelStatistics:
        """Count what became of the points of a split, unwritten frames included."""
        total = LabelStatistics(self.plan.label_set.names)
        total.counts += np.array(self.statistics().get(split, 0), np.int64)
        if split in self._statistics:
            total.counts += self._statistics[split].counts
        return total

    def start(self, thresholds: np.ndarray) -> None:
        """Fix the thresholds before the first part."""
        self.plan = self.plan.model_copy(update={"thresholds": tuple(float(value) for value in thresholds)})
        write_atomic(self.folder / PLAN_NAME, self.plan.model_dump_json(indent=1))

    def add(self, number: int, split: str, labels: FrameLabels) -> None:
        """Take the labels of one frame; every so many frames become a part."""
        self._numbers.append(number)
        self._frames.append(labels)
        statistics = self._statistics.setdefault(split, LabelStatistics(self.plan.label_set.names))
        statistics.add(labels.own_label, labels.own_reason, labels.labels, labels.reason)
        if len(self._frames) >= self.plan.config.frames_per_part:
            self._write_part()

    def finish(self) -> LabelStore:
        """Write the last part and the manifest."""
        if self._frames:
            self._write_part()
        manifest = LabelManifest(**dict(self.plan), parts=tuple(self._parts), statistics=self.statistics())
        write_atomic(self.folder / MANIFEST_NAME, manifest.model_dump_json(indent=1))
        return LabelStore(self.folder)

    def statistics(self) -> dict[str, tuple[tuple[int, ...], ...]]:
        """Sum the counts of all finished parts by split."""
        totals: dict[str, np.ndarray] = {}
        for part in self._parts:
            for path in sorted(inside(self.folder, part.name).glob("counts-*.npy")):
                split = path.stem.removeprefix("counts-")
                counts = open_array(path, ("<i8",), (len(self.plan.label_set) + 1, -1), _REMEDY)
                totals[split] = totals[split] + counts if split in totals else counts
        return {split: tuple(tuple(int(value) for value in row) for row in counts) for split, counts in totals.items()}

    def _finished(self, index: int) -> PartInfo | None:
        folder = self.folder / f"part-{index:05d}"
        if not folder.is_dir():
            return None
        offsets = open_array(folder / "offsets.npy", ("<i8",), (-1,), _REMEDY)
        return PartInfo(name=folder.name, frames=len(offsets) - 1, points=int(offsets[-1]))

    def _write_part(self) -> None:
        name = f"part-{len(self._parts):05d}"
        offsets = np.cumsum([0, *(len(frame.labels) for frame in self._frames)])
        columns = {
            "numbers": np.array(self._numbers, np.int64),
            "offsets": offsets.astype(np.int64),
            "labels": _joined([frame.labels for frame in self._frames]),
            "confidence": _joined([np.rint(255 * frame.confidence).astype(np.uint8) for frame in self._frames]),
            "reason": _joined([frame.reason for frame in self._frames]),
            **{f"counts-{split}": statistics.counts for split, statistics in self._statistics.items()},
        }
        write_columns(self.folder / name, columns)
        self._parts.append(PartInfo(name=name, frames=len(self._frames), points=int(offsets[-1])))
        self._numbers, self._frames, self._statistics = [], [], {}


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.uint8), *arrays])
