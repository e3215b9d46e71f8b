"""Stored frames → training items of `ignet`: one scan, perhaps mixed of two, as the student and as its mean teacher see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.types import UNKNOWN, NetInput
from xkd_ros.distill.ignet.config import IgnetConfig
from xkd_ros.distill.ignet.guided_scan import GuidedScan, fov_mix
from xkd_ros.distill.labelled_frames import ConfidentBatch
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.passes import ShuffledPasses, first_usable
from xkd_ros.distill.student_input import InputConfig, StudentInput
from xkd_ros.nets.batch import Batch, collate
from xkd_ros.points.places import places
from xkd_ros.points.voxels import voxel_sample

_PARTNER_TRIES = 8


@dataclass(frozen=True, eq=False)
class IgnetItem:
    """One scan, seen twice.

    Attributes:
        scan: What the student sees: N points.
        twin: What the mean teacher sees: the same scan in another pose.
        match: (N,) int64 the same point in the twin, -1 where it is not there.
        labels, confidence: (N,) uint8, 255 unknown, and float32.
        paired: (P,) int64 points that a camera sees.
        features: (P, D) float16 of the image teacher.
    """

    scan: NetInput
    twin: NetInput
    match: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray
    paired: np.ndarray
    features: np.ndarray


@dataclass(frozen=True, eq=False)
class IgnetBatch(ConfidentBatch):
    """A batch of T points and its twin; `match` (T,) and `paired` (P,) int64, `features` (P, D) as in the items."""

    twin: Batch
    match: Tensor
    paired: Tensor
    features: Tensor

    def to(self, device: torch.device | str) -> IgnetBatch:
        """Copy to a device."""
        names = ("labels", "confidence", "match", "paired", "features")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        return IgnetBatch(batch=self.batch.to(device), twin=self.twin.to(device), **moved)


class IgnetSamples:
    """Number → item; the number alone decides frames, mix and poses. With unlabelled frames, every second item is of those.

    Attributes:
        width: D of the image teacher's features.
    """

    def __init__(self, lesson: Lesson, labelled: np.ndarray, unlabelled: np.ndarray, config: IgnetConfig) -> None:
        """Configure.

        Args:
            lesson: Frames, labels, image targets, and how the student reads scans.
            labelled: (F,) frames with labels.
            unlabelled: (G,) frames without; may be empty.
            config: Augmentation, mixing, seed.
        Raises:
            ConfigError: no frames, no targets, or targets that hold no features.
        """
        if not len(labelled):
            raise ConfigError("no training frames: the frame store's train split is empty; record more or change the split")
        self._frames, self._labels, self._targets = lesson.frames, lesson.labels, lesson.teacher("ignet")
        self._lists = [numbers for numbers in (labelled, unlabelled) if len(numbers)]
        self._orders = [ShuffledPasses(len(numbers), config.seed + place) for place, numbers in enumerate(self._lists)]
        self._config, student, rigs = config, lesson.backbone.card.student, lesson.frames.manifest.intensity
        self.width = _feature_width(lesson, np.concatenate(self._lists))
        self._voxel_m, self._most = student.geometry.voxel_m, config.input.max_points
        self._student = StudentInput(config.input, student, rigs, seek=True)
        # A mean teacher that sees the scan as it was is a better teacher; besides that only the pose differs.
        self._teacher = StudentInput(InputConfig(augmentation="paper", max_points=self._most), student, rigs)

    def __call__(self, number: int) -> IgnetItem:
        """Make item `number`.

        Raises:
            ConfigError: hundreds of frames in a row have too few points.
        """
        return first_usable(self._make, number, "too few points")

    def _make(self, number: int) -> IgnetItem | None:
        rng = np.random.default_rng((self._config.seed, number))
        turn, place = number % len(self._lists), number // len(self._lists)
        scan = self._read(int(self._lists[turn][self._orders[turn](place)]))
        if rng.random() < self._config.mix.share and (partner := self._partner(scan.rig, (turn + 1) % len(self._lists), rng)) is not None:
            scan = fov_mix(scan, partner, self._config.mix, rng)
        least = self._student.least_points
        if len(scan) < least:
            return None
        worth = 2 * (scan.labels != UNKNOWN).astype(np.int8)
        worth[scan.seen] += 1
        seen_by_student, kept = self._student(scan, rng, None, worth)
        seen_by_teacher, kept_too = self._teacher(scan, rng, self._shown_to_teacher(scan, kept, rng))
        if min(len(seen_by_student), len(seen_by_teacher)) < least:
            return None
        shown, place_in_twin = scan.take(kept), places(kept_too, len(scan))
        return IgnetItem(seen_by_student, seen_by_teacher, place_in_twin[kept], shown.labels, shown.confidence, shown.seen, shown.features)

    def _read(self, number: int) -> GuidedScan:
        frame, (labels, confidence) = self._frames.scan(number), self._labels[number]
        pictures = [picture for picture in self._targets[number] if len(picture.point)]
        rows = [np.flatnonzero(~picture.edge) for picture in pictures]
        features = [np.asarray(picture.features)[chosen] for picture, chosen in zip(pictures, rows)]
        return GuidedScan(
            rig=frame.rig,
            points_m=frame.points_m @ frame.levelled_from_lidar.T.astype(np.float32),
            intensity=frame.intensity,
            labels=labels,
            confidence=confidence,
            seen=np.concatenate([np.zeros(0, np.int64), *(picture.point[chosen] for picture, chosen in zip(pictures, rows))]),
            features=np.concatenate([np.zeros((0, self.width), np.float16), *features]),
            view=np.repeat(np.arange(len(pictures)), [len(chosen) for chosen in rows]),
        )

    def _partner(self, rig: str, turn: int, rng: np.random.Generator) -> GuidedScan | None:
        """Draw another scan of the same rig; None if luck did not find one."""
        for number in rng.choice(self._lists[turn], _PARTNER_TRIES):
            if self._frames.scan(int(number)).rig == rig:
                return self._read(int(number))
        return None

    def _shown_to_teacher(self, scan: GuidedScan, kept: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Choose what the student sees, and in place of what its sensor lost other points of the scan."""
        room = self._most - len(kept)
        if room <= 0:
            return kept
        others = np.setdiff1d(voxel_sample(scan.points_m, self._voxel_m, rng.permutation(len(scan))), kept)
        return np.concatenate([kept, rng.permutation(others)[:room]])


def _feature_width(lesson: Lesson, numbers: np.ndarray) -> int:
    """Find the width of the image features.

    Raises:
        ConfigError: the targets hold none, or no camera sees a point.
    """
    targets = lesson.teacher("ignet")
    for number in numbers.tolist():
        for picture in targets[number]:
            if picture.features is None:
                raise ConfigError("the targets hold no features; make them with a feature teacher such as facebook/dinov2-small")
            return int(picture.features.shape[1])
    raise ConfigError("no camera sees a point of a training frame: check the extrinsics and the stamps (`xkd inspect`)")


def collate_ignet(items: Sequence[IgnetItem]) -> IgnetBatch:
    """Lay scans, twins, labels and pairs end to end."""
    starts = np.cumsum([0, *(len(item.scan) for item in items)])
    twins = np.cumsum([0, *(len(item.twin) for item in items)])
    match = np.concatenate([np.where(item.match < 0, -1, item.match + start) for item, start in zip(items, twins)])
    return IgnetBatch(
        batch=collate([item.scan for item in items]),
        labels=torch.from_numpy(np.concatenate([item.labels for item in items]).astype(np.int64)),
        confidence=torch.from_numpy(np.concatenate([item.confidence for item in items]).astype(np.float32)),
        twin=collate([item.twin for item in items]),
        match=torch.from_numpy(match),
        paired=torch.from_numpy(np.concatenate([item.paired + start for item, start in zip(items, starts)])),
        features=torch.from_numpy(np.concatenate([item.features for item in items])),
    )
