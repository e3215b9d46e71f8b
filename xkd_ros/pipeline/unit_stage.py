"""The part of fine-tuning that `partdistill` adds: image teachers over the training frames → units, and simulated scans beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.frame_manifest import MANIFEST_NAME as FRAMES_NAME
from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.bags.frame_writer import write_frames
from xkd_ros.bags.truth import SIMULATION_FILE
from xkd_ros.core.errors import BagError
from xkd_ros.core.progress import Report
from xkd_ros.distill.given_labels import GivenLabels
from xkd_ros.distill.partdistill.config import PartDistillConfig
from xkd_ros.distill.partdistill.unit_makers import make_makers, write_units
from xkd_ros.distill.partdistill.unit_store import MANIFEST_NAME, UnitStore
from xkd_ros.teacher.class_map import ClassMap
from xkd_ros.teacher.config import TargetConfig
from xkd_ros.teacher.teacher import Teacher

_WAIT_S = 0.5


def make_units(
    config: PartDistillConfig,
    frames: FrameStore,
    teachers: Callable[[], Sequence[Teacher]],
    class_map: ClassMap,
    seen: TargetConfig,
    folder: Path,
    device: str,
    first: bool,
    progress: Report,
) -> UnitStore:
    """Make the units of the training frames, or open those that are there.

    Args:
        config: Which teachers make units, and how.
        frames: Frame store.
        teachers: Loads the teachers of the run.
        class_map: Classes.
        seen: Which points count as seen.
        folder: Of the units.
        device: Where teachers compute.
        first: Whether this process works; the others wait.
        progress: (done, total, facts).
    Raises:
        ConfigError: no teacher names classes.
        ModelError: no such box teacher.
    """
    if not first:
        _wait_for(folder / MANIFEST_NAME)
        return UnitStore(folder, frames.hash)
    return write_units(frames, make_makers(config, teachers() if config.pixels else (), class_map, device), folder, seen, progress)


def open_generated(
    path: Path | None, class_map: ClassMap, folder: Path, first: bool, progress: Report
) -> tuple[FrameStore, GivenLabels] | None:
    """Open the simulated frames that are mixed in, with their true labels; None where none are asked for.

    Args:
        path: A frame store, or a simulated recording, or a folder of such, which become a frame store first.
        class_map: Classes.
        folder: Of that frame store.
        first: Whether this process writes it; the others wait.
        progress: (done, total, facts).
    Raises:
        BagError: nothing of that kind is there.
        ConfigError: it has no true labels of these classes.
    """
    if path is None:
        return None
    if bags := generated_bags(path):
        path = folder
        if first:
            # Scans without a picture have true labels too.
            write_frames(bags, folder, FrameConfig(split="bag", shares=(1.0, 0.0, 0.0), keep_unpaired=True), progress=progress)
        _wait_for(folder / FRAMES_NAME)
    frames = FrameStore(path)
    return frames, GivenLabels(frames, class_map.label_set)


def generated_bags(path: Path) -> list[Path]:
    """List the simulated recordings at a path: itself, or those in it; none where it is a frame store.

    Raises:
        BagError: it is nothing of that kind.
    """
    bags = [bag for bag in (path, *(sorted(path.iterdir()) if path.is_dir() else ())) if (bag / SIMULATION_FILE).is_file()]
    if not bags and not (path / FRAMES_NAME).is_file():
        raise BagError(f"{path} holds neither frames nor simulated recordings; give the folder that `xkd simulate` wrote")
    return bags


def _wait_for(path: Path) -> None:
    while not path.is_file():
        time.sleep(_WAIT_S)
