"""How good is a model on a frame store? Real and pseudo-labels, in and out of the camera's view, by range, by rig (METHODS 2.7, 3.7).

In: a model's answer per scan, frames, labels. Out: an `Evaluation`. Everything is counted at raw-scan resolution.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from xkd_ros.core.errors import ConfigError, ShapeError
from xkd_ros.core.labels import LabelSet
from xkd_ros.core.progress import Report
from xkd_ros.core.types import UNKNOWN, Segmentation
from xkd_ros.evaluate.evaluation import Evaluation
from xkd_ros.evaluate.real_labels import match_real_labels
from xkd_ros.evaluate.scan_logits import Labels, ScanLogits
from xkd_ros.evaluate.scores import Counts, EntropyTable, FrameScore, LabelScores, ReliabilityTable, TeacherScores, or_none
from xkd_ros.metrics.confusion import Confusion
from xkd_ros.metrics.entropy import EntropyHistogram
from xkd_ros.metrics.reliability import Reliability

if TYPE_CHECKING:
    from xkd_ros.bags.frame import Frame
    from xkd_ros.bags.frame_store import FrameStore

Segment = Callable[[np.ndarray, np.ndarray | None, np.ndarray | None], Segmentation | ScanLogits]
"""(points_m (N, 3), intensity (N,) or None, levelled_from_lidar (3, 3)) → finished labels, or logits to make them from."""

RANGES_M = (0.0, 2.0, 5.0, 10.0, 20.0, np.inf)


def seen_points(frame: Frame) -> np.ndarray:
    """Find the points that at least one view of the frame sees: in its image and not behind another point.

    Returns:
        (N,) bool; all False without views.
    """
    seen = np.zeros(len(frame.points_m), bool)
    for view in frame.views:
        seen |= view.see(frame.points_m)[1]
    return seen


def range_names() -> tuple[str, ...]:
    """Name the range bins."""
    return tuple(f"{low:g}-{high:g} m" if np.isfinite(high) else f"over {low:g} m" for low, high in pairwise(RANGES_M))


def evaluate_frames(
    segment: Segment,
    frames: FrameStore,
    numbers: Sequence[int] | np.ndarray,
    against: Labels | None,
    label_set: LabelSet,
    progress: Report | None = None,
    *,
    temperature: float | None = None,
    class_hash: str | None = None,
    model: str = "",
    model_hash: str = "",
    before: Callable[[Frame], None] | None = None,
) -> Evaluation:
    """Label frames and compare with their real labels (`frame.truth`) and with pseudo-labels.

    Args:
        segment: `runtime.Segmenter.segment`, or `logits_of(segmenter)`, which also gives the calibration before temperature scaling.
        frames: Where the frames are.
        numbers: Which of them.
        against: Pseudo-labels by frame number, or None.
        label_set: Classes of model and pseudo-labels; real labels may have others, see `match_real_labels`.
        progress: Called after each frame with the mIoU so far, in percent.
        temperature: Divides logits; None is 1. Finished labels already hold theirs.
        class_hash: Hash of the class map behind the labels; None takes the label set's own.
        model, model_hash: Go into the result.
        before: Called with each frame before its scan is labelled, for example to set the intensity statistics of its rig.
    Returns:
        The evaluation.
    Raises:
        ShapeError: labels or an answer do not fit the points of their frame.
        ConfigError: a label is neither a class of the label set nor unknown.
    """
    real = match_real_labels(frames, label_set)
    tallies = {"real": _Tally(real.label_set, real.from_model), "pseudo": _Tally(label_set)}
    teacher, student = Confusion(len(real.label_set)), Confusion(len(real.label_set))
    entropy, splits = EntropyHistogram(), Counter[str]()
    scaled = False
    for done, number in enumerate(map(int, numbers), 1):
        frame = frames[number]
        if before is not None:
            before(frame)
        answer = segment(frame.points_m, frame.intensity, frame.levelled_from_lidar)
        unscaled = None
        if isinstance(answer, ScanLogits):
            unscaled, answer, scaled = answer.segmentation(1.0), answer.segmentation(temperature or 1.0), True
        pseudo = against[number] if against is not None else None
        labels = {"real": real.of(frame), "pseudo": None if pseudo is None else pseudo[0]}
        for kind, values in labels.items():
            _check(values, kind, frame, len(tallies[kind].label_set))
        _check(answer.labels, "predicted", frame, len(label_set))
        seen = seen_points(frame) if any(values is not None for values in labels.values()) else None
        for kind, values in labels.items():
            if values is not None and seen is not None:
                tallies[kind].add(frame, values, answer, unscaled, seen)
        if labels["real"] is not None and labels["pseudo"] is not None:
            both = np.where(labels["pseudo"] != UNKNOWN, labels["real"], np.uint8(UNKNOWN))
            teacher.add(both, real.from_model[labels["pseudo"]])
            student.add(both, real.from_model[answer.labels])
        entropy.add(answer.entropy[answer.labels != UNKNOWN])
        splits[frame.split] += 1
        if progress is not None:
            so_far = {kind: 100 * tally.all.miou for kind, tally in tallies.items() if tally.frames}
            progress(done, len(numbers), {f"{kind}_miou": value for kind, value in so_far.items() if np.isfinite(value)})
    return Evaluation(
        model=model,
        model_hash=model_hash,
        frames_hash=frames.hash,
        class_hash=class_hash or label_set.hash,
        label_set=label_set,
        scans=dict(splits),
        temperature=(temperature or 1.0) if scaled else None,
        real=tallies["real"].scores(),
        pseudo=tallies["pseudo"].scores(),
        teacher=TeacherScores(label_set=real.label_set, teacher=Counts.of(teacher), student=Counts.of(student))
        if teacher.counts.any()
        else None,
        entropy=EntropyTable.of(entropy),
    )


def _check(labels: np.ndarray | None, kind: str, frame: Frame, classes: int) -> None:
    if labels is None:
        return
    if len(labels) != len(frame.points_m):
        raise ShapeError(f"frame {frame.number} has {len(frame.points_m)} points and {len(labels)} {kind} labels: of other frames?")
    strange = labels[(labels >= classes) & (labels != UNKNOWN)]
    if len(strange):
        raise ConfigError(
            f"frame {frame.number} has {kind} label {strange[0]}, but there are {classes} classes: labels of another class map?"
        )


@dataclass(eq=False)
class _Tally:
    """Counts against one kind of labels while scans go by."""

    label_set: LabelSet
    from_model: np.ndarray = field(default_factory=lambda: np.arange(256, dtype=np.uint8))
    frames: list[FrameScore] = field(default_factory=list)
    rigs: dict[str, Confusion] = field(default_factory=dict)
    reliability: Reliability = field(default_factory=Reliability)
    unscaled: Reliability | None = None

    def __post_init__(self) -> None:
        classes = len(self.label_set)
        self.all, self.in_view, self.out_of_view = (Confusion(classes) for _ in range(3))
        self.ranges = {name: Confusion(classes) for name in range_names()}

    def add(self, frame: Frame, truth: np.ndarray, answer: Segmentation, unscaled: Segmentation | None, seen: np.ndarray) -> None:
        """Count the labelled points of one scan."""
        classes = len(self.label_set)
        known = np.flatnonzero(truth < classes)
        if not len(known):
            return
        # Where classes are merged, the probability of the finest one is less than that of its group: then it errs to the low side.
        wanted, got = truth[known], self.from_model[answer.labels[known]]
        one = Confusion(classes)
        one.add(wanted, got)
        for whole in (self.all, self.rigs.setdefault(frame.rig, Confusion(classes))):
            whole.counts += one.counts
        inside = seen[known]
        self.in_view.add(wanted[inside], got[inside])
        self.out_of_view.add(wanted[~inside], got[~inside])
        distance_m = np.linalg.norm(frame.points_m[known], axis=1)
        for confusion, (low, high) in zip(self.ranges.values(), pairwise(RANGES_M)):
            within = (distance_m >= low) & (distance_m < high)
            confusion.add(wanted[within], got[within])
        self.reliability.add(answer.probability[known], got == wanted)
        if unscaled is not None:
            self.unscaled = self.unscaled or Reliability()
            self.unscaled.add(unscaled.probability[known], got == wanted)
        self.frames.append(
            FrameScore(
                number=frame.number,
                stamp_ns=frame.stamp_ns,
                source=frame.source,
                rig=frame.rig,
                points=len(known),
                miou=or_none(one.miou),
                oacc=or_none(one.oacc),
            )
        )

    def scores(self) -> LabelScores | None:
        """Put the counts into their stored form; None when nothing was labelled."""
        if not self.frames:
            return None
        return LabelScores(
            label_set=self.label_set,
            all=Counts.of(self.all),
            in_view=Counts.of(self.in_view),
            out_of_view=Counts.of(self.out_of_view),
            ranges={name: Counts.of(confusion) for name, confusion in self.ranges.items()},
            rigs={name: Counts.of(confusion) for name, confusion in sorted(self.rigs.items())},
            reliability=ReliabilityTable.of(self.reliability),
            unscaled=ReliabilityTable.of(self.unscaled) if self.unscaled else None,
            frames=tuple(self.frames),
        )
