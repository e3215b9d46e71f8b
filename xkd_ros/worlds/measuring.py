"""What lidar and cameras of a walk see, computed by several processes at once and given in order.

Each measurement of a `Walkthrough` draws from a generator of its own, so that it is the same whoever makes it. Only the exposure of
a camera follows what it saw before: pictures are developed one after the other by whoever asked.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from xkd_ros.core.types import Scan
from xkd_ros.worlds.camera import Look
from xkd_ros.worlds.walkthrough import Walkthrough

_AHEAD = 3
"""Moments per process that may be waiting to be written: they hold megabytes each."""
_FEWEST = 12
"""Moments below which starting processes costs more than it saves."""


@dataclass(frozen=True, eq=False)
class Moment:
    """What the rig measures at one scan.

    Attributes:
        index: Number of the scan.
        scan: Of the lidar.
        labels: (N,) uint8, true.
        looks: What falls into each camera; to be developed in the order of the scans.
    """

    index: int
    scan: Scan
    labels: np.ndarray
    looks: tuple[Look, ...]


def measure(walk: Walkthrough, indices: Sequence[int], start_ns: int, keep_empty: bool, processes: int = 1) -> Iterator[Moment]:
    """Measure moments of a walk.

    Args:
        walk: Rig and building.
        indices: Numbers of the scans.
        start_ns: Stamp of second zero.
        keep_empty: Keep one point per ray.
        processes: At work; 1 measures in this one.
    """
    if processes == 1 or len(indices) < _FEWEST:
        for index in indices:
            yield _moment(walk, index, start_ns, keep_empty)
        return
    facts = walk.seed, walk.rig, walk.seconds, walk.family, walk.walkers
    # Spawned, not forked: the ray caster has threads, which a fork would lose.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, _enter, facts) as pool:
        waiting: deque[Future[Moment]] = deque()
        try:
            for index in indices:
                waiting.append(pool.submit(_measure_here, index, start_ns, keep_empty))
                if len(waiting) >= _AHEAD * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _moment(walk: Walkthrough, index: int, start_ns: int, keep_empty: bool) -> Moment:
    scan, labels = walk.scan(index, start_ns, keep_empty=keep_empty)
    return Moment(index, scan, labels, tuple(walk.look(camera, index) for camera in range(len(walk.rig.rig.cameras))))


_here: list[Walkthrough] = []
"""The walk of a worker process."""


def _enter(seed: int, rig: object, seconds: float, family: str, walkers: int) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _here.append(Walkthrough(seed, rig, seconds, family, walkers))  # type: ignore[arg-type]


def _measure_here(index: int, start_ns: int, keep_empty: bool) -> Moment:
    return _moment(_here[0], index, start_ns, keep_empty)
