"""Image teachers over a frame store → a store of units; goes on where a killed run was."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.labels import LabelSet
from xkd_ros.core.progress import Report
from xkd_ros.distill.partdistill.box_units import make_box_units
from xkd_ros.distill.partdistill.config import BoxUnitConfig, PartDistillConfig, PixelUnitConfig
from xkd_ros.distill.partdistill.pixel_units import grid_pixels, make_pixel_units
from xkd_ros.distill.partdistill.sight import Sight, look_out, picture_of
from xkd_ros.distill.partdistill.unit_store import UnitPlan, UnitStore, UnitWriter
from xkd_ros.distill.partdistill.units import FrameUnits, Unit
from xkd_ros.teacher.box_teacher import load_box_teacher
from xkd_ros.teacher.boxes import BoxTeacher
from xkd_ros.teacher.class_map import ClassMap
from xkd_ros.teacher.config import TargetConfig
from xkd_ros.teacher.teacher import Teacher

if TYPE_CHECKING:
    from xkd_ros.bags.frame import Frame
    from xkd_ros.bags.frame_store import FrameStore


class UnitMaker(Protocol):
    """One teacher and how its answers become units.

    Attributes:
        kind: Of its units, for the plan.
        label_set, class_hash: Of its classes.
    """

    kind: str
    label_set: LabelSet
    class_hash: str

    def __call__(self, rgb: np.ndarray, sight: Sight) -> list[Unit]:
        """Make the units of a picture (H, W, 3) uint8."""
        ...

    def describe(self) -> dict[str, Any]:
        """Say what decides the units."""
        ...


class PixelUnits:
    """Regions of what a teacher says on a grid of pixels."""

    kind = "pixels"

    def __init__(self, teacher: Teacher, config: PixelUnitConfig) -> None:
        assert teacher.label_set is not None
        self.label_set, self.class_hash = teacher.label_set, teacher.class_hash
        self._teacher, self._config = teacher, config

    def __call__(self, rgb: np.ndarray, sight: Sight) -> list[Unit]:
        """Make the units of a picture."""
        pixels, size = grid_pixels(rgb.shape[1], rgb.shape[0], self._config.grid_px)
        scores = self._teacher.look(rgb, pixels).scores
        assert scores is not None
        return make_pixel_units(scores.reshape(*size, -1), sight, self._config)

    def describe(self) -> dict[str, Any]:
        """Say what decides the units."""
        return {"teacher": self._teacher.fingerprint, **self._config.model_dump(mode="json")}


class BoxUnits:
    """Foregrounds of the boxes that a teacher draws."""

    kind = "boxes"

    def __init__(self, teacher: BoxTeacher, config: BoxUnitConfig) -> None:
        self.label_set, self.class_hash = teacher.label_set, teacher.class_hash
        self._teacher, self._config = teacher, config

    def __call__(self, rgb: np.ndarray, sight: Sight) -> list[Unit]:
        """Make the units of a picture."""
        return make_box_units(self._teacher.draw(rgb), sight, len(self.label_set), self._config)

    def describe(self) -> dict[str, Any]:
        """Say what decides the units."""
        return {"teacher": self._teacher.fingerprint, **self._config.model_dump(mode="json")}


def make_makers(config: PartDistillConfig, teachers: Sequence[Teacher], class_map: ClassMap, device: str) -> list[UnitMaker]:
    """Join the teachers that a configuration asks for with how their answers become units.

    Args:
        config: Which kinds of units.
        teachers: The last that names classes makes units of pixels.
        class_map: Classes of a box teacher.
        device: Where a box teacher computes.
    Raises:
        ConfigError: no teacher names classes.
        ModelError: no such box teacher.
    """
    makers: list[UnitMaker] = []
    if config.pixels is not None:
        named = [teacher for teacher in teachers if teacher.label_set is not None]
        if not named:
            raise ConfigError("no teacher of this run names classes, which units of pixels need: give a label_teacher")
        makers.append(PixelUnits(named[-1], config.pixels))
    if config.box_teacher is not None:
        makers.append(BoxUnits(load_box_teacher(config.box_teacher, class_map, device), config.boxes))
    return makers


def units_of(frame: Frame, makers: Sequence[UnitMaker], config: TargetConfig) -> FrameUnits:
    """Make the units of all pictures of a frame; pictures that show no point are not decoded.

    Raises:
        CalibrationError: a picture has another size than its camera.
    """
    units: list[Unit] = []
    for view in range(len(frame.views)):
        sight = look_out(frame, view, config)
        if sight is not None:
            rgb = picture_of(frame, view)
            units += [unit for maker in makers for unit in maker(rgb, sight)]
    return FrameUnits.of(units)


def write_units(
    frames: FrameStore, makers: Sequence[UnitMaker], out: str | Path, config: TargetConfig | None = None, progress: Report | None = None
) -> UnitStore:
    """Make the units of all training frames.

    Args:
        frames: Frame store.
        makers: One or several of equal classes.
        out: New folder, or one that an interrupted call of the same inputs left.
        config: Which points count as seen; all of them, whatever `max_points_per_view` says.
        progress: (done, total, facts).
    Raises:
        ConfigError: the makers name different classes, or the folder holds something else.
        XkdError: what the folder holds is damaged.
    """
    settings = (config or TargetConfig()).model_copy(update={"max_points_per_view": None})
    if len({maker.class_hash for maker in makers}) != 1:
        raise ConfigError(f"{len(makers)} makers of units name classes by different maps; give all the same class map")
    described = {maker.kind: maker.describe() for maker in makers}
    described["seen"] = settings.model_dump(mode="json", exclude={"frames_per_shard", "seed", "max_points_per_view"})
    numbers = frames.numbers("train").tolist()
    plan = UnitPlan(frames_hash=frames.hash, class_hash=makers[0].class_hash, label_set=makers[0].label_set, makers=described)
    writer, started, total = UnitWriter(out, plan), time.monotonic(), 0
    if writer.whole:
        return UnitStore(out, frames.hash)
    before = writer.done
    for done, number in enumerate(numbers[before:], before + 1):
        units = units_of(frames[number], makers, settings)
        writer.add(number, units)
        total += len(units)
        if progress:
            speed = (done - before) / max(1e-6, time.monotonic() - started)
            progress(done, len(numbers), {"frames_per_s": speed, "units_per_frame": total / (done - before)})
    return writer.finish()
