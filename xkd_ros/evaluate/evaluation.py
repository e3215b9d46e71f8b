"""What an evaluation found, as plain data that is stored as JSON; every score is read from its confusion matrices.

In: `frame_evaluation`. Next rooms: report, studies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from xkd_ros.core.config import describe
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.files import write_atomic
from xkd_ros.core.labels import LabelSet
from xkd_ros.evaluate.scores import Counts, EntropyTable, LabelScores, Strict, TeacherScores, coarse
from xkd_ros.metrics.confusion import Confusion, percent

_DIGITS = 2

EVALUATION_NAME = "evaluation.json"
_LARGEST_BYTES = 100_000_000
_SPLITS = {"val": "validation", "train": "training"}


class Evaluation(Strict):
    """One model on one set of frames.

    Attributes:
        model, model_hash: Name and hash of the card, or what the caller says.
        frames_hash: Identifies the frame store.
        class_hash: Identifies label set and class map; results of different hashes are never compared.
        label_set: Classes of the model; those of the tables may be coarser, where the real labels are.
        scans: Scans labelled, by split.
        temperature: That the probabilities were computed with; None when the model was asked for finished labels.
        real, pseudo: Against true or hand-made labels, and against the teacher's; None without such labels.
        teacher: The teacher against real labels, where both exist.
        entropy: Over every point that the model labelled.
    """

    format: Literal[1] = 1
    model: str
    model_hash: str
    frames_hash: str
    class_hash: str
    label_set: LabelSet
    scans: dict[str, int]
    temperature: float | None = Field(gt=0)
    real: LabelScores | None
    pseudo: LabelScores | None
    teacher: TeacherScores | None
    entropy: EntropyTable

    @property
    def where(self) -> str:
        """Say which frames were scored, such as "on 12 test frames"."""
        return where_scored(self.scans)

    def summary(self) -> dict[str, Any]:
        """Collect the figures that a card or a study keeps: percent for IoU and accuracy, shares for ECE."""
        facts: dict[str, Any] = {"class_hash": self.class_hash, "frames_hash": self.frames_hash, "scans": sum(self.scans.values())}
        facts["scans_by_split"] = dict(self.scans)
        for name, scores in (("real", self.real), ("pseudo", self.pseudo)):
            if scores is not None:
                facts[name] = {heading: _row(counts, scores.label_set) for heading, counts in scores.rows().items()}
                facts[name]["classes"] = list(scores.label_set.names)
                facts[name]["ece"] = scores.reliability.ece
                facts[name]["ece_unscaled"] = scores.unscaled.ece if scores.unscaled else None
        if self.teacher is not None:
            facts["teacher"] = {name: _row(getattr(self.teacher, name), self.teacher.label_set) for name in ("teacher", "student")}
        return {**facts, "entropy": self.entropy.model_dump(mode="json")}


def where_scored(scans: dict[str, int]) -> str:
    """Put the number of scans of each split into words; of training frames, say what scores on them are worth."""
    counted = [f"{count} {_SPLITS.get(split, split)} frames" for split, count in scans.items()]
    learnt = ", from which the model learnt: how good it is elsewhere is not known" if scans.get("train") else ""
    return f"on {' and '.join(counted) or 'no frames'}{learnt}"


def compare(first: Evaluation, second: Evaluation) -> dict[str, dict[str, float | None]]:
    """Subtract the mIoU of two evaluations, split by split, in percentage points.

    Returns:
        "real" and "pseudo" where both have them → heading → second minus first; None where one is undefined.
    Raises:
        ConfigError: the two were made with different classes or class maps.
    """
    if (first.class_hash, first.label_set.hash) != (second.class_hash, second.label_set.hash):
        raise ConfigError(
            f"results of {first.model} (classes {first.class_hash}) and {second.model} (classes {second.class_hash}) "
            "must not be compared: their classes mean different things; evaluate both with one class map"
        )
    differences: dict[str, dict[str, float | None]] = {}
    for kind in ("real", "pseudo"):
        ours, theirs = getattr(first, kind), getattr(second, kind)
        if ours is not None and theirs is not None:
            rows = theirs.rows()
            if ours.label_set.hash != theirs.label_set.hash:
                raise ConfigError(
                    f"{first.model} and {second.model} were scored against {kind} labels of different classes: evaluate both on the same"
                )
            differences[kind] = {
                heading: percent(rows[heading].confusion.miou - counts.confusion.miou, _DIGITS)
                for heading, counts in ours.rows().items()
                if heading in rows
            }
    return differences


def save_evaluation(evaluation: Evaluation, path: str | Path) -> None:
    """Write an evaluation as JSON, whole or not at all."""
    write_atomic(path, evaluation.model_dump_json() + "\n")


def load_evaluation(path: str | Path) -> Evaluation:
    """Read an evaluation.

    Raises:
        ConfigError: missing, too large, or not what `save_evaluation` writes.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ConfigError(f"{path} has {path.stat().st_size} bytes, too large for an evaluation; run `xkd eval` again")
        return Evaluation.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; run `xkd eval` first") from error
    except ValidationError as error:
        raise ConfigError(f"{path} is no evaluation: {describe(error, Evaluation)}; run `xkd eval` again") from error


def _row(counts: Counts, label_set: LabelSet) -> dict[str, Any]:
    confusion, structural = counts.confusion, coarse(counts, label_set)
    row: dict[str, Any] = {"points": int(confusion.counts.sum()), **_scores(confusion)}
    return row if structural is None else {**row, "struct4": _scores(structural)}


def _scores(confusion: Confusion) -> dict[str, Any]:
    return {**confusion.percents(_DIGITS), "iou": [percent(value, _DIGITS) for value in confusion.iou]}
