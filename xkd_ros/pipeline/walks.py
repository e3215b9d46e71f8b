"""Simulated walks as recordings, many at a time; those that exist are kept, so an interrupted call can be repeated."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from xkd_ros.core.errors import BagError, ConfigError
from xkd_ros.core.progress import Report
from xkd_ros.worlds.crowd import WALKERS
from xkd_ros.worlds.simulate import TRUTH_FILE, rig_for, scans_of, simulate


@dataclass(frozen=True)
class Walk:
    """One recording: a simulated rig in a building, each `every`-th scan of so many seconds, with cameras or without, and people."""

    rig: str
    building: int
    seconds: float
    every: int
    pictures: bool = True
    walkers: int = WALKERS

    @property
    def name(self) -> str:
        """Of its folder; sorts by building. Of a rig file only the name: its path must not lead out of the folder."""
        return f"{Path(self.rig).stem}-{self.building:03d}"


def read_seeds(text: str) -> range:
    """Read one building, "75", or a range with both ends, "60-74".

    Raises:
        ConfigError: it is neither.
    """
    first, dash, last = text.partition("-")
    if not first.isdigit() or not (last if dash else first).isdigit() or (dash and int(last) < int(first)):
        raise ConfigError(f"'{text}' names no buildings; write one such as 75, or a range such as 60-74")
    return range(int(first), int(last if dash else first) + 1)


def simulate_walks(walks: Sequence[Walk], folder: Path, processes: int, progress: Report | None = None) -> list[Path]:
    """Simulate what is missing in `folder`.

    Args:
        walks: Recordings wanted.
        folder: One sub-folder per walk.
        processes: Worker processes; 1 works in this one.
        progress: (recordings done, recordings wanted, {}).
    Returns:
        Paths of all recordings, in the order given.
    Raises:
        ConfigError: no such rig.
        BagError: the folder cannot be written, or what is there is of other walks.
    """
    paths = [folder / walk.name for walk in walks]
    for walk, path in zip(walks, paths):
        if path.exists() and (other := difference(walk, path)):
            raise BagError(f"{path} is of another walk ({other}); remove it, or choose another folder")
    missing = [(walk, path) for walk, path in zip(walks, paths) if not path.exists()]
    done = len(walks) - len(missing)

    def report(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, len(walks), {})

    report(0)
    if processes == 1 or len(missing) < 2:
        for walk, path in missing:
            _simulate(walk, path)
            report(1)
        return paths
    with ProcessPoolExecutor(min(processes, len(missing)), mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in as_completed([pool.submit(_simulate, walk, path) for walk, path in missing]):
            future.result()
            report(1)
    return paths


def difference(walk: Walk, path: Path) -> str:
    """Say in what a recording differs from a walk, as far as the facts beside it tell; empty where it is that walk."""
    try:
        facts = json.loads((path / TRUTH_FILE).read_text())
        seed, rig, seconds, scans, images = (facts[name] for name in ("seed", "rig", "seconds", "scans", "images"))
        walkers = facts.get("walkers_added", walk.walkers)
    except (OSError, ValueError, KeyError, TypeError):
        return "it is no simulated recording"
    wanted, wanted_rig = scans_of(walk.seconds, walk.every), rig_for(walk.rig, walk.building, walk.pictures).rig
    told = {
        f"building {seed}": seed == walk.building,
        f"rig {rig}": rig == wanted_rig.name,
        f"{seconds:g} s": seconds == walk.seconds,
        f"{scans} scans instead of {wanted}": scans == wanted,
        f"{walkers} people added": walkers == walk.walkers,
        "with pictures" if images else "without pictures": bool(images) == bool(wanted_rig.cameras),
    }
    return ", ".join(what for what, same in told.items() if not same)


def _simulate(walk: Walk, path: Path) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    simulate(walk.building, walk.rig, walk.seconds, path, every=walk.every, pictures=walk.pictures, walkers=walk.walkers)
