"""Stored frames and their units → training items: a scan, its units, and labels where they are given or simulated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xkd_ros.core.errors import ConfigError, XkdError
from xkd_ros.core.types import UNKNOWN, NetInput
from xkd_ros.distill.frame_samples import Frames
from xkd_ros.distill.labelled_frames import LabelledItem, Labels
from xkd_ros.distill.partdistill.units import FrameUnits, Units
from xkd_ros.distill.passes import ShuffledPasses, first_usable
from xkd_ros.distill.student_input import StudentInput
from xkd_ros.nets.batch import Batch, collate
from xkd_ros.points.places import places


@dataclass(frozen=True, eq=False)
class UnitCount:
    """How the units of the training frames are numbered through, and how many members each class has.

    Attributes:
        frames: (F,) int64 frame numbers, ascending.
        first: (F + 1,) int64 number of the first unit of each frame.
        label: (U,) int64 class that each unit claims.
        members: (C,) int64.
    """

    frames: np.ndarray
    first: np.ndarray
    label: np.ndarray
    members: np.ndarray

    @property
    def units(self) -> int:
        """Units in all."""
        return int(self.first[-1])

    def span(self, frame: int) -> slice:
        """Numbers of the units of a frame."""
        place = int(np.searchsorted(self.frames, frame))
        return slice(int(self.first[place]), int(self.first[place + 1]))


def count_units(units: Units, frames: np.ndarray, classes: int) -> UnitCount:
    """Number the units of some frames.

    Raises:
        ConfigError: there are none, or one claims what is no class.
    """
    members, counts, labels = np.zeros(classes, np.int64), [0], [np.zeros(0, np.int64)]
    for frame in frames.tolist():
        found = units[frame]
        if len(found) and int(found.label.max()) >= classes:
            raise ConfigError(f"a unit of frame {frame} claims class {found.label.max()}, the student has {classes}; use its class map")
        members += np.bincount(found.label, found.sizes, minlength=classes).astype(np.int64)
        counts.append(len(found))
        labels.append(found.label.astype(np.int64))
    if not sum(counts):
        raise ConfigError(f"{len(frames)} training frames hold not one unit: check the teacher, the class map and the calibration")
    return UnitCount(frames, np.cumsum(counts), np.concatenate(labels), members)


@dataclass(frozen=True, eq=False)
class UnitItem:
    """One scan of N points.

    Attributes:
        scan: The network's input.
        point, unit: (P,) int64 members: point of the scan, and unit of the item.
        confidence: (P,) float32.
        label, number: (U,) int64 claimed class, and number among all units.
        labels, label_confidence: (N,) uint8, 255 unknown, and float32.
    """

    scan: NetInput
    point: np.ndarray
    unit: np.ndarray
    confidence: np.ndarray
    label: np.ndarray
    number: np.ndarray
    labels: np.ndarray
    label_confidence: np.ndarray

    @classmethod
    def of(cls, item: LabelledItem) -> UnitItem:
        """Take a scan that has labels and no units."""
        none = np.zeros(0, np.int64)
        return cls(item.scan, none, none, np.zeros(0, np.float32), none, none, item.labels, item.confidence)


@dataclass(frozen=True, eq=False)
class UnitBatch:
    """Scans laid end to end: the attributes of `UnitItem` as tensors."""

    batch: Batch
    point: Tensor
    unit: Tensor
    confidence: Tensor
    label: Tensor
    number: Tensor
    labels: Tensor
    label_confidence: Tensor

    def to(self, device: torch.device | str) -> UnitBatch:
        """Copy to a device."""
        columns = (self.point, self.unit, self.confidence, self.label, self.number, self.labels, self.label_confidence)
        return UnitBatch(self.batch.to(device), *(column.to(device, non_blocking=True) for column in columns))


class UnitSamples:
    """Number → item; the number alone decides frame and augmentation. Frames that teach nothing give way to the next."""

    def __init__(
        self,
        frames: Frames,
        units: Units,
        count: UnitCount,
        student_input: StudentInput,
        seed: int,
        labels: Labels | None = None,
        labelled: np.ndarray | None = None,
        generated: Callable[[int], LabelledItem] | None = None,
        labelled_share: float = 0.0,
        generated_share: float = 0.0,
    ) -> None:
        """Configure.

        Args:
            frames: Frame store.
            units: Of these frames.
            count: Their numbers.
            student_input: Augmentation and preprocessing.
            seed: Of order and augmentation.
            labels: Of these frames.
            labelled: Frames whose labels may be learnt from; None: not one.
            generated: Number → a labelled scan from elsewhere.
            labelled_share: At least so many of the scans have labels: a handful of hand-labelled ones would hardly ever come.
            generated_share: How often a generated scan is taken instead.
        """
        self._frames, self._units, self._count = frames, units, count
        self._input, self._seed, self._labels = student_input, seed, labels
        self._labelled = frozenset(() if labelled is None else labelled.tolist())
        self._generated, self._generated_share = generated, generated_share if generated else 0.0
        natural = len(self._labelled) / len(count.frames)
        self._preferred = max(0.0, (labelled_share - natural) / (1 - natural)) if 0 < natural < 1 else 0.0
        self._few = np.array(sorted(self._labelled), np.int64)
        self._few_order = ShuffledPasses(len(self._few), seed)
        self._order = ShuffledPasses(len(count.frames), seed)

    @property
    def ordinary_share(self) -> float:
        """How many of the items are of frames in their turn, neither generated nor preferred for their labels."""
        return (1 - self._generated_share) * (1 - self._preferred)

    def __call__(self, number: int) -> UnitItem:
        """Make item `number`.

        Raises:
            ConfigError: hundreds of frames in a row teach nothing.
            XkdError: units that name points which a frame does not have.
        """
        if self._generated and np.random.default_rng((self._seed, number, 1)).random() < self._generated_share:
            return UnitItem.of(self._generated(number))
        return first_usable(self._make, number, "too few points, or neither a unit nor a label")

    def _make(self, number: int) -> UnitItem | None:
        rng = np.random.default_rng((self._seed, number))
        if np.random.default_rng((self._seed, number, 2)).random() < self._preferred:
            index = int(self._few[self._few_order(number)])
        else:
            index = int(self._count.frames[self._order(number)])
        frame, units = self._frames.scan(index), self._units[index]
        known = np.zeros(len(frame.points_m), bool)
        known[inside_frame(units, index, len(known))] = True
        labels, confidence = self._known_labels(index, len(known))
        known |= labels != UNKNOWN
        if len(known) < self._input.least_points or not known.any():
            return None
        scan, raw = self._input(frame, rng, None, known)
        if len(scan) < self._input.least_points:
            return None
        point = places(raw, len(known))[units.point]
        seen = point >= 0
        span = self._count.span(index)
        return UnitItem(
            scan=scan,
            point=point[seen],
            unit=units.unit[seen],
            confidence=units.confidence[seen],
            label=units.label.astype(np.int64),
            number=np.arange(span.start, span.stop),
            labels=labels[raw],
            label_confidence=confidence[raw],
        )

    def _known_labels(self, index: int, points: int) -> tuple[np.ndarray, np.ndarray]:
        if self._labels is None or index not in self._labelled:
            return np.full(points, UNKNOWN, np.uint8), np.zeros(points, np.float32)
        return self._labels[index]


def inside_frame(units: FrameUnits, number: int, points: int) -> np.ndarray:
    """Return the points of the units of a frame.

    Raises:
        XkdError: one is not among the points of the frame.
    """
    strange = units.point[(units.point < 0) | (units.point >= points)]
    if len(strange):
        raise XkdError(f"frame {number} has {points} points and its units name point {strange[0]}: they are of other frames, or damaged")
    return units.point


def collate_units(items: Sequence[UnitItem]) -> UnitBatch:
    """Lay scans, units and labels end to end."""
    points = np.cumsum([0, *(len(item.scan) for item in items)])
    units = np.cumsum([0, *(len(item.label) for item in items)])

    def joined(columns: list[np.ndarray], kind: type) -> Tensor:
        return torch.from_numpy(np.concatenate(columns).astype(kind))

    return UnitBatch(
        collate([item.scan for item in items]),
        joined([item.point + start for item, start in zip(items, points)], np.int64),
        joined([item.unit + start for item, start in zip(items, units)], np.int64),
        joined([item.confidence for item in items], np.float32),
        joined([item.label for item in items], np.int64),
        joined([item.number for item in items], np.int64),
        joined([item.labels for item in items], np.int64),
        joined([item.label_confidence for item in items], np.float32),
    )
