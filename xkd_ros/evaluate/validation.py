"""Score a model on labelled scans, as recorded and as other sensors would have recorded them (BENCH C)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from xkd_ros.bags.calibration import find_points, read_calibration
from xkd_ros.bags.reader import Bag
from xkd_ros.bags.truth import label_keys, read_labels
from xkd_ros.core.errors import BagError
from xkd_ros.core.labels import INDOOR12_TO_STRUCT4
from xkd_ros.core.rig import load_rig
from xkd_ros.core.se3 import rotation_from_rpy
from xkd_ros.core.types import UNKNOWN, Scan, Segmentation
from xkd_ros.metrics.confusion import Confusion, percent
from xkd_ros.metrics.entropy import EntropyHistogram

Segment = Callable[[np.ndarray, np.ndarray | None], Segmentation]
TILT_DEG = 10.0


@dataclass(frozen=True, eq=False)
class LabelledScan:
    """A scan with true labels.

    Attributes:
        scan: As recorded.
        indoor12: (N,) uint8, 255 unlabelled; None when only four classes are known.
        struct4: (N,) uint8, 255 unlabelled.
        mounting: (3, 3) base_from_lidar of a lidar whose z is not roughly up; None: it is.
    """

    scan: Scan
    indoor12: np.ndarray | None
    struct4: np.ndarray
    mounting: np.ndarray | None = None

    def mounted_m(self) -> np.ndarray:
        """Return the (N, 3) points with z roughly up, as a segmenter levels them."""
        return self.scan.points_m if self.mounting is None else self.scan.points_m @ self.mounting.T.astype(np.float32)


def load_labelled_bag(bag: str | Path, labels: str | Path, rig: str | Path | None = None) -> list[LabelledScan]:
    """Join a bag's scans with `<stamp_ns>.npz` label files (keys struct4 and, if known, indoor12, in point order).

    Args:
        bag: Recording.
        labels: Folder of label files.
        rig: Rig YAML with the lidar's topic and mounting, where the recording does not tell them.
    Raises:
        BagError: no file fits a scan, or a file is damaged or has another number of points.
    """
    files = {int(path.stem): path for path in Path(labels).glob("*.npz") if path.stem.isdigit()}
    found = []
    with Bag(bag) as recording:
        given = None if rig is None else load_rig(rig)
        topic = find_points(recording, None, given)
        mounting = read_calibration(recording, topic, given).rig.lidar.rotation()
        for scan in recording.scans(topic):
            path = files.get(scan.stamp_ns)
            if path is None:
                continue
            keys = label_keys(path)
            indoor12 = read_labels(path, "indoor12", len(scan)) if "indoor12" in keys else None
            known = indoor12 is not None and "struct4" not in keys
            struct4 = INDOOR12_TO_STRUCT4[indoor12] if known else read_labels(path, "struct4", len(scan))
            found.append(LabelledScan(scan, indoor12, struct4, mounting))
    if not found:
        raise BagError(f"no label file in {labels} carries the stamp of a scan in {bag}; files are named <stamp_ns>.npz")
    return found


def tilted(item: LabelledScan) -> LabelledScan:
    """Lean the robot by 10 degrees about a level axis that the stamp decides."""
    axis = float(np.random.default_rng(item.scan.stamp_ns % 2**32).uniform(-np.pi, np.pi))
    lean = rotation_from_rpy(0, 0, axis) @ rotation_from_rpy(np.radians(TILT_DEG), 0, 0) @ rotation_from_rpy(0, 0, -axis)
    if item.mounting is not None:
        lean = item.mounting.T @ lean @ item.mounting
    return replace(item, scan=replace(item.scan, points_m=item.scan.points_m @ lean.T.astype(np.float32)))


def without_intensity(item: LabelledScan) -> LabelledScan:
    """Forget the intensity."""
    return replace(item, scan=replace(item.scan, intensity=None))


def half_the_beams(item: LabelledScan) -> LabelledScan:
    """Keep every other ring; without a ring field, every other degree of elevation."""
    scan = item.scan
    if scan.ring is not None:
        keep = scan.ring % 2 == 0
    else:
        elevation = np.degrees(np.arctan2(scan.points_m[:, 2], np.hypot(scan.points_m[:, 0], scan.points_m[:, 1])))
        keep = np.floor(np.nan_to_num(elevation)).astype(int) % 2 == 0
    return replace(
        item,
        scan=Scan(scan.points_m[keep], None if scan.intensity is None else scan.intensity[keep], scan.stamp_ns, scan.frame_id),
        indoor12=None if item.indoor12 is None else item.indoor12[keep],
        struct4=item.struct4[keep],
    )


VARIANTS: dict[str, Callable[[LabelledScan], LabelledScan]] = {
    "as recorded": lambda item: item,
    "tilted 10 deg": tilted,
    "no intensity": without_intensity,
    "half the beams": half_the_beams,
}


@dataclass(frozen=True, eq=False)
class Score:
    """Confusions over the four structural and, where known, the twelve indoor classes, and how sure the model was."""

    struct4: Confusion
    indoor12: Confusion
    entropy: EntropyHistogram = field(default_factory=EntropyHistogram)

    def summary(self) -> dict[str, object]:
        """Return mIoU, mAcc, oAcc and IoU per class, in percent, for a card or a table."""
        return {"struct4": _percent(self.struct4), "indoor12": _percent(self.indoor12)}


def score(segment: Segment, scans: Iterable[LabelledScan]) -> Score:
    """Label scans and compare with the truth; the model speaks the twelve indoor classes."""
    result = Score(Confusion(4), Confusion(12))
    for item in scans:
        answer = segment(item.mounted_m(), item.scan.intensity)
        labels = answer.labels
        result.entropy.add(answer.entropy[labels != UNKNOWN])
        result.struct4.add(item.struct4, INDOOR12_TO_STRUCT4[labels])
        if item.indoor12 is not None:
            result.indoor12.add(item.indoor12, labels)
    return result


def score_variants(segment: Segment, scans: Sequence[LabelledScan]) -> dict[str, Score]:
    """Score every variant of BENCH C."""
    return {name: score(segment, [change(item) for item in scans]) for name, change in VARIANTS.items()}


def _percent(confusion: Confusion) -> dict[str, object]:
    return {**confusion.percents(), "iou": [percent(value) for value in confusion.iou]}
