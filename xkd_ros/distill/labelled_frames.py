"""Stored frames and their labels → training items of probing and fine-tuning: a whole scan, a label and a confidence per point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.types import UNKNOWN, NetInput
from xkd_ros.distill.frame_samples import Frames
from xkd_ros.distill.losses import SURE, confident_loss
from xkd_ros.distill.passes import ShuffledPasses, first_usable
from xkd_ros.distill.student_input import StudentInput
from xkd_ros.distill.supervised import LabelledBatch, SupervisedLoss
from xkd_ros.nets.batch import collate

_COUNTED_FRAMES = 400


class Labels(Protocol):
    """Frame number → labels (N,) uint8, 255 unknown, and confidence (N,) float32 of the frame's points."""

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]: ...


class LabelledOnly:
    """Labels of some frames; of all others none, whatever is known about them."""

    def __init__(self, labels: Labels, numbers: np.ndarray) -> None:
        self._labels, self._numbers = labels, frozenset(numbers.tolist())

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        labels, confidence = self._labels[number]
        if number in self._numbers:
            return labels, confidence
        return np.full(len(labels), UNKNOWN, np.uint8), np.zeros(len(labels), np.float32)


@dataclass(frozen=True, eq=False)
class LabelledItem:
    """One scan of N points with (N,) uint8 labels and (N,) float32 confidence."""

    scan: NetInput
    labels: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True, eq=False)
class ConfidentBatch(LabelledBatch):
    """A batch with (T,) int64 labels, 255 = not counted, and (T,) float32 confidence."""

    confidence: Tensor

    def to(self, device: torch.device | str) -> ConfidentBatch:
        """Copy to a device."""
        labels, confidence = (tensor.to(device, non_blocking=True) for tensor in (self.labels, self.confidence))
        return ConfidentBatch(self.batch.to(device), labels, confidence)


class LabelledFrames:
    """Number → item; the number alone decides frame and augmentation. Frames without a label give way to the next."""

    def __init__(self, frames: Frames, labels: Labels, numbers: np.ndarray, student_input: StudentInput, seed: int) -> None:
        """Configure.

        Args:
            frames: Frame store.
            labels: Pseudo-labels or true labels of these frames.
            numbers: (F,) frames to learn from.
            student_input: Augmentation and preprocessing.
            seed: Of order and augmentation.
        Raises:
            ConfigError: no frames.
        """
        if not len(numbers):
            raise ConfigError("no training frames: the frame store's train split is empty; record more or change the split")
        self._frames, self._labels, self._numbers = frames, labels, numbers
        self._input, self._seed = student_input, seed
        self._order = ShuffledPasses(len(numbers), seed)

    def __call__(self, number: int) -> LabelledItem:
        """Make item `number`.

        Raises:
            ConfigError: hundreds of frames in a row have no label.
        """
        return first_usable(self._make, number, "too few points, or no label")

    def _make(self, number: int) -> LabelledItem | None:
        rng = np.random.default_rng((self._seed, number))
        index = int(self._numbers[self._order(number)])
        labels, confidence = self._labels[index]
        known = labels != UNKNOWN
        seen = self._see(index, rng, known) if known.any() else None
        return None if seen is None else LabelledItem(seen[0], labels[seen[1]], confidence[seen[1]])

    def _see(self, index: int, rng: np.random.Generator, preferred: np.ndarray) -> tuple[NetInput, np.ndarray] | None:
        """Prepare a frame as the student sees it, and the (N,) points behind; None where they are too few."""
        if len(preferred) < self._input.least_points:
            return None
        scan, raw = self._input(self._frames.scan(index), rng, None, preferred)
        return (scan, raw) if len(scan) >= self._input.least_points else None


def collate_labelled_frames(items: Sequence[LabelledItem]) -> ConfidentBatch:
    """Lay scans, labels and confidences end to end."""
    return ConfidentBatch(
        collate([item.scan for item in items]),
        torch.from_numpy(np.concatenate([item.labels for item in items]).astype(np.int64)),
        torch.from_numpy(np.concatenate([item.confidence for item in items]).astype(np.float32)),
    )


class ConfidentLoss(SupervisedLoss):
    """Cross-entropy weighted by confidence + Lovász, and the loss over groups of classes on points that are sure."""

    def _per_class(self, logits: Tensor, item: LabelledBatch, weight: Tensor | None) -> Tensor:
        assert isinstance(item, ConfidentBatch)
        return confident_loss(logits, item.labels, item.confidence, weight, self._smoothing)

    def _grouped(self, item: LabelledBatch) -> Tensor:
        assert isinstance(item, ConfidentBatch)
        return item.labels.where(item.confidence > SURE, UNKNOWN)


def count_frame_labels(labels: Labels, numbers: np.ndarray, classes: int) -> np.ndarray:
    """Count (C,) labels over evenly spaced frames, weighted by confidence.

    Raises:
        ConfigError: a label that is no class.
    """
    total = np.zeros(classes)
    for place in np.unique(np.linspace(0, len(numbers) - 1, min(_COUNTED_FRAMES, len(numbers))).astype(int)):
        found, confidence = labels[int(numbers[place])]
        known = found != UNKNOWN
        if known.any() and int(found[known].max()) >= classes:
            raise ConfigError(
                f"frame {numbers[place]} has label {found[known].max()}, the student has {classes} classes; use its class map"
            )
        total += np.bincount(found[known], confidence[known], minlength=classes)
    return total
