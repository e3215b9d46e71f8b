"""Frames of one place vote on its label: errors of single images go, and points that no camera sees get a label.

In: the opinions of the frames of a sequence with poses. Out: the label, confidence and reason of every point of each frame.
Next room: `pseudo_labels`, which writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np

from xkd_ros.core import se3
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.confidence import Opinion
from xkd_ros.distill.pseudo_config import LABELLED, Reason, VoteConfig
from xkd_ros.distill.vote_table import WHOLE, Ballot, VoteTable, cast, voxel_keys

VOTERS = (Reason.KEPT, Reason.IGNORED, Reason.GLASS)


@dataclass(frozen=True, eq=False)
class FrameLabels:
    """Labels of one frame.

    Attributes:
        labels: (N,) uint8, 255 unknown.
        confidence: (N,) float32, 0 where unknown.
        reason: (N,) uint8 of `Reason`.
        own_label: (N,) uint8, what the frame's own images say before any test; 255 where they say nothing.
        own_reason: (N,) uint8, what became of that: as `reason`, but never gained or propagated.
    """

    labels: np.ndarray
    confidence: np.ndarray
    reason: np.ndarray
    own_label: np.ndarray
    own_reason: np.ndarray


@dataclass(frozen=True, eq=False)
class Witness:
    """One frame of a sequence: all its points as voxels of the world (None without a pose), and what its images say."""

    count: int
    keys: np.ndarray | None
    opinion: Opinion


def make_witness(
    points_m: np.ndarray, world_from_lidar: np.ndarray | None, origin_m: np.ndarray, opinion: Opinion, voxel_m: float
) -> Witness:
    """Place a frame in the world; `origin_m` (3,) is the same for the whole sequence."""
    if world_from_lidar is None:
        return Witness(len(points_m), None, opinion)
    world_m = se3.apply(world_from_lidar, points_m.astype(np.float64))
    return Witness(len(points_m), voxel_keys(world_m, origin_m, voxel_m), opinion)


class Consolidator:
    """Applies the votes of neighbouring frames.

    Args:
        classes: Number of classes K.
        movers: Ids of classes that do not stay where they are.
        config: Window, thresholds.
    """

    def __init__(self, classes: int, movers: Collection[int], config: VoteConfig) -> None:
        self._config, self._classes = config, classes
        self._carried = np.ones(classes + 1, bool)
        # The last column is what the class map ignores: it votes, so that mirrors stay unlabelled, and never wins a label.
        self._carried[[*movers, classes]] = False

    def run(self, load: Callable[[int], Witness], length: int, first: int = 0) -> Iterator[tuple[int, FrameLabels]]:
        """Label the frames of a sequence in order; holds only the frames of one window.

        Args:
            load: Position in the sequence → frame; called once per position, in order.
            length: Frames in the sequence.
            first: Position to begin at; the frames before it that still vote are loaded too.
        Yields:
            Position and labels.
        """
        radius, reach = self._config.radius_frames, self._config.reach_frames
        near = VoteTable(self._classes + 1)
        far = near if reach == radius else VoteTable(self._classes + 1)
        start = max(0, first - reach)
        waiting: dict[int, Witness] = {}
        ballots: dict[int, Ballot] = {}
        loaded, entered = start, max(0, first - radius)
        for position in range(first, length):
            while loaded < min(length, position + reach + 1):
                witness = load(loaded)
                ballots[loaded] = self.ballot(witness)
                far.add(ballots[loaded])
                if loaded >= first:
                    waiting[loaded] = witness
                loaded += 1
            while far is not near and entered < min(length, position + radius + 1):
                near.add(ballots[entered])
                entered += 1
            if far is not near and position - radius - 1 >= max(0, first - radius):
                near.remove(ballots[position - radius - 1])
            if position - reach - 1 >= start:
                far.remove(ballots.pop(position - reach - 1))
            yield position, self.judge(waiting.pop(position), near, far)

    def ballot(self, witness: Witness) -> Ballot:
        """Let the sure points of a frame vote, each voxel once."""
        opinion = witness.opinion
        voters = np.isin(opinion.reason, VOTERS)
        if witness.keys is None:
            voters[:] = False
        votes = np.zeros((np.count_nonzero(voters), self._classes + 1))
        votes[:, :-1] = opinion.probability[voters]
        nothing = opinion.reason[voters] != Reason.KEPT
        votes[nothing] = 0
        votes[nothing, -1] = 1
        keys = np.zeros(0, np.int64) if witness.keys is None else witness.keys[opinion.point[voters]]
        return cast(keys, votes)

    def judge(self, witness: Witness, near: VoteTable, far: VoteTable) -> FrameLabels:
        """Decide on every point of a frame.

        Args:
            witness: The frame.
            near: Votes that decide on points with an opinion of their own.
            far: Votes that decide on all other points.
        """
        opinion, count = witness.opinion, witness.count
        own_label, reason = np.full(count, UNKNOWN, np.uint8), np.full(count, Reason.UNSEEN, np.uint8)
        own_label[opinion.point], reason[opinion.point] = opinion.label, opinion.reason
        labels, confidence = np.full(count, UNKNOWN, np.uint8), np.zeros(count)
        kept = opinion.reason == Reason.KEPT
        labels[opinion.point[kept]], confidence[opinion.point[kept]] = opinion.label[kept], opinion.confidence[kept]
        own_reason = reason.copy()
        if witness.keys is not None:
            # An opinion that failed a test of place or time says nothing about this place.
            valid = np.isin(opinion.reason, (Reason.KEPT, Reason.MARGIN, Reason.THRESHOLD))
            own = np.full((count, self._classes), np.nan)
            own[opinion.point[valid]] = opinion.probability[valid]
            self._vote(witness.keys, own, own_label, labels, confidence, reason, own_reason, near, far)
        doubtful = (labels != UNKNOWN) & (confidence < self._config.min_confidence)
        reason[doubtful] = own_reason[doubtful]
        own_reason[doubtful & (reason == Reason.KEPT)] = Reason.DOUBTFUL
        reason[doubtful & (reason == Reason.KEPT)] = Reason.DOUBTFUL
        labels[reason < LABELLED] = UNKNOWN
        confidence[reason < LABELLED] = 0
        return FrameLabels(labels, confidence.astype(np.float32), reason, own_label, own_reason)

    def _vote(
        self,
        keys: np.ndarray,
        own: np.ndarray,
        own_label: np.ndarray,
        labels: np.ndarray,
        confidence: np.ndarray,
        reason: np.ndarray,
        own_reason: np.ndarray,
        near: VoteTable,
        far: VoteTable,
    ) -> None:
        """Overrule, confirm and add labels in place; `own` (N, K) is NaN where a point has no valid opinion."""
        config = self._config
        votes, frames = far.look_up(keys)
        has_own = ~np.isnan(own[:, 0])
        if near is not far:
            votes[has_own], frames[has_own] = near.look_up(keys[has_own])
        winner = votes.argmax(1)
        share = np.minimum(votes.max(1) / (WHOLE * np.maximum(frames, 1)), 1.0)
        observed = frames >= config.min_observations
        settled = observed & (share >= config.majority)
        carried = settled & self._carried[winner]
        moving = np.zeros(len(keys), bool)
        moving[own_label != UNKNOWN] = ~self._carried[own_label[own_label != UNKNOWN]]
        kept = reason == Reason.KEPT

        fixed = kept & ~moving
        contested = fixed & observed & ~settled
        nothing = fixed & settled & (winner == self._classes)
        overruled = fixed & carried & (winner != own_label)
        open_to_gain = ~kept & ~moving & (reason != Reason.IGNORED) & (reason != Reason.GLASS)
        gained = overruled | (open_to_gain & carried)
        confirmed = (fixed & carried) | gained
        own_reason[contested] = reason[contested] = Reason.CONTESTED
        own_reason[nothing | overruled] = reason[nothing | overruled] = Reason.OVERRULED
        reason[gained] = np.where(reason[gained] == Reason.UNSEEN, Reason.PROPAGATED, Reason.GAINED)
        labels[gained] = winner[gained]
        # Geometric mean of what this frame and what the place says, where both say something.
        mine = own[confirmed, winner[confirmed]]
        confidence[confirmed] = np.where(np.isnan(mine), share[confirmed], np.sqrt(np.nan_to_num(mine) * share[confirmed]))
