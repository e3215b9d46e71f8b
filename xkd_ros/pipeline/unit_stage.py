"""The part of fine-tuning that `partdistill` adds: image teachers over the training frames → units, and simulated scans beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.core.errors import ConfigError
from xkd_ros.distill.partdistill.config import PartDistillConfig
from xkd_ros.distill.partdistill.unit_makers import BoxUnits, PixelUnits, UnitMaker, write_units
from xkd_ros.distill.partdistill.unit_store import MANIFEST_NAME, UnitStore
from xkd_ros.pipeline.studies.given_labels import TrueLabels
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
        teachers: Loads the teachers of the run; the last that names classes makes units of pixels.
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
    makers: list[UnitMaker] = []
    if config.pixels is not None:
        named = [teacher for teacher in teachers() if teacher.label_set is not None]
        if not named:
            raise ConfigError("no teacher of this run names classes, which units of pixels need: give a label_teacher")
        makers.append(PixelUnits(named[-1], config.pixels))
    if config.box_teacher is not None:
        from xkd_ros.teacher.box_teacher import load_box_teacher

        makers.append(BoxUnits(load_box_teacher(config.box_teacher, class_map, device), config.boxes))
    return write_units(frames, makers, folder, seen, progress)


def open_generated(config: PartDistillConfig, class_map: ClassMap) -> tuple[FrameStore, TrueLabels] | None:
    """Open the simulated frames that are mixed in, with their true labels; None where none are asked for.

    Raises:
        BagError: no such store.
        ConfigError: it has no true labels of these classes.
    """
    if config.generated is None:
        return None
    frames = FrameStore(config.generated)
    return frames, TrueLabels(frames, class_map.label_set)
