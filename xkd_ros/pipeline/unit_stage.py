"""The part of fine-tuning that `partdistill` adds: image teachers over the training frames → units, and simulated scans beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.distill.given_labels import GivenLabels
from xkd_ros.distill.partdistill.config import PartDistillConfig
from xkd_ros.distill.partdistill.unit_makers import make_makers, write_units
from xkd_ros.distill.partdistill.unit_store import MANIFEST_NAME, UnitStore
from xkd_ros.teacher.class_map import ClassMap
from xkd_ros.teacher.config import TargetConfig
from xkd_ros.teacher.teacher import Teacher

Progress = Callable[[int, int, dict[str, float]], None]
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
    progress: Progress,
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
        while not (folder / MANIFEST_NAME).is_file():
            time.sleep(_WAIT_S)
        return UnitStore(folder, frames.hash)
    return write_units(frames, make_makers(config, teachers() if config.pixels else (), class_map, device), folder, seen, progress)


def open_generated(config: PartDistillConfig, class_map: ClassMap) -> tuple[FrameStore, GivenLabels] | None:
    """Open the simulated frames that are mixed in, with their true labels; None where none are asked for.

    Raises:
        BagError: no such store.
        ConfigError: it has no true labels of these classes.
    """
    if config.generated is None:
        return None
    frames = FrameStore(config.generated)
    return frames, GivenLabels(frames, class_map.label_set)
