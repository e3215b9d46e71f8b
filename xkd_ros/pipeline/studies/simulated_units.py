"""Noisy units of the frames of simulated walks, made when asked for from their true labels; which are false is known."""

from __future__ import annotations

import numpy as np

from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.partdistill.units import FrameUnits, Origin, Unit
from xkd_ros.worlds.noisy_units import NoisyUnit, NoisyUnitConfig, make_noisy_units


class SimulatedUnits:
    """Units by frame number; the same for the same seed.

    Attributes:
        classes: C.
    """

    def __init__(self, frames: FrameStore, classes: int, config: NoisyUnitConfig, seed: int) -> None:
        self._frames, self.classes, self._config, self._seed = frames, classes, config, seed
        self._made: dict[int, tuple[FrameUnits, np.ndarray, np.ndarray]] = {}

    def __getitem__(self, number: int) -> FrameUnits:
        """Return the units of a frame."""
        return self._find(number)[0]

    def false(self, number: int) -> np.ndarray:
        """Tell of which units of a frame most is wrong: (U,) bool."""
        return self._find(number)[1]

    def right(self, number: int) -> np.ndarray:
        """Tell which share of each unit's points is of the class it claims: (U,) float64."""
        return self._find(number)[2]

    def _find(self, number: int) -> tuple[FrameUnits, np.ndarray, np.ndarray]:
        if number not in self._made:
            self._made[number] = self._make(number)
        return self._made[number]

    def _make(self, number: int) -> tuple[FrameUnits, np.ndarray, np.ndarray]:
        frame = self._frames[number]
        truth = np.full(len(frame.points_m), UNKNOWN, np.uint8) if frame.truth is None else frame.truth
        units: list[Unit] = []
        drawn: list[NoisyUnit] = []
        for place, view in enumerate(frame.views):
            uv_px, visible = view.see(frame.points_m)
            point = np.flatnonzero(visible)
            seed = (self._seed, number, place)
            for one in make_noisy_units(frame.points_m[point], uv_px[point], truth[point], self.classes, self._config, seed):
                origin, confidence = Origin.BOX if one.box else Origin.PIXELS, np.full(len(one.member), one.score, np.float32)
                units.append(Unit(one.label, one.score, origin, place, point[one.member], confidence))
                drawn.append(one)
        return FrameUnits.of(units), np.array([one.false for one in drawn], bool), np.array([one.right for one in drawn], np.float64)
