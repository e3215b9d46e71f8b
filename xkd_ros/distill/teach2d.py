"""Teaching the 2D network with rendered pictures: one stored picture in, one training item out, the loss and the score.

The labels are the simulator's truth; what the network then says about a robot's pictures is the teacher signal of the lidar student.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.losses import segmentation_loss
from xkd_ros.distill.passes import ShuffledPasses
from xkd_ros.distill.picture_augment import PictureAugmentConfig, augment_picture
from xkd_ros.metrics.confusion import Confusion, percent
from xkd_ros.metrics.reliability import expected_calibration_error, fit_temperature
from xkd_ros.nets.image_input import ImageInputConfig, normalise, prepare, sample_at


class PictureSource(Protocol):
    """Labelled pictures by number: rgb (H, W, 3) uint8, labels (H, W) uint8; all of one size."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True, eq=False)
class PictureBatch:
    """B pictures and P places in each.

    Attributes:
        rgb: (B, 3, H, W) float32, normalised.
        uv: (B, P, 2) float32, places as `sample_at` takes them.
        labels: (B, P) int64, 255 = not counted.
    """

    rgb: Tensor
    uv: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> PictureBatch:
        """Copy to a device."""
        return PictureBatch(*(values.to(device, non_blocking=True) for values in (self.rgb, self.uv, self.labels)))


class PictureSamples:
    """Number → augmented picture with labelled places; the number alone decides which picture and which augmentation.

    Every pass over the source takes another random order.
    """

    def __init__(self, source: PictureSource, augmentation: PictureAugmentConfig, points: int, seed: int) -> None:
        self._source, self._augmentation, self._points, self._seed = source, augmentation, points, seed
        self._order = ShuffledPasses(len(source), seed)

    def __call__(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Make item `number`: rgb (3, H, W) float32 in 0..1, places (P, 2) float32, labels (P,) uint8."""
        rgb, labels = self._source[self._order(number)]
        return augment_picture(rgb, labels, self._points, self._augmentation, np.random.default_rng((self._seed, number)))


class PictureCollate:
    """Stacks items into a batch and normalises the colours."""

    def __init__(self, config: ImageInputConfig) -> None:
        self._config = config

    def __call__(self, items: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> PictureBatch:
        """Make a batch."""
        rgb, uv, labels = (torch.from_numpy(np.stack(column)) for column in zip(*items, strict=True))
        return PictureBatch(normalise(rgb, self._config), uv, labels.long())


class PictureLoss:
    """Cross-entropy + Lovász at the places of a batch, read off the logits just as a teacher is read at lidar points."""

    def __init__(self, class_weight: np.ndarray | None = None, smoothing: float = 0.0) -> None:
        self._weight = None if class_weight is None else torch.from_numpy(class_weight.astype(np.float32))
        self._smoothing = smoothing

    def __call__(self, model: nn.Module, item: PictureBatch) -> Tensor:
        """Compute the loss of one batch."""
        logits = sample_at(model(item.rgb).float(), item.uv)  # (B, P, C)
        weight = None if self._weight is None else self._weight.to(logits.device)
        return segmentation_loss(logits.flatten(0, 1), item.labels.flatten(), weight, self._smoothing)


def count_pixels(source: PictureSource, classes: int, sample: int = 200) -> np.ndarray:
    """Count the pixels of each class (C,) in evenly spaced pictures of a source."""
    total = np.zeros(classes, np.int64)
    for index in np.unique(np.linspace(0, len(source) - 1, min(sample, len(source))).astype(int)):
        labels = source[int(index)][1]
        total += np.bincount(labels[labels != UNKNOWN], minlength=classes)[:classes]
    return total


@dataclass(frozen=True, eq=False)
class PictureScore:
    """How right a network is over a set of pictures.

    Attributes:
        confusion: At the pixels of the pictures.
        ece: Expected calibration error of the probabilities.
        temperature: What would divide the logits best.
    """

    confusion: Confusion
    ece: float
    temperature: float

    def summary(self, names: Sequence[str]) -> dict[str, object]:
        """Return figures for a card, in percent."""
        iou = {name: percent(value) for name, value in zip(names, self.confusion.iou)}
        return {**self.confusion.percents(), "ece": percent(self.ece), "iou": iou}


def score_pictures(
    model: nn.Module, source: PictureSource, config: ImageInputConfig, classes: int, temperature: float = 1.0
) -> PictureScore:
    """Compare a network with the labels of every picture.

    Args:
        model: In evaluation mode.
        source: Pictures that it did not learn from.
        config: How they are prepared.
        classes: Number of classes C.
        temperature: Divides the logits.
    """
    confusion = Confusion(classes)
    kept_logits, kept_truth = [], []
    for logits, labels in _look(model, source, config):
        confusion.add(labels.reshape(-1), logits.argmax(1).astype(np.uint8))
        # Every 97th pixel: enough for two numbers.
        chosen = np.flatnonzero(labels.reshape(-1) < classes)[::97]
        kept_logits.append(logits[chosen])
        kept_truth.append(labels.reshape(-1)[chosen].astype(np.int64))
    chosen_logits, truth = np.concatenate(kept_logits), np.concatenate(kept_truth)
    probability = torch.from_numpy(chosen_logits / temperature).softmax(1).numpy()
    ece = expected_calibration_error(probability.max(1), probability.argmax(1) == truth)
    return PictureScore(confusion, ece, float(fit_temperature(chosen_logits, truth)))


@torch.no_grad()
def _look(model: nn.Module, source: PictureSource, config: ImageInputConfig) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give logits (H * W, C) float32 and labels (H, W) of each picture."""
    device = next(model.parameters()).device
    for index in range(len(source)):
        rgb, labels = source[index]
        logits = F.interpolate(model(prepare(rgb, config, device)).float(), size=labels.shape, mode="bilinear", align_corners=False)
        yield logits[0].flatten(1).T.cpu().numpy(), labels
