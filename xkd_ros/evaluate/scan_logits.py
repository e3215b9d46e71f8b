"""What a network says about one scan before anything is decided, and the temperature that makes its probabilities honest.

In: a `runtime.Segmenter`. Next room: `frame_evaluation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.types import UNKNOWN, Segmentation
from xkd_ros.metrics.reliability import fit_temperature
from xkd_ros.runtime.segmenter import Segmenter, describe_logits

if TYPE_CHECKING:
    from xkd_ros.bags.frame import Frame
    from xkd_ros.bags.frame_store import FrameStore

# One number needs no more; neighbouring points say the same.
_MOST_POINTS_PER_SCAN, _MOST_SCANS = 2000, 500


@dataclass(frozen=True, eq=False)
class ScanLogits:
    """Logits of the sampled points of one scan.

    Attributes:
        logits: (M, C) float32.
        undo: (N,) int64, row that labels each raw point; -1 where the raw point is invalid.
    """

    logits: np.ndarray
    undo: np.ndarray

    def segmentation(self, temperature: float) -> Segmentation:
        """Decide: label, probability and entropy of the N raw points."""
        label, probability, entropy = describe_logits(self.logits, temperature)
        known = self.undo >= 0
        labels = np.full(len(self.undo), UNKNOWN, np.uint8)
        probabilities, entropies = np.zeros(len(self.undo), np.float32), np.ones(len(self.undo), np.float32)
        chosen = self.undo[known]
        labels[known], probabilities[known], entropies[known] = label[chosen], probability[chosen], entropy[chosen]
        return Segmentation(labels, probabilities, entropies)


LogitsOf = Callable[[np.ndarray, np.ndarray | None, np.ndarray | None], ScanLogits]
"""(points_m (N, 3), intensity (N,) or None, levelled_from_lidar (3, 3) or None) → logits."""


class Labels(Protocol):
    """Labels by frame number; None where a frame has none. A label store is one, a dictionary another."""

    def __getitem__(self, number: int, /) -> tuple[np.ndarray, np.ndarray] | None:
        """Return labels (N,) uint8, 255 unknown, and confidence (N,) float32."""


def logits_of(segmenter: Segmenter) -> LogitsOf:
    """Ask a segmenter for logits, so that probabilities at several temperatures cost one run of the network."""

    def ask(points_m: np.ndarray, intensity: np.ndarray | None, rotation: np.ndarray | None) -> ScanLogits:
        net_input, logits = segmenter.logits(points_m, intensity, rotation)
        return ScanLogits(logits, net_input.undo)

    return ask


def calibrate(
    ask: LogitsOf,
    frames: FrameStore,
    numbers: Sequence[int] | np.ndarray,
    against: Labels,
    min_confidence: float = 0.0,
    *,
    before: Callable[[Frame], None] | None = None,
) -> float:
    """Find the temperature on validation scans.

    Args:
        ask: Gives logits.
        frames: Where the scans are.
        numbers: Scans of the split "val", and of no other: a temperature fitted where it is measured proves nothing. Of very many
            some are taken, evenly spaced.
        against: Labels to be right about: the teacher's, or a few real ones.
        min_confidence: Labels below it are left out; wrong labels make a model look surer than it may be, and the temperature too high.
        before: As for `evaluate_frames`.
    Returns:
        What logits are to be divided by.
    Raises:
        ConfigError: a scan of another split, or not one labelled point.
    """
    rows, truths = [], []
    for number in np.asarray(numbers)[:: max(1, -(-len(numbers) // _MOST_SCANS))]:
        frame = frames.scan(int(number))
        if frame.split != "val":
            raise ConfigError(f"frame {number} belongs to split '{frame.split}': fit the temperature on split 'val' only")
        found = against[int(number)]
        if found is None:
            continue
        if before is not None:
            before(frame)
        answer = ask(frame.points_m, frame.intensity, frame.levelled_from_lidar)
        labelled = np.flatnonzero((found[0] < answer.logits.shape[1]) & (found[1] >= min_confidence) & (answer.undo >= 0))
        chosen = labelled[:: max(1, -(-len(labelled) // _MOST_POINTS_PER_SCAN))]
        logits = answer.logits[answer.undo[chosen]]
        finite = np.isfinite(logits).all(axis=1)
        rows.append(logits[finite])
        truths.append(found[0][chosen][finite].astype(np.int64))
    if not sum(map(len, truths)):
        raise ConfigError("no labelled point in the validation scans: nothing to fit the temperature on; keep temperature 1")
    return fit_temperature(np.concatenate(rows), np.concatenate(truths))
