"""Teaching with known labels: one stored scan in, one training item out, and the loss over a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from xkd_ros.core.card import GeometryConfig, IntensityConfig
from xkd_ros.core.types import UNKNOWN, NetInput
from xkd_ros.distill.augment import AugmentConfig, augment, limit_points
from xkd_ros.distill.losses import group_loss, segmentation_loss
from xkd_ros.distill.passes import ShuffledPasses
from xkd_ros.nets.batch import Batch, collate
from xkd_ros.points.preprocessor import Preprocessor


class ScanStore(Protocol):
    """Labelled scans by number: points (N, 3) levelled, raw intensity (N,), labels (N,) uint8."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...


@dataclass(frozen=True, eq=False)
class LabelledBatch:
    """A batch and its (T,) int64 labels, 255 = not counted."""

    batch: Batch
    labels: Tensor

    def to(self, device: torch.device | str) -> LabelledBatch:
        """Copy to a device."""
        return LabelledBatch(self.batch.to(device), self.labels.to(device, non_blocking=True))


class LabelledSamples:
    """Number → augmented, preprocessed scan with labels; the number alone decides which scan and which augmentation.

    Every pass over the store takes another random order.
    """

    def __init__(
        self,
        store: ScanStore,
        geometry: GeometryConfig,
        intensity: IntensityConfig,
        augmentation: AugmentConfig,
        max_points: int,
        seed: int,
    ) -> None:
        """Configure.

        Args:
            store: Labelled scans.
            geometry: As on the robot.
            intensity: Statistics, or per scan.
            augmentation: Of the raw scan.
            max_points: Voxel points of a scan; larger ones are cropped or thinned.
            seed: Of order and augmentation.
        """
        self._store, self._augmentation, self._max_points, self._seed = store, augmentation, max_points, seed
        self._preprocess = Preprocessor(geometry, intensity, threads=1)
        self.order = ShuffledPasses(len(store), seed)

    def __call__(self, number: int) -> tuple[NetInput, np.ndarray]:
        """Make item `number`: the network's input of N points and their (N,) uint8 labels."""
        rng = np.random.default_rng((self._seed, number))
        points, intensity, labels = self._store[self.order(number)]
        points, kept_intensity, labels = augment(points, intensity, labels, self._augmentation, rng)
        item = self._preprocess(points, kept_intensity, undo=False, limit=lambda sampled, raw: limit_points(sampled, self._max_points, rng))
        return item, labels[item.kept]


def collate_labelled(items: Sequence[tuple[NetInput, np.ndarray]]) -> LabelledBatch:
    """Lay scans and labels end to end."""
    labels = torch.from_numpy(np.concatenate([labels for _, labels in items]).astype(np.int64))
    return LabelledBatch(collate([item for item, _ in items]), labels)


class SupervisedLoss:
    """Cross-entropy + Lovász of the student's logits, and of groups of classes where those are given.

    Attributes:
        class_weight: (C,) float32, or None.
    """

    def __init__(
        self, class_weight: np.ndarray | None = None, smoothing: float = 0.0, groups: np.ndarray | None = None, group_weight: float = 0.0
    ) -> None:
        self.class_weight = None if class_weight is None else torch.from_numpy(class_weight.astype(np.float32))
        self._smoothing = smoothing
        self._groups = None if groups is None or not group_weight else torch.from_numpy(groups.astype(np.int64))
        self._group_weight = group_weight

    def __call__(self, model: nn.Module, item: LabelledBatch) -> Tensor:
        """Compute the loss of one batch."""
        b = item.batch
        return self.of(model(b.features, b.cells, b.shapes, b.neighbours, None, b.scan), item)

    def of(self, logits: Tensor, item: LabelledBatch) -> Tensor:
        """Compute the loss of (T, C) logits of one batch."""
        weight = None if self.class_weight is None else self.class_weight.to(logits.device)
        loss = self._per_class(logits, item, weight)
        if self._groups is not None:
            loss = loss + self._group_weight * group_loss(logits, self._grouped(item), self._groups.to(logits.device))
        return loss

    def _per_class(self, logits: Tensor, item: LabelledBatch, weight: Tensor | None) -> Tensor:
        return segmentation_loss(logits, item.labels, weight, self._smoothing)

    def _grouped(self, item: LabelledBatch) -> Tensor:
        """Labels that the loss over groups counts."""
        return item.labels


def class_weights(counts: np.ndarray, power: float) -> np.ndarray:
    """Weigh rare classes more: (share)^-power, mean 1 over the points; power 0 weighs all alike."""
    share = np.maximum(counts / max(1, counts.sum()), 1e-4)
    weight = share**-power
    return weight / (weight * share).sum()


def count_labels(store: ScanStore, classes: int, sample: int = 400) -> np.ndarray:
    """Count (C,) labels over evenly spaced scans of a store."""
    total = np.zeros(classes, np.int64)
    for index in np.unique(np.linspace(0, len(store) - 1, min(sample, len(store))).astype(int)):
        labels = store[int(index)][2]
        total += np.bincount(labels[labels != UNKNOWN], minlength=classes)[:classes]
    return total
