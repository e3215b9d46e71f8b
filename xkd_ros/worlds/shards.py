"""Folders of rendered examples that many processes map into memory: which there must be, making those that are missing, all as one list."""

from __future__ import annotations

import multiprocessing
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

from xkd_ros.core.errors import XkdError
from xkd_ros.core.progress import Report

ItemT = TypeVar("ItemT", covariant=True)


@dataclass(frozen=True)
class ShardJob:
    """Examples first_seed .. first_seed + count - 1 of a stream.

    Attributes:
        stream: Name of what is drawn from.
        per_building: Consecutive examples that share a building.
    """

    stream: str
    first_seed: int
    count: int
    per_building: int

    def split(self, size: int) -> list[ShardJob]:
        """Cut into jobs of so many examples, the last with what is left."""
        last = self.first_seed + self.count
        return [ShardJob(self.stream, seed, min(size, last - seed), self.per_building) for seed in range(self.first_seed, last, size)]

    @property
    def name(self) -> str:
        """Of the folder; it says everything that decides what is in it."""
        return f"{self.stream}-{self.first_seed:012d}-{self.count}-of-{self.per_building}"


def write_shards(
    out: Path, job: ShardJob, size: int, write: Callable[[Path, ShardJob], None], processes: int, progress: Report | None = None
) -> list[Path]:
    """Fill a folder; shards that exist are skipped, so the call can be repeated after an interruption.

    Args:
        out: Folder of the shards.
        job: All examples.
        size: Examples per shard.
        write: Writes one shard, whole or not at all; a function of a module.
        processes: Worker processes; 1 renders in this one.
        progress: Called with (examples done, examples wanted) after every shard.
    Returns:
        Paths of all shards, in order of seed.
    Raises:
        XkdError: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise XkdError(f"cannot make the folder {out}: {error.strerror}; choose a writable one") from error
    parts = {out / part.name: part for part in job.split(size)}
    missing = {path: part for path, part in parts.items() if not path.exists()}
    done = job.count - sum(part.count for part in missing.values())

    def report(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, job.count, {})

    report(0)
    if processes == 1:
        for path, part in missing.items():
            write(path, part)
            report(part.count)
    elif missing:
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            waiting = {pool.submit(write, path, part): part.count for path, part in missing.items()}
            for future in as_completed(waiting):
                future.result()
                report(waiting[future])
    return list(parts)


class Shard(Protocol[ItemT]):
    """A list of examples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> ItemT: ...


class ShardList(Generic[ItemT]):
    """Several shards as one list."""

    def __init__(self, shards: Sequence[Shard[ItemT]], limit: int | None = None) -> None:
        """Join.

        Args:
            shards: In the order given.
            limit: Use only the first so many examples.
        Raises:
            XkdError: there is none.
        """
        if not shards:
            raise XkdError("no shards were given; render some first")
        self._shards = shards
        self._starts = np.cumsum([0, *map(len, shards)]).tolist()
        self._count = self._starts[-1] if limit is None else min(limit, self._starts[-1])

    def __len__(self) -> int:
        return int(self._count)

    def __getitem__(self, index: int) -> ItemT:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self._starts, index) - 1
        return self._shards[number][index - self._starts[number]]
