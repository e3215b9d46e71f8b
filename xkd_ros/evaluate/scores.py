"""Parts of an evaluation as plain data: confusion counts, reliability, entropy, score of each scan."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from pydantic import BaseModel, ConfigDict, RootModel, model_validator

from xkd_ros.core.labels import INDOOR12, INDOOR12_TO_STRUCT4, STRUCT4, LabelSet
from xkd_ros.metrics.confusion import Confusion
from xkd_ros.metrics.entropy import EntropyHistogram
from xkd_ros.metrics.reliability import Reliability


class Strict(BaseModel):
    """Plain numbers: unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Counts(RootModel[tuple[tuple[int, ...], ...]]):
    """A confusion matrix: row = labelled class, column = predicted class, last column = predicted as no class."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="after")
    def _square(self) -> Counts:
        if any(len(row) != len(self.root) + 1 for row in self.root) or any(count < 0 for row in self.root for count in row):
            raise ValueError("a confusion has C rows of C + 1 counts, none below 0")
        return self

    @classmethod
    def of(cls, confusion: Confusion) -> Counts:
        """Store a confusion."""
        return cls(tuple(tuple(int(count) for count in row) for row in confusion.counts))

    @property
    def confusion(self) -> Confusion:
        """The confusion itself, which gives the scores."""
        return Confusion.from_counts(np.array(self.root, np.int64).reshape(len(self.root), -1))


class ReliabilityTable(Strict):
    """Points, mean confidence and accuracy per bin of probability (None where a bin is empty), and the calibration error."""

    points: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]
    ece: float | None

    @classmethod
    def of(cls, reliability: Reliability) -> ReliabilityTable:
        """Store a reliability diagram."""
        points = [int(count) for count in reliability.points]
        confidence, accuracy = (
            tuple(float(value / count) if count else None for value, count in zip(sums, points))
            for sums in (reliability.confidence, reliability.hits)
        )
        return cls(points=tuple(points), confidence=confidence, accuracy=accuracy, ece=or_none(reliability.ece))


class EntropyTable(Strict):
    """Histogram of the normalised entropy of every labelled point: what is usual on this ground."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    mean: float | None

    @classmethod
    def of(cls, histogram: EntropyHistogram) -> EntropyTable:
        """Store a histogram."""
        edges = tuple(round(float(edge), 6) for edge in histogram.edges)
        return cls(edges=edges, counts=tuple(int(count) for count in histogram.counts), mean=or_none(histogram.mean))


class FrameScore(Strict):
    """One scan: mIoU over the classes that it shows or is said to show, over `points` labelled points."""

    number: int
    stamp_ns: int
    source: str
    rig: str
    points: int
    miou: float | None
    oacc: float | None


class LabelScores(Strict):
    """Scores against one kind of labels.

    Attributes:
        label_set: Classes that were counted.
        all, in_view, out_of_view: Every labelled point; those that a camera of the frame sees; the others.
        ranges: By distance from the sensor, for example "2-5 m".
        rigs: By rig.
        reliability: Of the probabilities as the robot publishes them.
        unscaled: The same at temperature 1; None when only finished labels were at hand.
        frames: Each scan with a labelled point.
    """

    label_set: LabelSet
    all: Counts
    in_view: Counts
    out_of_view: Counts
    ranges: dict[str, Counts]
    rigs: dict[str, Counts]
    reliability: ReliabilityTable
    unscaled: ReliabilityTable | None
    frames: tuple[FrameScore, ...]

    @model_validator(mode="after")
    def _classes(self) -> LabelScores:
        check_classes(self.rows().values(), self.label_set)
        return self

    def rows(self) -> dict[str, Counts]:
        """Every split by its heading."""
        views = {"all points": self.all, "in view": self.in_view, "out of view": self.out_of_view}
        return {**views, **self.ranges, **{f"rig {name}": counts for name, counts in self.rigs.items()}}


class TeacherScores(Strict):
    """Pseudo-labels and student against real labels, both at the points that have a pseudo-label."""

    label_set: LabelSet
    teacher: Counts
    student: Counts

    @model_validator(mode="after")
    def _classes(self) -> TeacherScores:
        check_classes((self.teacher, self.student), self.label_set)
        return self


def coarse(counts: Counts, label_set: LabelSet) -> Confusion | None:
    """Reduce twelve indoor classes to four structural ones; None for other label sets."""
    return counts.confusion.merged(INDOOR12_TO_STRUCT4, len(STRUCT4)) if label_set.names == INDOOR12.names else None


def check_classes(tables: Iterable[Counts], label_set: LabelSet) -> None:
    """Refuse a confusion of another number of classes.

    Raises:
        ValueError: found one.
    """
    if any(len(counts.root) != len(label_set) for counts in tables):
        raise ValueError(f"a confusion does not have the {len(label_set)} classes of its label set")


def or_none(value: float) -> float | None:
    """Turn NaN, which JSON lacks, into None."""
    return None if np.isnan(value) else float(value)
