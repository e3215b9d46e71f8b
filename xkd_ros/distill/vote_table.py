"""Votes of frames on places: a table of voxels that frames enter and leave, whole numbers only, so that the order does not matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Votes are parts of this whole: sums of integers are exact, and a frame that leaves takes with it just what it brought.
WHOLE = 1000
NOWHERE = -1
_AXIS_BITS = 21
_HALF = 1 << (_AXIS_BITS - 1)
# Places nobody votes on any more are removed when they are this many and the greater part.
_FEW = 4096


def voxel_keys(world_m: np.ndarray, origin_m: np.ndarray, voxel_m: float) -> np.ndarray:
    """Name the voxel of each point by one integer.

    Args:
        world_m: (N, 3) float64, metres, world frame.
        origin_m: (3,) a place of the recording; keys reach 2**20 voxels from it.
        voxel_m: Edge of a voxel.
    Returns:
        (N,) int64; `NOWHERE` where a point is farther away than that or not finite.
    """
    with np.errstate(invalid="ignore"):
        index = np.floor((world_m - origin_m) / voxel_m)
        inside = (np.abs(index) < _HALF).all(1)
    x, y, z = (np.where(inside[:, None], index, 0).astype(np.int64) + _HALF).T
    return np.where(inside, (x << (2 * _AXIS_BITS)) | (y << _AXIS_BITS) | z, NOWHERE)


@dataclass(frozen=True, eq=False)
class Ballot:
    """The votes of one frame: one vote per voxel, however many points it has there.

    Attributes:
        keys: (U,) int64, ascending, no `NOWHERE`.
        votes: (U, C) int32, parts of `WHOLE` for each column.
    """

    keys: np.ndarray
    votes: np.ndarray


def cast(keys: np.ndarray, probability: np.ndarray) -> Ballot:
    """Average the probabilities of a frame's points voxel by voxel.

    Args:
        keys: (P,) int64 from `voxel_keys`.
        probability: (P, C), rows sum to 1.
    """
    somewhere = keys != NOWHERE
    keys, probability = keys[somewhere], probability[somewhere]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.diff(keys, prepend=NOWHERE))
    if not len(first):
        return Ballot(keys, np.zeros((0, probability.shape[1]), np.int32))
    mean = np.add.reduceat(probability[order], first, axis=0) / np.diff(first, append=len(keys))[:, None]
    return Ballot(keys[first], np.rint(WHOLE * mean).astype(np.int32))


class VoteTable:
    """Sum of the ballots that are in it.

    Args:
        columns: Columns C of a vote.
    """

    def __init__(self, columns: int) -> None:
        # `_keys` is sorted and says in `_rows` where the sums of a voxel are; those stay in the order of arrival.
        self._keys, self._rows = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._votes, self._frames = np.zeros((0, columns), np.int32), np.zeros(0, np.int32)

    def __len__(self) -> int:
        return int(np.count_nonzero(self._frames))

    def add(self, ballot: Ballot) -> None:
        """Count a frame's votes."""
        place, known = self._find(ballot.keys)
        new = ~known
        fresh = np.arange(len(self._frames), len(self._frames) + np.count_nonzero(new))
        self._votes = np.concatenate([self._votes, ballot.votes[new]])
        self._frames = np.concatenate([self._frames, np.ones(len(fresh), np.int32)])
        rows = self._rows[place[known]]
        self._votes[rows] += ballot.votes[known]
        self._frames[rows] += 1
        self._keys = np.insert(self._keys, place[new], ballot.keys[new])
        self._rows = np.insert(self._rows, place[new], fresh)

    def remove(self, ballot: Ballot) -> None:
        """Take back votes that were counted."""
        place, _ = self._find(ballot.keys)
        rows = self._rows[place]
        self._votes[rows] -= ballot.votes
        self._frames[rows] -= 1
        alive = self._frames > 0
        dead = len(alive) - np.count_nonzero(alive)
        if dead > _FEW and 2 * dead > len(alive):
            self._compact(alive)

    def look_up(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the votes (N, C) int32 and the number of frames (N,) int32 of each voxel; zeros where nobody voted."""
        votes, frames = np.zeros((len(keys), self._votes.shape[1]), np.int32), np.zeros(len(keys), np.int32)
        place, known = self._find(keys)
        rows = self._rows[place[known]]
        votes[known], frames[known] = self._votes[rows], self._frames[rows]
        return votes, frames

    def _find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place = np.searchsorted(self._keys, keys)
        if not len(self._keys):
            return place, np.zeros(len(keys), bool)
        return place, self._keys[np.minimum(place, len(self._keys) - 1)] == keys

    def _compact(self, alive: np.ndarray) -> None:
        row = np.cumsum(alive) - 1
        kept = alive[self._rows]
        self._keys, self._rows = self._keys[kept], row[self._rows[kept]]
        self._votes, self._frames = self._votes[alive], self._frames[alive]
