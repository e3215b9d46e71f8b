"""Batches of an endless stream of numbered samples; which samples a step sees follows from its number and the rank alone."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.utils.data import DataLoader, Dataset

from xkd_ros.train.config import EngineConfig

_MOST_WORKERS = 12


def loading_processes(wanted: int | None, device: torch.device | str, world: int) -> int:
    """Choose how many processes load data for one of `world` training processes on this machine.

    Args:
        wanted: As configured; None lets the machine decide.
        device: That the network runs on.
        world: Training processes.
    """
    if wanted is not None:
        return wanted
    spare = (os.cpu_count() or 1) // max(1, world) - 1
    return max(0, min(_MOST_WORKERS, spare)) if torch.device(device).type == "cuda" else 0


class _Windows(Dataset[list[Any]]):
    """Window w of one rank: the samples of `balance_steps` steps, dealt out into the batches of those steps."""

    def __init__(
        self,
        sample: Callable[[int], Any],
        collate: Callable[[list[Any]], Any],
        size: Callable[[Any], int] | None,
        config: EngineConfig,
        fabric: Fabric,
        first: int,
    ) -> None:
        self._sample, self._collate, self._size, self._first = sample, collate, size, first
        self._batches, self._batch = config.balance_steps * config.accumulate, config.batch
        self._count = -(-config.steps // config.balance_steps) - first
        self._rank, self._world = fabric.global_rank, fabric.world_size

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> list[Any]:
        count = self._batches * self._batch
        # Methods tell frames with labels from others by whether a number is even: consecutive numbers to each rank, and not always
        # the first of them to the same one, so that every rank sees as many of both.
        window = self._first + index
        start = (window * self._world + (self._rank + window) % self._world) * count
        items = [self._sample(start + place) for place in range(count)]
        if self._size is not None and self._batches > 1:
            items = [items[place] for places in deal([self._size(item) for item in items], self._batches) for place in places]
        return [self._collate(items[place : place + self._batch]) for place in range(0, count, self._batch)]


def deal(sizes: Sequence[int], batches: int) -> list[list[int]]:
    """Deal samples into batches of equal number and nearly equal total size: the largest first, each to the lightest batch."""
    most = len(sizes) // batches
    dealt: list[list[int]] = [[] for _ in range(batches)]
    load = [0] * batches
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        lightest = min((b for b in range(batches) if len(dealt[b]) < most), key=lambda b: load[b])
        dealt[lightest].append(index)
        load[lightest] += sizes[index]
    return [sorted(places) for places in dealt]


def batches(
    sample: Callable[[int], Any],
    collate: Callable[[list[Any]], Any],
    size: Callable[[Any], int] | None,
    config: EngineConfig,
    fabric: Fabric,
    step: int,
) -> Iterator[Any]:
    """Yield the batches from `step` on, `accumulate` for each step, on the device of this process.

    A run that continues in the middle of a window makes that window again and skips what it has used, so it sees the same batches.
    """
    if step >= config.steps:
        return
    first, skipped = divmod(step, config.balance_steps)
    windows = _Windows(sample, collate, size, config, fabric, first)
    # batch_size None: a window is collated already.
    workers = loading_processes(config.workers, fabric.device, fabric.world_size)
    ahead: dict[str, Any] = {}
    if workers:
        _allow_open_files()
        ahead = {"persistent_workers": True, "prefetch_factor": 1 if config.balance_steps * config.accumulate > 1 else 2}
    loader: Iterable[list[Any]] = DataLoader(windows, batch_size=None, collate_fn=_unchanged, num_workers=workers, **ahead)
    for number, window in enumerate(loader):
        for batch in window[skipped * config.accumulate if number == 0 else 0 :]:
            yield batch.to(fabric.device) if hasattr(batch, "to") else batch


def _allow_open_files() -> None:
    """Raise this process's limit: a tensor that a loading process hands over is an open file, and of those a window has dozens."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _unchanged(window: list[Any]) -> list[Any]:
    return window
