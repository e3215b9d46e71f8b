"""Stored frames, labels and image targets → training items: a whole scan, labels where there are any, and what pictures show of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.labelled_frames import ConfidentBatch, LabelledFrames, LabelledItem, collate_labelled_frames
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.passes import ShuffledPasses, share_of
from xkd_ros.distill.picture_pairs import PicturePairs, collate_pairs, features_of
from xkd_ros.distill.student_input import StudentInput
from xkd_ros.distill.xmodel.config import XModelConfig


@dataclass(frozen=True, eq=False)
class FusedItem(LabelledItem):
    """A labelled scan of N points, `paired` (P,) int64 into N, and `features` (P, D) of the image teacher there."""

    paired: np.ndarray
    features: np.ndarray


@dataclass(frozen=True, eq=False)
class FusedBatch(ConfidentBatch):
    """A labelled batch of T points, `paired` (P,) int64 into T, `features` (P, D)."""

    paired: Tensor
    features: Tensor

    def to(self, device: torch.device | str) -> FusedBatch:
        """Copy to a device."""
        tensors = (self.labels, self.confidence, self.paired, self.features)
        return FusedBatch(self.batch.to(device), *(tensor.to(device, non_blocking=True) for tensor in tensors))


class FusedFrames(LabelledFrames):
    """Number → item; the number alone decides. A share of the scans is of frames whose labels are not used: pictures alone teach there.

    Attributes:
        numbers: (F,) frames whose labels are used.
        width: D.
        length: Items in which each of these frames comes once.
    """

    def __init__(self, lesson: Lesson, config: XModelConfig) -> None:
        """Choose the frames.

        Raises:
            ConfigError: no frames, no targets, targets without features, or not one point that a picture shows.
        """
        every = lesson.frames.numbers("train")
        self.numbers = share_of(lesson.labelled_numbers(), config.label_share, config.seed)
        student_input = StudentInput(config.input, lesson.backbone.card.student, lesson.frames.manifest.intensity, seek=True)
        super().__init__(lesson.frames, lesson.labels, self.numbers, student_input, config.seed)
        self._targets, self._config = lesson.teacher(config.method), config
        self._others = np.setdiff1d(every, self.numbers)
        self._share = config.unlabelled if len(self._others) else 0.0
        self.length = round(len(self.numbers) / (1 - self._share))
        self._other_order = ShuffledPasses(len(self._others), config.seed)
        self.width = self._find_width(every)

    def _make(self, number: int) -> FusedItem | None:
        rng = np.random.default_rng((self._seed, number))
        # Evenly spread, so that every batch holds both kinds.
        others = int(number * self._share)
        labelled = int((number + 1) * self._share) == others
        index = int(self.numbers[self._order(number - others)] if labelled else self._others[self._other_order(others)])
        labels, confidence = self._labels[index]
        if not labelled:
            labels, confidence = np.full_like(labels, UNKNOWN), np.zeros_like(confidence)
        known, pictures = labels != UNKNOWN, self._targets[index]
        if len(pictures) > self._config.views:
            pictures = [pictures[place] for place in np.sort(rng.permutation(len(pictures))[: self._config.views])]
        pairs = PicturePairs(pictures, self._config.skip_edges)
        if not (known.any() if labelled else len(pairs)):
            return None
        # A label cannot be had from elsewhere, what a picture shows often from the next voxel.
        seen = self._see(index, rng, 2 * known.astype(np.int8) + pairs.mask(len(labels)))
        if seen is None:
            return None
        scan, raw = seen
        paired, features = pairs.of(raw, len(labels), self._config.max_pairs, rng)
        return FusedItem(scan, labels[raw], confidence[raw], paired, features if len(paired) else np.zeros((0, self.width), np.float16))

    def _find_width(self, numbers: np.ndarray) -> int:
        for number in map(int, numbers):
            for picture in self._targets[number]:
                if len(picture.point):
                    return features_of(picture).shape[1]
        raise ConfigError(f"the method {self._config.method} learns from pictures, and no picture of the training frames shows a point")


def collate_fused(items: Sequence[FusedItem]) -> FusedBatch:
    """Lay scans, labels and pairs end to end."""
    labelled = collate_labelled_frames(items)
    return FusedBatch(labelled.batch, labelled.labels, labelled.confidence, *collate_pairs(items))
