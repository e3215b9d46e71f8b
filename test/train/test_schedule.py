"""Learning rates against the numbers that the public code gives."""

from __future__ import annotations

from itertools import pairwise

import pytest

from xkd_ros.train.config import EngineConfig
from xkd_ros.train.schedule import learning_rate

EPOCH = 1000
PLUS = EngineConfig(
    steps=65 * EPOCH, lr=2e-3, schedule="inverse_sqrt_cooldown", warmup_steps=EPOCH, decay_steps=0.45 * EPOCH, cooldown_steps=2 * EPOCH
)
COSINE = EngineConfig(steps=12, lr=0.05, warmup_steps=2)


# METHODS 2.4, printed by the public code.
@pytest.mark.parametrize(("epoch", "rate"), [(1, 2e-3), (5, 6.4e-4), (20, 3.0e-4), (63, 1.7e-4), (64, 8.4e-5)])
def test_inverse_root_is_the_published_one(epoch: int, rate: float) -> None:
    assert float(f"{learning_rate(epoch * EPOCH, PLUS):.1e}") == rate


def test_inverse_root_drops_by_under_one_per_cent_where_it_turns_into_a_line() -> None:
    before, after = (learning_rate(step, PLUS) for step in (63 * EPOCH - 1, 63 * EPOCH))
    assert 0.990 < after / before < 0.995
    assert learning_rate(65 * EPOCH - 1, PLUS) < 1e-6 and learning_rate(70 * EPOCH, PLUS) == 0.0


def test_cosine_rises_then_falls() -> None:
    rates = [learning_rate(step, COSINE) for step in range(COSINE.steps + 1)]
    assert rates[0] == pytest.approx(COSINE.lr / 2) and rates[1] == pytest.approx(COSINE.lr)
    assert all(a > b for a, b in pairwise(rates[2:])) and rates[-1] == pytest.approx(COSINE.min_lr)


def test_no_warmup_starts_at_the_top() -> None:
    for schedule in ("cosine", "inverse_sqrt_cooldown"):
        assert learning_rate(0, EngineConfig(steps=10, lr=0.1, warmup_steps=0, schedule=schedule)) == pytest.approx(0.1)


def test_a_cooldown_longer_than_the_training_begins_with_it() -> None:
    config = EngineConfig(steps=500, lr=1e-3, schedule="inverse_sqrt_cooldown", warmup_steps=0, decay_steps=450, cooldown_steps=2000)
    rates = [learning_rate(step, config) for step in range(501)]
    assert rates[0] <= 1e-3 and all(later < earlier for earlier, later in pairwise(rates)) and rates[-1] == 0


def test_the_last_step_of_the_cooldown_still_moves() -> None:
    assert learning_rate(PLUS.steps - 1, PLUS) == pytest.approx(learning_rate(PLUS.steps - 2, PLUS) / 2)
    assert learning_rate(PLUS.steps, PLUS) == 0
