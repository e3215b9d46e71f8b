"""The scans worth looking at: the best and the worst of an evaluation, kept whole so that a report needs no other file."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xkd_ros.core.errors import ConfigError
from xkd_ros.core.files import atomic_path
from xkd_ros.core.labels import LabelSet
from xkd_ros.evaluate.evaluation import EVALUATION_NAME, Evaluation, save_evaluation
from xkd_ros.evaluate.frame_evaluation import Segment
from xkd_ros.evaluate.real_labels import match_real_labels
from xkd_ros.evaluate.scan_logits import Labels, ScanLogits
from xkd_ros.evaluate.scores import FrameScore

if TYPE_CHECKING:
    from xkd_ros.bags.frame import Frame
    from xkd_ros.bags.frame_store import FrameStore

SAMPLE_FOLDER, BEST, WORST = "scans", "best", "worst"
# The mIoU of a handful of points says nothing.
_FEWEST_POINTS = 100
_WIDEST_PX = 960
_LARGEST_BYTES = 64_000_000
_APART_NS = 2_000_000_000


@dataclass(frozen=True, eq=False)
class ScanSample:
    """One labelled scan with what its first camera saw.

    Attributes:
        points_m: (N, 3) float32, levelled.
        predicted: (N,) uint8; real and pseudo likewise, empty where there are none.
        rgb: (H, W, 3) uint8, thinned to at most 960 columns; empty without a camera.
        uv_px: (M, 2) float32 pixels of the points seen.
        seen: (M,) int64 which points these are.
    """

    points_m: np.ndarray
    predicted: np.ndarray
    real: np.ndarray
    pseudo: np.ndarray
    rgb: np.ndarray
    uv_px: np.ndarray
    seen: np.ndarray

    def columns(self) -> dict[str, np.ndarray]:
        """Labels by heading, as far as there are any."""
        columns = {"real labels": self.real, "pseudo-labels": self.pseudo, "predicted": self.predicted}
        return {heading: labels for heading, labels in columns.items() if len(labels) == len(self.points_m)}


def choose_scans(evaluation: Evaluation, count: int = 3) -> tuple[list[FrameScore], list[FrameScore]]:
    """Choose the best and the worst scans by mIoU against real labels, or pseudo-labels where there are no real ones.

    Scans of one recording within two seconds of each other show the same; only one of them is taken, and no scan is both.

    Returns:
        Best scans from the best down, worst scans from the worst up; at most `count` each.
    """
    scores = evaluation.real or evaluation.pseudo
    if scores is None:
        return [], []
    usable = [score for score in scores.frames if score.miou is not None and score.points >= _FEWEST_POINTS]
    ordered = sorted(usable, key=lambda score: (-(score.miou or 0.0), score.number))
    taken: list[FrameScore] = []

    def pick(candidates: list[FrameScore]) -> list[FrameScore]:
        picked: list[FrameScore] = []
        for score in candidates:
            near = (other.source == score.source and abs(other.stamp_ns - score.stamp_ns) < _APART_NS for other in taken)
            if len(picked) < count and not any(near):
                picked.append(score)
                taken.append(score)
        return picked

    # The worst teach more, so they choose first where scans are few.
    worst = pick(ordered[::-1])
    return pick(ordered), worst


def take_sample(
    segment: Segment,
    frames: FrameStore,
    number: int,
    against: Labels | None,
    label_set: LabelSet,
    temperature: float = 1.0,
    *,
    before: Callable[[Frame], None] | None = None,
) -> ScanSample:
    """Label one frame again and keep what a picture needs; arguments as for `evaluate_frames`."""
    frame = frames[number]
    if before is not None:
        before(frame)
    answer = segment(frame.points_m, frame.intensity, frame.levelled_from_lidar)
    labels = (answer.segmentation(temperature) if isinstance(answer, ScanLogits) else answer).labels
    pseudo = against[number] if against is not None else None
    rgb, uv_px, seen = np.zeros((0, 0, 3), np.uint8), np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
    if frame.views:
        view = frame.views[0]
        pixels, visible = view.see(frame.points_m)
        image = view.rgb()
        step = -(-image.shape[1] // _WIDEST_PX)
        rgb, seen = image[::step, ::step], np.flatnonzero(visible)
        uv_px = (pixels[seen] / step).astype(np.float32)
    none = np.zeros(0, np.uint8)
    classes = match_real_labels(frames, label_set)
    counted = classes.of(frame)
    real = none if counted is None else classes.shown[counted]
    levelled = (frame.points_m @ frame.levelled_from_lidar.T).astype(np.float32)
    return ScanSample(levelled, labels, real, none if pseudo is None else pseudo[0], rgb, uv_px, seen)


def write_evaluation(
    folder: Path,
    evaluation: Evaluation,
    segment: Segment,
    frames: FrameStore,
    against: Labels | None,
    count: int = 3,
    *,
    before: Callable[[Frame], None] | None = None,
) -> None:
    """Write the best and the worst scans and then the figures, so that figures stand for a whole evaluation.

    Args:
        folder: The run's `evaluation`; what an earlier evaluation left there is replaced.
        evaluation: What `evaluate_frames` returned for the other arguments.
        segment, frames, against, before: As for `evaluate_frames`.
        count: Number of best and of worst scans.
    """
    best, worst = choose_scans(evaluation, count)
    with atomic_path(folder / SAMPLE_FOLDER) as temporary:
        for kind, scores in ((BEST, best), (WORST, worst)):
            (temporary / kind).mkdir(parents=True)
            for score in scores:
                sample = take_sample(
                    segment, frames, score.number, against, evaluation.label_set, evaluation.temperature or 1.0, before=before
                )
                arrays = {item.name: getattr(sample, item.name) for item in fields(sample)}
                np.savez_compressed(temporary / kind / f"{score.number}.npz", **arrays)
    save_evaluation(evaluation, folder / EVALUATION_NAME)


def kept_scans(folder: Path, kind: str) -> list[Path]:
    """List the scans that an evaluation folder keeps as BEST or as WORST; the stem is the frame's number."""
    return [path for path in sorted((folder / SAMPLE_FOLDER / kind).glob("*.npz")) if path.stem.isdigit()]


def load_sample(path: Path) -> ScanSample:
    """Read one kept scan.

    Raises:
        ConfigError: missing, damaged, or too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > _LARGEST_BYTES:
            raise ConfigError(f"{path} holds {size} bytes, too large for one scan; run `xkd eval` again")
        with np.load(path, allow_pickle=False) as arrays:
            sample = ScanSample(**{item.name: arrays[item.name] for item in fields(ScanSample)})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} is damaged ({' '.join(str(error).split())}); run `xkd eval` again") from error
    count = len(sample.points_m)
    fits = sample.points_m.shape == (count, 3) and sample.predicted.shape == (count,) and sample.rgb.ndim == 3 and sample.rgb.shape[2] == 3
    fits = fits and sample.uv_px.shape == (len(sample.seen), 2) and bool((sample.seen < count).all() and (sample.seen >= 0).all())
    fits = fits and all(np.issubdtype(array.dtype, np.floating) for array in (sample.points_m, sample.uv_px))
    fits = fits and np.issubdtype(sample.seen.dtype, np.integer)
    fits = fits and all(getattr(sample, name).dtype == np.uint8 for name in ("predicted", "real", "pseudo", "rgb"))
    if not fits:
        raise ConfigError(f"{path} does not hold one scan; run `xkd eval` again")
    return sample
