"""One confusion matrix over everything, at raw-scan resolution; every score is read from it (METHODS 2.7)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np

from xkd_ros.core.errors import ShapeError


@dataclass(eq=False)
class Confusion:
    """Counts of (true class, predicted class); points whose truth is no class are left out.

    A prediction that is no class (255) counts against its true class and for no other.

    Attributes:
        classes: Number of classes C.
        counts: (C, C + 1) int64, last column = predicted as no class.
    """

    classes: int
    counts: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.classes, self.classes + 1), np.int64)

    @classmethod
    def from_counts(cls, counts: np.ndarray) -> Confusion:
        """Wrap (C, C + 1) counts that were stored.

        Raises:
            ShapeError: not one column more than rows.
        """
        if counts.ndim != 2 or counts.shape[1] != counts.shape[0] + 1:
            raise ShapeError(f"counts of a confusion have shape {counts.shape}, expected (C, C + 1)")
        confusion = cls(len(counts))
        confusion.counts += counts.astype(np.int64)
        return confusion

    def merged(self, mapping: np.ndarray, classes: int) -> Confusion:
        """Count the same points over coarser classes.

        Args:
            mapping: (256,) uint8, coarse class of each class id; 255 leaves a true class out and makes a prediction no class.
            classes: Number of coarse classes.
        """
        rows = mapping[: self.classes].astype(np.int64)
        columns = np.append(np.minimum(rows, classes), classes)
        kept = rows < classes
        coarse = Confusion(classes)
        np.add.at(coarse.counts, (rows[kept][:, None], columns[None]), self.counts[kept])
        return coarse

    def add(self, truth: np.ndarray, predicted: np.ndarray) -> None:
        """Count (N,) true against (N,) predicted class ids.

        Raises:
            ShapeError: the two differ in length.
        """
        if truth.shape != predicted.shape:
            raise ShapeError(f"{truth.shape} true labels against {predicted.shape} predicted ones")
        known = truth < self.classes
        column = predicted[known].astype(np.int64)
        column[(column < 0) | (column > self.classes)] = self.classes
        flat = truth[known].astype(np.int64) * (self.classes + 1) + column
        self.counts += np.bincount(flat, minlength=self.counts.size).reshape(self.counts.shape)

    @property
    def iou(self) -> np.ndarray:
        """(C,) intersection over union; NaN where a class is neither true nor predicted."""
        square = self.counts[:, :-1]
        hit = np.diag(square)
        union = self.counts.sum(1) + square.sum(0) - hit
        return np.divide(hit, union, out=np.full(self.classes, np.nan), where=union > 0)

    @property
    def accuracy(self) -> np.ndarray:
        """(C,) share of each true class that was found; NaN where the class never occurs."""
        total = self.counts.sum(1)
        return np.divide(np.diag(self.counts[:, :-1]), total, out=np.full(self.classes, np.nan), where=total > 0)

    @property
    def miou(self) -> float:
        """Mean of the defined IoUs."""
        return _nanmean(self.iou)

    @property
    def macc(self) -> float:
        """Mean of the defined class accuracies."""
        return _nanmean(self.accuracy)

    @property
    def oacc(self) -> float:
        """Share of all labelled points that are right."""
        total = self.counts.sum()
        return float(np.diag(self.counts[:, :-1]).sum() / total) if total else float("nan")

    def percents(self, digits: int = 1) -> dict[str, float | None]:
        """Return miou, macc and oacc in percent for a card or a file, None where there is nothing to score."""
        return {"miou": percent(self.miou, digits), "macc": percent(self.macc, digits), "oacc": percent(self.oacc, digits)}


def percent(value: float, digits: int = 1) -> float | None:
    """Turn a share into rounded percent; NaN, which JSON lacks, into None."""
    return None if np.isnan(value) else round(100 * float(value), digits)


def _nanmean(values: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no class at all is NaN, not a warning
        return float(np.nanmean(values))
