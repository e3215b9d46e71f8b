"""Several frame stores as one to learn from, without copying them: `rigs` distils on one rig and on all of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xkd_ros.bags.frame import Frame
from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.core.card import IntensityConfig
from xkd_ros.core.errors import ConfigError
from xkd_ros.teacher.target_store import TargetStore
from xkd_ros.teacher.targets import ViewTargets


@dataclass(frozen=True)
class JoinedManifest:
    """Intensity statistics of each rig."""

    intensity: dict[str, IntensityConfig]


class JoinedFrames:
    """Frames of several stores, numbered one after the other.

    Attributes:
        manifest: Statistics of all rigs.
    """

    def __init__(self, stores: Sequence[FrameStore]) -> None:
        """Join.

        Raises:
            ConfigError: two stores hold one rig, whose statistics would be two.
        """
        self._stores = tuple(stores)
        self._starts = np.cumsum([0, *map(len, stores)]).tolist()
        names = [name for store in stores for name in store.manifest.intensity]
        if len(set(names)) < len(names):
            raise ConfigError(f"frame stores of the rigs {', '.join(names)} cannot be joined: a rig is in two of them")
        self.manifest = JoinedManifest({name: value for store in stores for name, value in store.manifest.intensity.items()})

    def place(self, number: int) -> tuple[int, int]:
        """Find the store of a frame, and its number there."""
        index = bisect_right(self._starts, number) - 1
        return index, number - self._starts[index]

    def scan(self, number: int) -> Frame:
        """Return a frame without its views."""
        index, inner = self.place(number)
        return self._stores[index].scan(inner)

    def numbers(self, split: str | None = None) -> np.ndarray:
        """Return the numbers (n,) int64 of the frames of a split, ascending."""
        return np.concatenate([store.numbers(split) + start for store, start in zip(self._stores, self._starts)])


class JoinedTargets:
    """Targets of joined frames."""

    def __init__(self, frames: JoinedFrames, targets: Sequence[TargetStore]) -> None:
        self._frames, self._targets = frames, tuple(targets)

    def __getitem__(self, number: int) -> list[ViewTargets]:
        """Return the targets of a frame."""
        index, inner = self._frames.place(number)
        return self._targets[index][inner]
