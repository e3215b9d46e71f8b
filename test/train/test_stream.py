"""Which samples a step sees: fixed by its number and rank, dealt out evenly when asked."""

from __future__ import annotations

import os
import resource
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from xkd_ros.train.config import EngineConfig
from xkd_ros.train.stream import batches, deal, loading_processes


def _stream(rank: int = 0, world: int = 1, step: int = 0, **settings) -> list[list[int]]:
    fabric: Any = SimpleNamespace(global_rank=rank, world_size=world, device="cpu")
    return list(batches(lambda n: n, list, lambda n: (n * 7) % 31, EngineConfig(**settings), fabric, step))


def test_samples_come_in_order_and_once() -> None:
    assert _stream(steps=3, batch=2) == [[0, 1], [2, 3], [4, 5]]
    assert _stream(steps=2, batch=1, accumulate=2, balance_steps=1) == [[1], [0], [3], [2]]


def test_ranks_share_the_samples_of_one_process() -> None:
    one = _stream(steps=5, batch=4)
    two = [_stream(rank, 2, steps=5, batch=2) for rank in (0, 1)]
    for step in range(5):
        assert sorted(one[step]) == sorted(two[0][step] + two[1][step])


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_every_rank_sees_as_many_even_samples_as_odd_ones(world: int, batch: int) -> None:
    for rank in range(world):
        samples = np.concatenate(_stream(rank, world, steps=12, batch=batch))
        assert abs(int((samples % 2 == 0).sum()) - len(samples) / 2) <= 1


@pytest.mark.parametrize("balance", [1, 4])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_continues_sees_the_same_batches(balance: int, accumulate: int, workers: int) -> None:
    settings = {"steps": 10, "batch": 2, "accumulate": accumulate, "balance_steps": balance, "workers": workers}
    whole = _stream(**settings)[: 10 * accumulate]
    for step in (1, 4, 7, 9, 10):
        assert _stream(step=step, **settings)[: (10 - step) * accumulate] == whole[step * accumulate :]


@pytest.mark.parametrize(
    ("wanted", "device", "world", "found"),
    [(None, "cpu", 1, 0), (None, "cuda", 1, 12), (None, "cuda", 4, 3), (None, "cuda", 16, 0), (0, "cuda", 1, 0), (5, "cpu", 1, 5)],
)
def test_loading_gets_the_cores_that_training_leaves(wanted, device, world, found, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert loading_processes(wanted, device, world) == found


def test_tensors_that_wait_do_not_run_out_of_open_files() -> None:
    """Ten windows of 40 tensors wait for the first one; with a limit of 256 that was an error."""

    def sample(number: int) -> torch.Tensor:
        time.sleep(1.0 if number == 0 else 0.0)
        return torch.full((2,), number)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        fabric: Any = SimpleNamespace(global_rank=0, world_size=1, device="cpu")
        config = EngineConfig(steps=400, batch=1, balance_steps=40, workers=5)
        found = [int(batch[0][0]) for batch in batches(sample, lambda items: items, None, config, fabric, 0)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == list(range(400))


def test_a_window_loses_and_repeats_nothing() -> None:
    found = _stream(steps=8, batch=3, balance_steps=4)
    assert sorted(n for batch in found for n in batch) == list(range(24)) and {len(batch) for batch in found} == {3}


def test_dealing_evens_the_load() -> None:
    rng = np.random.default_rng(0)
    uneven, even = [], []
    for _ in range(50):
        sizes = rng.integers(1000, 6500, 16).tolist()
        dealt = deal(sizes, 8)
        assert sorted(i for places in dealt for i in places) == list(range(16))
        uneven.append(np.ptp([sizes[i] + sizes[i + 1] for i in range(0, 16, 2)]))
        even.append(np.ptp([sum(sizes[i] for i in places) for places in dealt]))
    assert np.mean(even) < 0.35 * np.mean(uneven)
