"""Knowledge units on disk: folders of plain .npy files, one per some hundred frames, and a manifest that is written last.

<out>/plan.json                                             what is being written; a continuation must agree with it
<out>/part-00000/{numbers,first,label,score,origin,view,start,point,confidence}.npy
<out>/manifest.json                                         written last: without it the folder is not whole

`UnitWriter` fills a folder and can go on after an interruption; `UnitStore` reads a whole one.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from xkd_ros.bags.array_file import open_array
from xkd_ros.core.config import load_yaml
from xkd_ros.core.errors import ConfigError, ShapeError, XkdError
from xkd_ros.core.files import write_atomic
from xkd_ros.core.labels import LabelSet
from xkd_ros.distill.part_files import Columns, PartFiles, check_divides, write_columns
from xkd_ros.distill.partdistill.units import FrameUnits

MANIFEST_NAME, PLAN_NAME = "manifest.json", "plan.json"
_UNIT_COLUMNS = {"label": "u1", "score": "<f4", "origin": "u1", "view": "u1"}
_MEMBER_COLUMNS = {"point": "<i4", "confidence": "u1"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class UnitPlan(_Strict):
    """What a folder of units is made from; another plan never goes on in the same folder.

    Attributes:
        frames_hash: Of the frame store.
        class_hash: Identifies label set and class map.
        label_set: Names and colours of the classes.
        makers: Fingerprint and settings of each kind of teacher that made units.
        frames_per_part: Frames that are written, and resumed, together.
    """

    format: Literal[1] = 1
    frames_hash: str
    class_hash: str
    label_set: LabelSet
    makers: dict[str, dict[str, Any]]
    frames_per_part: int = Field(256, ge=1)

    def differences(self, other: UnitPlan) -> list[str]:
        """Name what two plans do not share."""
        named = {"frames": "frames_hash", "class map": "class_hash", "label set": "label_set", "teachers or settings": "makers"}
        return [name for name, key in named.items() if getattr(self, key) != getattr(other, key)]


class PartInfo(_Strict):
    """One file set: its folder, frames, units and members."""

    name: str
    frames: int = Field(ge=0)
    units: int = Field(ge=0)
    members: int = Field(ge=0)


class UnitManifest(UnitPlan):
    """A plan that was carried out."""

    parts: tuple[PartInfo, ...]

    @cached_property
    def hash(self) -> str:
        """Identify the units, which follow from the inputs named here; the cutting into parts does not count."""
        return hashlib.sha256(self.model_dump_json(exclude={"parts", "frames_per_part"}).encode()).hexdigest()[:16]


class UnitStore:
    """Units of every frame, by frame number.

    Attributes:
        manifest: What they were made from.
    """

    def __init__(self, folder: str | Path, frames_hash: str | None = None) -> None:
        """Open a whole store.

        Args:
            folder: Filled by a `UnitWriter`.
            frames_hash: Of the frame store that the units must belong to; None does not ask.
        Raises:
            XkdError: not whole, damaged, or of other frames.
        """
        self._folder = Path(folder)
        if not (self._folder / MANIFEST_NAME).is_file():
            raise XkdError(f"{folder} holds no whole set of units (no {MANIFEST_NAME}); run `xkd finetune`, which goes on where it stopped")
        self.manifest = load_yaml(self._folder / MANIFEST_NAME, UnitManifest)
        if frames_hash is not None and frames_hash != self.manifest.frames_hash:
            raise ConfigError(f"the units in {folder} are of other frames; make them again into an empty folder")
        self._parts = PartFiles(self._folder, [(part.name, part.frames) for part in self.manifest.parts], self._read, self._check, _REMEDY)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def hash(self) -> str:
        """Identifies these units."""
        return self.manifest.hash

    def __getitem__(self, number: int) -> FrameUnits:
        """Return the units of a frame.

        Raises:
            XkdError: the files are damaged.
        """
        try:
            columns, row = self._parts.find(number)
        except KeyError as error:
            raise IndexError(f"frame {number} has no units in {self._folder}") from error
        units = slice(int(columns["first"][row]), int(columns["first"][row + 1]))
        start = np.asarray(columns["start"][units.start : units.stop + 1])
        members = slice(int(start[0]), int(start[-1]))
        try:
            return FrameUnits(
                **{name: np.asarray(columns[name][units]) for name in _UNIT_COLUMNS},
                start=start - start[0],
                point=np.asarray(columns["point"][members]),
                confidence=columns["confidence"][members].astype(np.float32) / 255,
            )
        except ShapeError as error:
            raise XkdError(f"the units of frame {number} in {self._folder} are damaged ({error}); {_REMEDY}") from error

    def _read(self, folder: Path, index: int) -> Columns:
        part = self.manifest.parts[index]
        columns = {name: _column(folder, name, kind, part.units) for name, kind in _UNIT_COLUMNS.items()}
        columns |= {name: _column(folder, name, kind, part.members) for name, kind in _MEMBER_COLUMNS.items()}
        return columns | {
            "first": _column(folder, "first", "<i8", part.frames + 1),
            "start": _column(folder, "start", "<i8", part.units + 1),
        }

    def _check(self, folder: Path, columns: Columns) -> None:
        for name, end in (("first", len(columns["label"])), ("start", len(columns["point"]))):
            check_divides(folder, name, columns[name], end, _REMEDY)
        if len(columns["label"]) and int(columns["label"].max()) >= len(self.manifest.label_set):
            raise XkdError(f"{folder / 'label'}.npy has class {columns['label'].max()} of {len(self.manifest.label_set)}; {_REMEDY}")
        if not ((columns["score"] >= 0) & (columns["score"] <= 1)).all():
            raise XkdError(f"{folder / 'score'}.npy has scores that are not between 0 and 1: damaged; {_REMEDY}")


_REMEDY = "delete the folder and make the units again"


def _column(folder: Path, name: str, kind: str, length: int) -> np.ndarray:
    return open_array(folder / f"{name}.npy", (kind,), (length,), _REMEDY)


class UnitWriter:
    """Fills a folder part by part.

    Args:
        folder: May hold the parts of an interrupted run of the same plan.
        plan: What the units are made from.
    Raises:
        ConfigError: the folder holds units of another plan, or something else.
        XkdError: what it holds is damaged.
    """

    def __init__(self, folder: str | Path, plan: UnitPlan) -> None:
        self._folder = Path(folder)
        self.whole = (self._folder / MANIFEST_NAME).is_file()
        path = self._folder / (MANIFEST_NAME if self.whole else PLAN_NAME)
        earlier = load_yaml(path, UnitManifest if self.whole else UnitPlan) if path.is_file() else None
        if earlier is None and self._folder.is_dir() and any(not entry.name.startswith(".") for entry in self._folder.iterdir()):
            raise ConfigError(f"{folder} is not empty and holds no units; choose another folder")
        if earlier is not None and (different := plan.differences(earlier)):
            raise ConfigError(f"{folder} holds units of other {', '.join(different)}; delete it or choose another folder")
        self._plan = earlier or plan
        if earlier is None:
            write_atomic(path, plan.model_dump_json(indent=1))
        self._numbers: list[int] = []
        self._frames: list[FrameUnits] = []
        self._parts: list[PartInfo] = []
        while (part := self._finished(len(self._parts))) is not None:
            self._parts.append(part)

    @property
    def done(self) -> int:
        """Frames in finished parts."""
        return sum(part.frames for part in self._parts)

    def add(self, number: int, units: FrameUnits) -> None:
        """Take the units of one frame; every so many frames become a part."""
        self._numbers.append(number)
        self._frames.append(units)
        if len(self._frames) >= self._plan.frames_per_part:
            self._write_part()

    def finish(self) -> UnitStore:
        """Write the last part and the manifest."""
        if self._frames:
            self._write_part()
        content = {name: value for name, value in dict(self._plan).items() if name != "parts"}
        write_atomic(self._folder / MANIFEST_NAME, UnitManifest(**content, parts=tuple(self._parts)).model_dump_json(indent=1))
        return UnitStore(self._folder)

    def _finished(self, index: int) -> PartInfo | None:
        folder = self._folder / f"part-{index:05d}"
        if not folder.is_dir():
            return None
        counts = [len(_column(folder, name, kind, -1)) for name, kind in (("numbers", "<i8"), ("label", "u1"), ("point", "<i4"))]
        return PartInfo(name=folder.name, frames=counts[0], units=counts[1], members=counts[2])

    def _write_part(self) -> None:
        name, frames = f"part-{len(self._parts):05d}", self._frames
        sizes = [unit_sizes for units in frames for unit_sizes in units.sizes]
        columns = {
            "numbers": np.array(self._numbers, np.int64),
            "first": np.cumsum([0, *map(len, frames)]).astype(np.int64),
            "start": np.cumsum([0, *sizes]).astype(np.int64),
            "confidence": np.concatenate([np.rint(255 * units.confidence).astype(np.uint8) for units in frames]),
        }
        for column in (*_UNIT_COLUMNS, "point"):
            kind = {**_UNIT_COLUMNS, **_MEMBER_COLUMNS}[column]
            columns[column] = np.concatenate([getattr(units, column) for units in frames]).astype(kind)
        write_columns(self._folder / name, columns)
        self._parts.append(PartInfo(name=name, frames=len(frames), units=len(columns["label"]), members=len(columns["point"])))
        self._numbers, self._frames = [], []
