"""Labels that a student is sure of, chosen class by class and range by range: far points and rare classes keep their share."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from xkd_ros.core.errors import ModelError
from xkd_ros.core.files import atomic_path
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.frame_samples import Frames
from xkd_ros.distill.labelled_frames import Labels
from xkd_ros.distill.retraining.config import RetrainConfig
from xkd_ros.distill.retraining.place_votes import Said

_BINS = 512


class RangeBalance:
    """Thresholds by class and range annulus: the value that keeps a share of the points of each pair.

    Source: METHODS 4.2 (class-range-balanced pseudo-labels of ScribbleKITTI, with indoor annuli).
    """

    def __init__(self, classes: int, config: RetrainConfig) -> None:
        self._config, self._edges = config, np.asarray(config.edges_m[1:])
        # Logits of the confidence spread what lies near 1; a histogram needs no memory of all points.
        self._counts = np.zeros((classes, len(config.edges_m), _BINS), np.int64)

    def place(self, confidence: np.ndarray, range_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the annulus (N,) uint8 and the bin (N,) uint16 of predictions: three bytes a point, so that a whole split is kept."""
        return np.searchsorted(self._edges, range_m, side="right").astype(np.uint8), _bin(confidence).astype(np.uint16)

    def add(self, labels: np.ndarray, annulus: np.ndarray, bins: np.ndarray) -> None:
        """Count (N,) predictions."""
        known = labels != UNKNOWN
        np.add.at(self._counts, (labels[known], annulus[known], bins[known]), 1)

    def thresholds(self) -> np.ndarray:
        """Return the (C, A) bins from which on points are kept; `_BINS` where a pair has too few points."""
        total = self._counts.sum(-1)
        above = self._counts[..., ::-1].cumsum(-1)[..., ::-1]
        # The lowest bin from which on no more than the share is kept, but the surest are kept even where they are more.
        surest = np.where(self._counts > 0, np.arange(_BINS), 0).max(-1)
        first = np.minimum((above > self._config.keep * total[..., None]).sum(-1), surest)
        return np.where(total < self._config.least_points, _BINS, first)

    def keep(self, labels: np.ndarray, annulus: np.ndarray, bins: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """Tell which (N,) predictions are sure enough."""
        known = labels != UNKNOWN
        return known & (bins >= thresholds[np.where(known, labels, 0), annulus])


class BalancedLabels:
    """Given labels that are sure, as those of people; elsewhere the student's balanced ones, and given ones where it has none; one file."""

    def __init__(self, given: Labels, path: Path) -> None:
        """Open what `write_balanced_labels` wrote.

        Raises:
            ModelError: it is damaged.
        """
        self._given = given
        try:
            with np.load(path, allow_pickle=False) as stored:
                numbers, starts, self._labels = stored["numbers"], stored["starts"], stored["labels"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ModelError(f"{path} is damaged ({error}); delete it, the same command makes it again") from error
        if len(starts) != len(numbers) + 1 or (len(starts) and int(starts[-1]) != len(self._labels)):
            raise ModelError(f"{path} is damaged (arrays of different lengths); delete it, the same command makes it again")
        self._rows = {int(number): slice(int(first), int(last)) for number, first, last in zip(numbers, starts, starts[1:])}

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return labels (N,) uint8, 255 unknown, and confidence (N,) float32."""
        labels, confidence = self._given[number]
        if number not in self._rows:
            return labels, confidence
        added = self._labels[self._rows[number]]
        new = (added != UNKNOWN) & ((labels == UNKNOWN) | (confidence < 1))
        return np.where(new, added, labels), np.where(new, np.float32(1), confidence)


def write_balanced_labels(frames: Frames, predictions: Iterable[Said], classes: int, config: RetrainConfig, path: Path) -> None:
    """Choose among a student's labels of some frames and write them, whole or not at all.

    Args:
        frames: Frame store.
        predictions: Of the student.
        classes: C.
        config: Ranges and share.
        path: .npz file.
    Raises:
        XkdError: the folder is not writable or the disk is full.
    """
    balance = RangeBalance(classes, config)
    numbers, said = [], []
    for number, labels, confidence in predictions:
        numbers.append(number)
        said.append((labels, *balance.place(confidence, np.linalg.norm(frames.scan(number).points_m, axis=1))))
        balance.add(*said[-1])
    thresholds = balance.thresholds()
    kept = [np.where(balance.keep(*scan, thresholds), scan[0], UNKNOWN).astype(np.uint8) for scan in said]
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            numbers=np.array(numbers, np.int64),
            starts=np.cumsum([0, *(len(labels) for labels in kept)]),
            labels=np.concatenate([np.zeros(0, np.uint8), *kept]),
        )


def _bin(confidence: np.ndarray) -> np.ndarray:
    clipped = np.clip(confidence.astype(np.float32), 1e-4, 1 - 1e-4)
    return np.clip(_BINS * (0.5 + np.log(clipped / (1 - clipped)) / 19.0), 0, _BINS - 1).astype(np.int64)
