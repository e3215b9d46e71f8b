"""Which frame a numbered sample takes, and which frames there are to take."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from xkd_ros.core.errors import ConfigError

ItemT = TypeVar("ItemT")
_TRIES = 300
# The next number is somebody's own sample: taken instead, a batch would hold the same scan twice. No training has so many. Even, so
# that a recipe which takes turns between two lists finds another frame in the same list; twice a prime, so that it finds all of them.
_STRIDE = 2 * 500_000_003


class ShuffledPasses:
    """Number of a sample → place in a store; every pass over the store takes another random order."""

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def __call__(self, number: int) -> int:
        """Find the place of sample `number`."""
        epoch, place = divmod(number, self._count)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng((self._seed, 1, epoch)).permutation(self._count))
        return int(self._order[1][place])


def first_usable(make: Callable[[int], ItemT | None], number: int, lacking: str) -> ItemT:
    """Make sample `number`, or another that is not None; which one it is follows from the number alone.

    Raises:
        ConfigError: none of several hundred can be used; `lacking` says what they have not.
    """
    for candidate in range(number, number + _TRIES * _STRIDE, _STRIDE):
        item = make(candidate)
        if item is not None:
            return item
    raise ConfigError(
        f"{_TRIES} training frames, drawn at random, have {lacking}; look at the pairs of this recording before learning from it"
    )


def share_of(numbers: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Choose a share of the frames, the same for the same seed, smaller shares within larger ones; at least one frame.

    Args:
        numbers: (F,) frame numbers.
        share: 0 to 1.
        seed: Of the choice.
    Returns:
        Ascending frame numbers.
    """
    count = min(len(numbers), max(1, round(share * len(numbers))))
    return np.sort(np.random.default_rng((seed, 2)).permutation(numbers)[:count])
