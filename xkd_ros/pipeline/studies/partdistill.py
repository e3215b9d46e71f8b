"""Study `partdistill`: does a student that judges the units it learns from become better, and does it find the false ones?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xkd_ros.bags.frame import Frame
from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.distill.partdistill.adaptation import AdaptConfig, adapt_student
from xkd_ros.distill.partdistill.config import PartDistillConfig, RescoringConfig
from xkd_ros.distill.partdistill.unit_report import load_unit_scores
from xkd_ros.evaluate.scan_logits import LogitsOf, ScanLogits, logits_of
from xkd_ros.metrics.confusion import Confusion
from xkd_ros.metrics.separation import roc_auc
from xkd_ros.nets.student import Student
from xkd_ros.pipeline.studies.cell import Cell, CellResult
from xkd_ros.pipeline.studies.class_table import class_table
from xkd_ros.pipeline.studies.paired import paired_difference, spread
from xkd_ros.pipeline.studies.scale import Scale
from xkd_ros.pipeline.studies.simulated_units import SimulatedUnits
from xkd_ros.pipeline.studies.study import REAL_ALL, by_seed, make_cell, mean_of
from xkd_ros.pipeline.studies.table import BAR_COLUMNS, StudyTable, bar_row
from xkd_ros.pipeline.studies.trial import Outcome, Trial, reduced
from xkd_ros.pipeline.studies.workshop import Workshop
from xkd_ros.worlds.noisy_units import NoisyUnitConfig

RIG = "ouster16"
NOISE = NoisyUnitConfig()
SOUND = NOISE.model_copy(update={"shifted": 0.0, "wrong_class": 0.0, "merged": 0.0, "leaking": 0.0})
BACKWARD_BAR, AUC_BAR = 2.0, 85.0
_PUBLISHED = {"boxes voted": (40.2, 60.1, 57.2), "forward": (64.3, 84.2, 84.5), "argmax": (69.3, 86.5, 85.7)}
"""IoU % of airplane, chair and knife: METHODS 5.3."""


class PartDistillStudy:
    """Forward distillation alone, with backward distillation, and with adaptation to each building on top."""

    name = "partdistill"
    claim = "Backward distillation adds 5.1, 2.3 and 1.2 mIoU to forward distillation on three classes of parts (PartDistill, CVPR 2024)."
    protocol = (
        f"Rig {RIG}. Units are boxes and masks around what a camera shows of the training buildings, drawn from true labels and then "
        f"spoilt: {100 * NOISE.missed:.0f} % missed, of the others {100 * NOISE.wrong_class:.0f} % given a wrong class, "
        f"{100 * NOISE.shifted:.0f} % shifted, {100 * NOISE.merged:.0f} % merged with a neighbour, {100 * NOISE.leaking:.0f} % leaking "
        "onto what is behind; the same for all ways and other ones for each seed. All ways start from the same distilled backbone and take "
        "equally many steps. Backward distillation weighs a unit by the mean probability of its class there beside that of the most "
        "probable class, compared within the class, "
        "or, as published, by the share of its points that the student gives its class. A unit is false when most of its points are of "
        "another class. Units without a fault, as many of them, show what the best judge could give. Adaptation learns from such "
        "units of the first half of the frames of each evaluated building; every row is evaluated on the second halves, units that "
        "vote without a student on the points that they cover."
    )

    def cells(self, scale: Scale, teachers: Sequence[str]) -> list[Cell]:
        """List the cells, seed by seed; the cell `backward` holds the adapted students too, as they go on from its student."""
        return [
            make_cell(self.name, way, seed, scale, way=way, noise=noise.model_dump(), teacher=teachers[0])
            for ways in ({"forward": NOISE, "backward": NOISE, "argmax": NOISE}, {"sound": SOUND})
            for seed in range(scale.seeds)
            for way, noise in ways.items()
        ]

    def run(self, cell: Cell, workshop: Workshop, trial: Trial) -> Outcome:
        """Train on units and evaluate; with backward distillation also score the units and adapt to each building."""
        p, seed = cell.parameters, cell.seed
        frames, noise = workshop.frames(RIG, "train"), NoisyUnitConfig.model_validate(p["noise"])
        units = SimulatedUnits(frames, len(workshop.class_map.label_set), noise, seed)
        backbone = workshop.backbone((RIG,), p["teacher"], seed, workshop.network())
        kinds: dict[str, RescoringConfig | None] = {"forward": None, "sound": None, "backward": RescoringConfig()}
        backward = kinds.get(p["way"], RescoringConfig(agreement="argmax"))
        config = workshop.scale.method(PartDistillConfig, seed, method="partdistill", backward=backward)
        student, folder = trial.learn_from_units(config, frames, units, f"noisy units {seed} {noise.model_dump_json()}", backbone)
        shown = workshop.frames(RIG, "val")
        later = later_frames(shown)
        evaluation = trial.evaluate_some(logits_of(trial.segmenter(student)), RIG, later)
        metrics = reduced(evaluation)
        if backward:
            metrics["units"] = judged_units(folder, frames, units)
        else:
            metrics["voted"] = voted_miou(shown, SimulatedUnits(shown, units.classes, noise, seed), later)
        if p["way"] == "backward":
            adapted = self._adapted(student, workshop, trial, noise, seed)
            again = trial.evaluate_some(adapted, RIG, later, before=adapted.enter)
            metrics["adapted"] = {**reduced(again), "kept": adapted.kept, "buildings": len(adapted)}
        return trial.outcome(evaluation, p["teacher"], metrics)

    def _adapted(self, student: Student, workshop: Workshop, trial: Trial, noise: NoisyUnitConfig, seed: int) -> AdaptedStudents:
        """Adapt the student to each evaluated building, from its first half."""
        frames = workshop.frames(RIG, "val")
        units = SimulatedUnits(frames, len(workshop.class_map.label_set), noise, seed)
        steps = max(1, workshop.scale.finetune_steps // 25)
        config = workshop.scale.method(AdaptConfig, seed, method="partdistill", steps=steps)
        adapted = AdaptedStudents()
        for source, numbers in by_source(frames).items():
            folder = trial.folder / f"adapt-{source}"
            first, reads = numbers[: len(numbers) // 2], workshop.scale.student
            result = adapt_student(student, frames, units, first, reads, config, folder, workshop.fabric)
            adapted.add(source, logits_of(trial.segmenter(result.student)), result.kept)
        return adapted

    def tables(self, results: Sequence[CellResult]) -> list[StudyTable]:
        """Compare the three ways, and the scores of true and false units."""
        columns = ("second halves of the buildings, true labels", *(name for name, _ in _PLACES), "published: airplane / chair / knife")
        scores = StudyTable(
            "mIoU %, mean ± 95 %",
            columns,
            notes=("Published: ShapeNetPart, zero-shot parts of single shapes, GLIP boxes, adapted to a collection (METHODS 5.3).",),
        )
        voted = mean_of(by_seed(results, ("voted",), way="forward"))
        scores.rows.append(["units vote, no student", str(voted), *("-" for _ in _PLACES[1:]), _shapes("boxes voted")])
        for way, title, base in _WAYS:
            figures = [str(mean_of(by_seed(results, (*base, "real", *path), way=way))) for _, path in _PLACES]
            scores.rows.append([title, *figures, _shapes(way) if way in _PUBLISHED else "-"])
        bars = StudyTable("Differences, over the same seeds", BAR_COLUMNS)
        for name, path in _PLACES:
            forward, backward = (by_seed(results, ("real", *path), way=way) for way in ("forward", "backward"))
            adapted = by_seed(results, ("adapted", "real", *path), way="backward")
            bar = BACKWARD_BAR if path == ("all points", "miou") else None
            bars.rows.append(bar_row(f"backward minus forward, {name}", paired_difference(backward, forward), bar))
            argmax = by_seed(results, ("real", *path), way="argmax")
            bars.rows.append(bar_row(f"the same with argmax as published, {name}", paired_difference(argmax, forward), None))
            bars.rows.append(bar_row(f"adapted minus backward, {name}", paired_difference(adapted, backward), None))
        sound = paired_difference(by_seed(results, REAL_ALL, way="sound"), by_seed(results, REAL_ALL, way="forward"))
        bars.rows.append(bar_row("units without a fault minus forward, all points, 12 classes", sound, None))
        auc = spread([value - AUC_BAR for value in by_seed(results, ("units", "auc"), way="backward").values()])
        bars.rows.append(bar_row(f"AUC % of unit scores, true against false, minus {AUC_BAR:g}", auc, 0.0))
        quality = StudyTable("What the student thinks of the units, mean ± 95 %", ("figure", "probability", "argmax, as published"))
        for key, title in _FIGURES.items():
            figures = [str(mean_of(by_seed(results, ("units", key), way=way))) for way in ("backward", "argmax")]
            quality.rows.append([title, *figures])
        kept = by_seed(results, ("adapted", "kept"), way="backward")
        quality.rows.append(["buildings where the adaptation was kept", str(mean_of(kept)), "-"])
        pairs = [(f"{way} minus forward", {"way": way}, {"way": "forward"}) for way in ("backward", "sound")]
        return [scores, bars, class_table(results, pairs), quality]


_PLACES = (
    ("in view, 12 classes", ("in view", "miou")),
    ("in view, 4 classes", ("in view", "struct4_miou")),
    ("all points, 12 classes", ("all points", "miou")),
    ("all points, 4 classes", ("all points", "struct4_miou")),
)
_WAYS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("forward", "forward", ()),
    ("argmax", "forward and backward, argmax as published", ()),
    ("backward", "forward and backward, probability", ()),
    ("backward", "forward, backward and adaptation", ("adapted",)),
    ("sound", "forward, units without a fault", ()),
)
_FIGURES = {
    "auc": "AUC of scores, true against false, %",
    "false": "units that are false, %",
    "true_weight": "mean weight of true units, %",
    "false_weight": "mean weight of false units, %",
    "dropped_false": "false units dropped, %",
    "dropped_true": "true units dropped, %",
    "right_before": "points of units whose class is right, %",
    "right_after": "the same, each unit by its weight, %",
}


class AdaptedStudents:
    """Students by the building that they were adapted to; called as one student, that of the building entered last.

    Attributes:
        kept: How many adaptations were kept.
    """

    def __init__(self) -> None:
        self.kept = 0
        self._asks: dict[str, LogitsOf] = {}
        self._source = ""

    def __len__(self) -> int:
        return len(self._asks)

    def add(self, source: str, ask: LogitsOf, kept: bool) -> None:
        """Take the student of a building."""
        self._asks[source] = ask
        self.kept += kept

    def enter(self, frame: Frame) -> None:
        """Enter the building that a frame is of."""
        self._source = frame.source

    def __call__(self, points_m: np.ndarray, intensity: np.ndarray | None, rotation: np.ndarray | None) -> ScanLogits:
        """Compute logits; see `LogitsOf`."""
        return self._asks[self._source](points_m, intensity, rotation)


def by_source(frames: FrameStore) -> dict[str, np.ndarray]:
    """Group frame numbers by recording, each in order of time."""
    found: dict[str, list[int]] = {}
    for number, entry in enumerate(frames.manifest.frames):
        found.setdefault(entry.source, []).append(number)
    return {source: np.array(numbers, np.int64) for source, numbers in found.items()}


def later_frames(frames: FrameStore) -> np.ndarray:
    """Take the second half of each recording."""
    return np.concatenate([numbers[len(numbers) // 2 :] for numbers in by_source(frames).values()])


def judged_units(folder: Path, frames: FrameStore, units: SimulatedUnits) -> dict[str, Any]:
    """Compare the scores of units with what is true of them, in percent."""
    rows = load_unit_scores(folder)
    numbers = frames.numbers("train").tolist()
    false = np.concatenate([units.false(number) for number in numbers])
    right = np.concatenate([units.right(number) for number in numbers])
    size = np.concatenate([units[number].sizes for number in numbers])
    score, weight = rows["score"].astype(np.float64), rows["weight"].astype(np.float64)
    figures = {
        "auc": roc_auc(score, ~false),
        "false": false.mean(),
        "true_weight": weight[~false].mean(),
        "false_weight": weight[false].mean(),
        "dropped_false": (weight[false] == 0).mean(),
        "dropped_true": (weight[~false] == 0).mean(),
        "right_before": np.average(right, weights=size),
        "right_after": (right * size * weight).sum() / max((size * weight).sum(), 1e-9),
    }
    return {"units": len(rows), **{name: round(100 * float(value), 2) for name, value in figures.items() if np.isfinite(value)}}


def voted_miou(frames: FrameStore, units: SimulatedUnits, numbers: np.ndarray) -> float:
    """Score what units say by themselves: mIoU % on the points that they cover, where each unit votes with its score."""
    confusion = Confusion(units.classes)
    for number in numbers.tolist():
        truth, said = frames[number].truth, units[number]
        assert truth is not None
        votes = np.zeros((len(truth), units.classes))
        np.add.at(votes, (said.point, said.label[said.unit]), said.confidence)
        covered = votes.any(1)
        confusion.add(truth[covered], votes[covered].argmax(1).astype(np.uint8))
    return round(100 * confusion.miou, 2)


def _shapes(way: str) -> str:
    return " / ".join(f"{value:g}" for value in _PUBLISHED[way])
