"""Which frame a numbered sample takes."""

from __future__ import annotations

import numpy as np
import pytest

from xkd_ros.core.errors import ConfigError
from xkd_ros.distill.passes import ShuffledPasses, first_usable, share_of


def test_each_pass_takes_every_frame_once_in_another_order() -> None:
    order = ShuffledPasses(10, 3)
    passes = [[order(10 * epoch + place) for place in range(10)] for epoch in range(3)]
    assert all(sorted(frames) == list(range(10)) for frames in passes) and passes[0] != passes[1] != passes[2]
    assert [ShuffledPasses(10, 3)(number) for number in (25, 3)] == [passes[2][5], passes[0][3]]


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_batch_holds_no_scan_twice_because_others_cannot_be_used(share: float) -> None:
    order, usable = ShuffledPasses(1000, 0), round(share * 1000)

    def make(number: int) -> tuple[int, int] | None:
        frame = order(number)
        return (frame, number) if frame < usable else None

    batch = [first_usable(make, number, "no label") for number in range(200)]
    assert all(frame < usable for frame, _ in batch) and len({number for _, number in batch}) == 200
    # As many different frames as independent draws give, less a little.
    assert len({frame for frame, _ in batch}) > 0.85 * usable * (1 - (1 - 1 / usable) ** 200)
    assert batch[7] == first_usable(make, 7, "no label")


def test_whoever_takes_turns_between_two_lists_finds_another_of_the_same() -> None:
    orders = [ShuffledPasses(40, 0), ShuffledPasses(7, 1)]

    def make(number: int) -> tuple[int, int] | None:
        turn, place = number % 2, orders[number % 2](number // 2)
        return (turn, place) if place == 3 else None

    assert [first_usable(make, number, "no label") for number in range(20)] == [(0, 3), (1, 3)] * 10


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(ConfigError, match="have no label; look at the pairs"):
        first_usable(lambda number: None, 0, "no label")


def test_smaller_shares_lie_within_larger_ones() -> None:
    numbers = np.arange(100) * 3
    small, large = share_of(numbers, 0.1, 5), share_of(numbers, 0.4, 5)
    assert len(small) == 10 and set(small) < set(large) and len(share_of(numbers, 1e-9, 5)) == 1
