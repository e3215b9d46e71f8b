"""Real labels may speak other classes than the model: four structural ones for twelve indoor ones. Both are brought to the coarser."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xkd_ros.core.labels import INDOOR12, INDOOR12_TO_STRUCT4, STRUCT4, LabelSet
from xkd_ros.core.types import UNKNOWN

if TYPE_CHECKING:
    from xkd_ros.bags.frame import Frame
    from xkd_ros.bags.frame_store import FrameStore

logger = logging.getLogger(__name__)
_SAME = np.arange(256, dtype=np.uint8)
# Pictures have one palette: four-class labels borrow colours of the twelve.
_STRUCT4_SHOWN = np.full(256, UNKNOWN, np.uint8)
_STRUCT4_SHOWN[: len(STRUCT4)] = [INDOOR12.names.index(name) for name in ("wall", "floor", "ceiling", "clutter")]


@dataclass(frozen=True, eq=False)
class RealLabels:
    """How real labels and a model's answers are counted together.

    Attributes:
        label_set: Classes that are counted.
        from_model: (256,) uint8, counted class of each class of the model.
        from_source: The same for the real labels of each source that can be counted.
        shown: (256,) uint8, class of the model whose colour a counted class has in pictures.
    """

    label_set: LabelSet
    from_model: np.ndarray
    from_source: dict[str, np.ndarray]
    shown: np.ndarray

    def of(self, frame: Frame) -> np.ndarray | None:
        """Return the real labels (N,) uint8 of a frame in counted classes, or None."""
        mapping = self.from_source.get(frame.source)
        return None if frame.truth is None or mapping is None else mapping[frame.truth]


def match_real_labels(frames: FrameStore, label_set: LabelSet) -> RealLabels:
    """Find the classes in which the real labels of a store and a model of `label_set` can be counted.

    Sources whose labels name classes that lead to none of the model's are left out, with a warning.
    """
    maps = {INDOOR12.names: INDOOR12_TO_STRUCT4, STRUCT4.names: _SAME}
    bridged = label_set.names in maps
    sets = {}
    for source in frames.manifest.sources:
        if source.truth == label_set.names or (bridged and source.truth in maps):
            sets[source.name] = source.truth
        elif source.truth:
            logger.warning("real labels of %s name other classes than the model (%s): left out", source.name, ", ".join(source.truth))
    if all(names == label_set.names for names in sets.values()):
        return RealLabels(label_set, _SAME, dict.fromkeys(sets, _SAME), _SAME)
    shown = _STRUCT4_SHOWN if label_set.names == INDOOR12.names else _SAME
    return RealLabels(STRUCT4, maps[label_set.names], {name: maps[names] for name, names in sets.items()}, shown)
