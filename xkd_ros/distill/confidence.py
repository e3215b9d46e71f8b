"""What a frame's own images say about its points, and which of it is sure enough.

In: the teacher's scores at the points of each view. Out: one opinion per point with the reason why it counts or does not.
Next room: `consolidation`, where the opinions of several frames meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xkd_ros.core.errors import XkdError
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.glass import behind_glass
from xkd_ros.distill.pseudo_config import PseudoConfig, Reason

if TYPE_CHECKING:
    from xkd_ros.bags.frame import Frame
    from xkd_ros.core.labels import LabelSet
    from xkd_ros.teacher.targets import ViewTargets

# Confidences crowd near 1, so the bins of the histogram are even in log-odds.
_EDGES = 1 / (1 + np.exp(-np.linspace(-8.0, 16.0, 6000)))


@dataclass(frozen=True, eq=False)
class Opinion:
    """What the images of one frame say about the P points that they see.

    Attributes:
        point: (P,) int64, ascending, into the points of the frame.
        probability: (P, K) float64, rows sum to 1, or to 0 where the teacher sees no class of ours.
        label: (P,) uint8 most probable class, 255 where there is none.
        reason: (P,) uint8, `Reason.KEPT` or why not.
    """

    point: np.ndarray
    probability: np.ndarray
    label: np.ndarray
    reason: np.ndarray

    @property
    def confidence(self) -> np.ndarray:
        """(P,) probability of the most probable class."""
        return self.probability.max(1, initial=0.0)


def look_at(
    frame: Frame, views: Sequence[ViewTargets], labels: LabelSet, config: PseudoConfig, thresholds: np.ndarray | None = None
) -> Opinion:
    """Combine the views of a frame and test each point.

    Args:
        frame: With its views.
        views: The teacher's scores in some or all of them.
        labels: The K classes.
        config: Which tests.
        thresholds: (K,) smallest confidence per class; None leaves that test out.
    Returns:
        One opinion per seen point: the mean of the views that got furthest in the tests.
    Raises:
        XkdError: there are no scores, or they are of another number of classes.
    """
    point, probability, reason = _observations(frame, views, labels, config)
    point, probability, reason = _merge(point, probability, reason)
    label = np.where(probability.any(1), probability.argmax(1), UNKNOWN).astype(np.uint8)
    opinion = Opinion(point, probability, label, reason)
    kept = reason == Reason.KEPT
    if config.glass_depth_m and {"window", "wall"} <= set(labels.names):
        levelled_m = frame.points_m[point] @ frame.levelled_from_lidar.T
        window = kept & (label == labels.names.index("window"))
        wall = kept & (label == labels.names.index("wall"))
        reason[behind_glass(levelled_m, window, wall, config.glass_depth_m)] = Reason.GLASS
    if probability.shape[1] > 1:
        second, best = np.partition(probability, -2, axis=1)[:, -2:].T
        reason[(reason == Reason.KEPT) & (best - second < config.min_margin)] = Reason.MARGIN
    if thresholds is not None:
        rows = np.flatnonzero(reason == Reason.KEPT)
        reason[rows[opinion.confidence[rows] < thresholds[label[rows]]]] = Reason.THRESHOLD
    return opinion


def _observations(
    frame: Frame, views: Sequence[ViewTargets], labels: LabelSet, config: PseudoConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay all views end to end: point (V,), probability (V, K), and the first test that each observation fails (V,)."""
    points, probabilities, reasons = [np.zeros(0, np.int64)], [np.zeros((0, len(labels)))], [np.zeros(0, np.uint8)]
    turning = frame.turn_rate_radps is not None and abs(frame.turn_rate_radps) > config.max_turn_rate_radps
    for view in views:
        if view.scores is None:
            raise XkdError(
                f"the targets of frame {frame.number} hold no class scores: add a teacher that names classes, or write targets again"
            )
        if view.scores.shape != (len(view.point), len(labels)):
            raise XkdError(
                f"the targets of frame {frame.number} score {view.scores.shape[-1]} classes, the class map has {len(labels)}: "
                "write the targets again with this class map"
            )
        probability = normalised(view.scores)
        reason = np.full(len(view.point), Reason.KEPT, np.uint8)
        # From the last test to the first: the earliest failed one stays.
        reason[~probability.any(1)] = Reason.IGNORED
        if config.drop_borders and view.interior is not None:
            reason[~view.interior] = Reason.BORDER
        if config.drop_edges:
            reason[view.edge] = Reason.EDGE
        if turning:
            reason[:] = Reason.TURNING
        if abs(frame.views[view.view].dt_ns) > config.max_dt_ms * 1e6:
            reason[:] = Reason.LATE
        points.append(view.point.astype(np.int64))
        probabilities.append(probability)
        reasons.append(reason)
    return np.concatenate(points), np.concatenate(probabilities), np.concatenate(reasons)


def normalised(scores: np.ndarray) -> np.ndarray:
    """Make (V, K) scores sum to 1 per row; rows without a positive, finite sum become zeros (METHODS 7.2: raw sums are not 1)."""
    scores = np.maximum(scores.astype(np.float64), 0)
    total = scores.sum(1, keepdims=True)
    return np.divide(scores, total, out=np.zeros_like(scores), where=np.isfinite(total) & (total > 0))


def _merge(point: np.ndarray, probability: np.ndarray, reason: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reduce several observations of one point to the mean of those that got furthest."""
    order = np.argsort(point, kind="stable")
    point, probability, reason = point[order], probability[order], reason[order]
    first = np.flatnonzero(np.diff(point, prepend=-1))
    if len(first) == len(point):
        return point, probability, reason
    furthest = np.maximum.reduceat(reason, first)
    counts = np.diff(first, append=len(point))
    speaks = reason == np.repeat(furthest, counts)
    merged = np.add.reduceat(np.where(speaks[:, None], probability, 0), first, axis=0)
    return point[first], normalised(merged), furthest


class ConfidenceHistogram:
    """Confidences per class over many frames; from them the thresholds that keep the same share of every class."""

    def __init__(self, classes: int) -> None:
        self._counts = np.zeros((classes, len(_EDGES)), np.int64)

    @property
    def seen(self) -> np.ndarray:
        """(K,) int64 points counted per class."""
        return self._counts.sum(1)

    def add(self, opinion: Opinion) -> None:
        """Count the points that passed every test of place and time; doubtful ones belong to the population."""
        rows = np.isin(opinion.reason, (Reason.KEPT, Reason.MARGIN))
        label = opinion.label[rows].astype(np.int64)
        index = np.maximum(np.searchsorted(_EDGES, opinion.confidence[rows], side="right") - 1, 0)
        self._counts += np.bincount(label * len(_EDGES) + index, minlength=self._counts.size).reshape(self._counts.shape)

    def thresholds(self, keep_share: float) -> np.ndarray:
        """Find the largest confidence per class that at least `keep_share` of its points reach.

        Returns:
            (K,) float64; 0 for a class without points.
        """
        at_least = self._counts[:, ::-1].cumsum(1)[:, ::-1]
        enough = at_least >= np.maximum(1, np.ceil(keep_share * self.seen - 1e-9))[:, None]
        # `enough` is true up to the last bin whose lower edge still keeps the share. Below the first edge nothing is cut.
        last = enough.sum(1) - 1
        return np.where(last > 0, _EDGES[np.maximum(last, 0)], 0.0)
