"""How right pseudo-labels are where true labels exist: for reports only, nothing learns from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.labels import INDOOR12, INDOOR12_TO_STRUCT4, STRUCT4, LabelSet
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.pseudo_config import Reason
from xkd_ros.metrics.confusion import Confusion, percent

if TYPE_CHECKING:
    from xkd_ros.bags.frame_store import FrameStore
    from xkd_ros.distill.label_store import LabelStore


@dataclass(frozen=True, eq=False)
class LabelScore:
    """True against pseudo-labels; a point without pseudo-label counts in the last column of its confusion.

    Where indoor-12 meets real labels of four classes, both are counted in those four.

    Attributes:
        in_view: Points that a camera of their frame sees.
        out_of_view: All others.
        frames: Frames with true labels.
    """

    in_view: Confusion
    out_of_view: Confusion
    frames: int = field(default=0)

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return, in percent: share of points labelled, and of those the accuracy, mIoU and the precision per class."""
        return {"in_view": _summary(self.in_view), "out_of_view": _summary(self.out_of_view)}


def score_against_truth(frames: FrameStore, labels: LabelStore, split: str | None = None) -> LabelScore:
    """Compare pseudo-labels with true ones.

    Args:
        frames: Some of its frames have true labels.
        labels: Made from these frames.
        split: Only this one; None takes all.
    Raises:
        ConfigError: the true labels are of classes that do not fit, or the labels are of other frames.
    """
    if labels.manifest.frames_hash != frames.hash:
        raise ConfigError(f"the pseudo-labels in {labels.folder} are of other frames; run `xkd pseudo` again into an empty folder")
    sources = {source.name: source.truth for source in frames.manifest.sources if source.truth}
    coarse = labels.label_set.names == INDOOR12.names and STRUCT4.names in sources.values()
    counted = STRUCT4 if coarse else labels.label_set
    from_label = INDOOR12_TO_STRUCT4 if coarse else np.arange(256, dtype=np.uint8)
    maps = {name: truth_map(truth, counted) for name, truth in sources.items()}
    classes, scored = len(counted), 0
    in_view, out_of_view = Confusion(classes), Confusion(classes)
    for number in frames.numbers(split).tolist():
        frame = frames.scan(number)
        if frame.truth is None or frame.source not in maps:
            continue
        truth, label = maps[frame.source][frame.truth], from_label[labels[number][0]]
        seen = ~np.isin(labels.reasons(number), (Reason.UNSEEN, Reason.PROPAGATED))
        in_view.add(truth[seen], label[seen])
        out_of_view.add(truth[~seen], label[~seen])
        scored += 1
    return LabelScore(in_view, out_of_view, scored)


def truth_map(names: tuple[str, ...], label_set: LabelSet) -> np.ndarray:
    """Map ids of true labels to those of a label set.

    Returns:
        (256,) uint8, 255 for ids without a class.
    Raises:
        ConfigError: a true class has no counterpart.
    """
    if names == INDOOR12.names and label_set.names == STRUCT4.names:
        return INDOOR12_TO_STRUCT4
    mapping = np.full(256, UNKNOWN, np.uint8)
    for place, name in enumerate(names):
        if name not in label_set.names:
            raise ConfigError(f"true labels know '{name}', the classes are {', '.join(label_set.names)}: they must not be compared")
        mapping[place] = label_set.names.index(name)
    return mapping


def _summary(confusion: Confusion) -> dict[str, Any]:
    labelled = Confusion(confusion.classes)
    labelled.counts[:, :-1] = confusion.counts[:, :-1]
    total, named = int(confusion.counts.sum()), labelled.counts[:, :-1].sum(0)
    precision = [percent(hit / count) if count else None for hit, count in zip(np.diag(labelled.counts), named)]
    return {
        "points": total,
        "labelled": percent(named.sum() / total) if total else None,
        "accuracy": percent(labelled.oacc),
        "miou": percent(labelled.miou),
        "precision": precision,
    }
