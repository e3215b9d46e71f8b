"""Labels that were given with the recordings, by hand or by a simulation, for whoever chooses to learn from them."""

from __future__ import annotations

import numpy as np

from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.labels import LabelSet
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.label_score import truth_map
from xkd_ros.distill.labelled_frames import Labels


class GivenLabels:
    """Given labels by frame number, all of them sure; few are enough for methods that learn from scribbles or single scans."""

    def __init__(self, frames: FrameStore, label_set: LabelSet, rest: Labels | None = None) -> None:
        """Choose.

        Args:
            frames: Frame store.
            label_set: Classes to learn.
            rest: Labels for the points without a given one, such as pseudo-labels; None: those stay unknown.
        Raises:
            ConfigError: no frame has labels, or they are of other classes.
        """
        sources = {source.name: source.truth for source in frames.manifest.sources if source.truth}
        if not sources:
            raise ConfigError(f"{frames.folder}: no recording has given labels to learn from; name their folder with --labels")
        self._frames, self._rest = frames, rest
        self._maps = {name: truth_map(names, label_set) for name, names in sources.items()}

    def numbers(self, split: str) -> np.ndarray:
        """Return the frames of a split with at least one given label of the classes to learn, ascending.

        Raises:
            ConfigError: there is none.
        """
        found = [number for number in self._frames.numbers(split).tolist() if (self._given(number) != UNKNOWN).any()]
        if not found:
            raise ConfigError(
                f"{self._frames.folder}: labels were given, but for not one frame of split '{split}'; label other scans, or change "
                "frames.split and frames.shares"
            )
        return np.array(found, np.int64)

    def _given(self, number: int) -> np.ndarray:
        frame = self._frames.scan(number)
        if frame.truth is None or frame.source not in self._maps:
            return np.full(len(frame.points_m), UNKNOWN, np.uint8)
        return self._maps[frame.source][frame.truth]

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return labels (N,) uint8, 255 unknown, and confidence (N,) float32."""
        labels = self._given(number)
        known = labels != UNKNOWN
        if self._rest is None:
            return labels, known.astype(np.float32)
        others, confidence = self._rest[number]
        return np.where(known, labels, others), np.where(known, np.float32(1), confidence)
