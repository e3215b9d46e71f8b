"""`xkd simulate` with progress, and the true labels of what it wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xkd_ros.core.errors import BagError
from xkd_ros.pipeline.progress import console, make_progress, show_count
from xkd_ros.pipeline.walks import Walk, simulate_walks
from xkd_ros.worlds.simulate import TRUTH_FILE, TRUTH_FOLDER, simulate


def run_simulation(walk: Walk, out: Path, overwrite: bool = False) -> None:
    """Simulate a walk and say what was written.

    Raises:
        ConfigError, BagError: as for `simulate`.
    """
    with make_progress() as display:
        task = display.add_task(f"building {walk.building}, rig {walk.rig}", total=None, note="laying out rooms")
        summary = simulate(
            walk.building,
            walk.rig,
            walk.seconds,
            out,
            show_count(display, task),
            overwrite=overwrite,
            every=walk.every,
            processes=os.cpu_count() or 1,
            pictures=walk.pictures,
            walkers=walk.walkers,
        )
    rooms = ", ".join(dict.fromkeys(summary.rooms))
    console.print(
        f"wrote {out}: {summary.scans} scans, {summary.images} images, {summary.walkers} people walking,"
        f" building {summary.seed} ({summary.split}, {summary.style}: {rooms})"
    )
    console.print(f"{summary.lidar_cue_share:.0%} of doors and windows can be told by the lidar; the others only in the image")


def run_simulations(walks: Sequence[Walk], out: Path, processes: int | None = None) -> None:
    """Simulate several walks, all cores at work, as `<out>/<rig>-<seed>`; what exists is kept.

    Raises:
        ConfigError, BagError: as for `simulate`.
    """
    kept = sum((out / walk.name).exists() for walk in walks)
    with make_progress() as display:
        task = display.add_task(f"{len(walks)} walks", total=len(walks), note="")
        simulate_walks(walks, out, processes or os.cpu_count() or 1, show_count(display, task))
    there = f" ({kept} were there and are kept)" if kept else ""
    console.print(f"wrote {len(walks) - kept} recordings to {out}{there}: each {walks[0].every}. scan of {walks[0].seconds:g} s")
    if all(walk.pictures for walk in walks):
        console.print(f"go on with `xkd learn {out}/* -o models/site`")


@dataclass(frozen=True, eq=False)
class SimulatedTruth:
    """True labels of a simulated bag, by scan stamp."""

    folder: Path
    facts: dict[str, Any]

    @property
    def stamps_ns(self) -> list[int]:
        """Stamps of the scans, ascending."""
        return sorted(int(path.stem) for path in (self.folder / TRUTH_FOLDER).glob("*.npz"))

    def labels(self, stamp_ns: int) -> np.ndarray:
        """Read (N,) uint8 labels in cloud order."""
        with np.load(self.folder / TRUTH_FOLDER / f"{stamp_ns}.npz", allow_pickle=False) as arrays:
            return arrays["labels"]

    def pose(self, stamp_ns: int) -> np.ndarray:
        """Read world_from_lidar (4, 4)."""
        with np.load(self.folder / TRUTH_FOLDER / f"{stamp_ns}.npz", allow_pickle=False) as arrays:
            return arrays["world_from_lidar"]


def load_truth(bag: Path) -> SimulatedTruth:
    """Open the truth beside a simulated bag.

    Raises:
        BagError: there is none.
    """
    try:
        return SimulatedTruth(bag, json.loads((bag / TRUTH_FILE).read_text()))
    except (OSError, ValueError) as error:
        raise BagError(
            f"{bag} has no readable {TRUTH_FILE} ({error}): it is no simulated recording; make one with `xkd simulate`"
        ) from error
