"""From the teacher's scores to labels that the student may learn from.

In: frames and their targets. Two passes: the first finds how confident the teacher is in each class, the second labels every frame
and lets neighbouring frames vote. Out: a `LabelStore`. Next room: probing and fine-tuning.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xkd_ros.core.errors import ConfigError, XkdError
from xkd_ros.core.labels import LabelSet
from xkd_ros.core.progress import Report
from xkd_ros.distill.confidence import ConfidenceHistogram, look_at
from xkd_ros.distill.consolidation import Consolidator, Witness, make_witness
from xkd_ros.distill.drives import Drive, find_drives
from xkd_ros.distill.label_store import LabelPlan, LabelStore, LabelWriter
from xkd_ros.distill.pseudo_config import PseudoConfig, Reason

if TYPE_CHECKING:
    from xkd_ros.bags.frame_store import FrameStore
    from xkd_ros.teacher.live_targets import LiveTargets
    from xkd_ros.teacher.target_store import TargetStore

_log = logging.getLogger(__name__)
_REMEDIES = {
    Reason.LATE: "images and scans are too far apart in time: check the stamps, or raise max_dt_ms",
    Reason.TURNING: "the robot always turns too fast: raise max_turn_rate_radps",
    Reason.EDGE: "they lie near jumps in depth: check the calibration, or set drop_edges to false",
    Reason.BORDER: "they lie near borders of image segments: lower the teacher's erode_px, or set drop_borders to false",
    Reason.IGNORED: "the class map ignores what the teacher sees: check the map, and the images",
    Reason.GLASS: "they lie behind windows: check the calibration, or set glass_depth_m to 0",
    Reason.MARGIN: "the teacher is never sure: check the teacher and the images, or lower min_margin",
    Reason.THRESHOLD: "the teacher was surer in the frames that the thresholds come from: raise keep_share or threshold_frames",
    Reason.CONTESTED: "images of one place do not agree: check the poses and the calibration, or set consolidate to false",
    Reason.OVERRULED: "images of one place do not agree: check the poses and the calibration, or set consolidate to false",
    Reason.DOUBTFUL: "the teacher is never sure: check the teacher and the images, or lower min_confidence",
}


def write_pseudo_labels(
    frames: FrameStore,
    targets: TargetStore | LiveTargets,
    out: str | Path,
    config: PseudoConfig | None = None,
    progress: Report | None = None,
) -> LabelStore:
    """Label every frame of a store; goes on where it was interrupted, and does nothing when all is there.

    Args:
        frames: Scans, poses and splits.
        targets: Class scores at the points that cameras see.
        out: Folder of the labels.
        config: Filters and consolidation.
        progress: Called with (frames done, frames to do in both passes, {"labelled_share", "frames_per_s"}).
    Returns:
        The labels.
    Raises:
        ConfigError: the folder holds labels of other inputs or settings, or the targets are of other frames.
        XkdError: the teacher names no class, or one only.
    """
    config = config or PseudoConfig()
    manifest = targets.manifest
    if manifest.label_set is None:
        raise XkdError(f"the targets of {len(frames)} frames hold features but no class scores: add a teacher that names classes")
    if manifest.frames_hash != frames.hash:
        raise ConfigError("the targets were made from other frames than these: run `xkd targets` again")
    label_set: LabelSet = manifest.label_set
    plan = LabelPlan(frames_hash=frames.hash, targets_hash=targets.hash, class_hash=manifest.class_hash, label_set=label_set, config=config)
    writer = LabelWriter(out, plan)
    if writer.whole:
        return LabelStore(out, frames.hash)
    return _Job(frames, targets, label_set, config, writer, progress).run()


class _Job:
    """One call of `write_pseudo_labels`."""

    def __init__(
        self,
        frames: FrameStore,
        targets: TargetStore | LiveTargets,
        label_set: LabelSet,
        config: PseudoConfig,
        writer: LabelWriter,
        progress: Report | None,
    ) -> None:
        self._frames, self._targets, self._label_set = frames, targets, label_set
        self._config, self._writer, self._progress = config, writer, progress
        train = frames.numbers("train")
        if not len(train):
            raise XkdError(f"none of the {len(frames)} frames is for training, and class thresholds come from those: check the split")
        self._sample = train[np.unique(np.linspace(0, len(train) - 1, min(len(train), config.threshold_frames)).round().astype(int))]
        self._total, self._started, self._points, self._labelled = len(self._sample) + len(frames), time.monotonic(), 0, 0

    def run(self) -> LabelStore:
        """Do both passes."""
        if not self._writer.plan.thresholds:
            self._writer.start(self._find_thresholds())
        thresholds = np.array(self._writer.plan.thresholds)
        consolidator = Consolidator(len(self._label_set), self._config.moving(self._label_set.names), self._config)
        resumed = self._writer.done
        before = 0
        for drive in find_drives(self._frames, self._config.consolidate):
            first, before = max(0, resumed - before), before + len(drive.numbers)
            if first >= len(drive.numbers):
                continue

            def load(position: int, drive: Drive = drive) -> Witness:
                return self._witness(drive, drive.numbers[position], thresholds)

            for position, labels in consolidator.run(load, len(drive.numbers), first):
                self._writer.add(drive.numbers[position], drive.split, labels)
                self._points += len(labels.labels)
                self._labelled += int(np.count_nonzero(labels.labels < len(self._label_set)))
                done = before - len(drive.numbers) + position + 1
                self._report(len(self._sample) + done, done - resumed, {"labelled_share": self._labelled / max(1, self._points)})
        train = self._writer.so_far("train")
        counts = np.array([row.labelled for row in train.rows()])
        _require_two_classes(self._label_set, counts, train.counts.sum(0), "is left after filtering and voting")
        store = self._writer.finish()
        for row in store.statistics("train").rows():
            if row.seen and not row.labelled:
                worst = max(row.dropped, key=lambda reason: row.dropped[reason])
                _log.warning("class '%s': %d points seen, none labelled, most dropped as %s", row.name, row.seen, worst.name.lower())
        return store

    def _witness(self, drive: Drive, number: int, thresholds: np.ndarray) -> Witness:
        frame = self._frames[number]
        opinion = look_at(frame, self._targets[number], self._label_set, self._config, thresholds)
        pose = frame.world_from_lidar if self._config.consolidate else None
        return make_witness(frame.points_m, pose, drive.origin_m, opinion, self._config.voxel_m)

    def _find_thresholds(self) -> np.ndarray:
        histogram, reasons = ConfidenceHistogram(len(self._label_set)), np.zeros(len(Reason), np.int64)
        for done, number in enumerate(self._sample.tolist(), 1):
            opinion = look_at(self._frames[number], self._targets[number], self._label_set, self._config)
            histogram.add(opinion)
            reasons += np.bincount(opinion.reason, minlength=len(Reason))
            self._report(done, done, {})
        if not reasons.sum():
            raise XkdError(
                f"no camera sees a point in {len(self._sample)} training frames: check the extrinsics and the stamps (`xkd inspect`)"
            )
        _require_two_classes(self._label_set, histogram.seen, reasons, f"is what the teacher sees in {len(self._sample)} training frames")
        return histogram.thresholds(self._config.keep_share)

    def _report(self, done: int, worked: int, facts: dict[str, float]) -> None:
        if self._progress:
            self._progress(done, self._total, {**facts, "frames_per_s": worked / max(1e-6, time.monotonic() - self._started)})


def _require_two_classes(label_set: LabelSet, counts: np.ndarray, reasons: np.ndarray, what: str) -> None:
    """Refuse labels that nothing can be learnt from.

    Args:
        label_set: Names of the K classes.
        counts: (K,) points of each.
        reasons: (R,) points by what became of them, by `Reason`.
        what: Ends the sentence "only ... of ...".
    Raises:
        XkdError: fewer than two classes have points.
    """
    named = [f"{label_set.names[place]} ({counts[place]} points)" for place in np.flatnonzero(counts)]
    if not named:
        dropped = reasons[Reason.LATE : Reason.KEPT]
        worst = Reason(int(dropped.argmax()) + Reason.LATE)
        raise XkdError(f"of {dropped.sum()} points in view none has a label; most are dropped because {_REMEDIES[worst]}")
    if len(named) == 1:
        raise XkdError(
            f"only {named[0]} of {', '.join(label_set.names)} {what}; a student needs two classes: check class map, teacher and images"
        )
