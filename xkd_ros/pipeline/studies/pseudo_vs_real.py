"""Study `pseudo_vs_real`: how much better do pseudo-labels make a student look, and does it outgrow its teacher?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xkd_ros.distill.retraining.config import RetrainConfig
from xkd_ros.pipeline.studies.cell import Cell, CellResult
from xkd_ros.pipeline.studies.given_labels import ProjectedLabels
from xkd_ros.pipeline.studies.paired import paired_difference, spread
from xkd_ros.pipeline.studies.scale import Scale
from xkd_ros.pipeline.studies.study import by_seed, by_seed_of, figure, make_cell, mean_of
from xkd_ros.pipeline.studies.table import BAR_COLUMNS, StudyTable, bar_row
from xkd_ros.pipeline.studies.trial import Outcome, Trial, reduced
from xkd_ros.pipeline.studies.workshop import Workshop

RIG = "ouster16"
LARGEST_ECE_PERCENT = 5.0
_STUDENTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("student", "student", {}),
    ("longer", "student trained for twice the steps", {"longer": True}),
    ("twice", "student trained twice", {"trainings": 2}),
)
"""Name of the cells, of the rows, and what the cells have beside a teacher."""


class PseudoVsRealStudy:
    """A student that learnt from pseudo-labels, against the teacher's labels and against true ones."""

    name = "pseudo_vs_real"
    claim = "56.5 mIoU against pseudo-labels, 35.8 against real ones (arXiv 2604.18831, Table 4)."
    protocol = (
        f"Rig {RIG}. Distilled, then fine-tuned on pseudo-labels; the temperature is fitted on pseudo-labels of buildings that were kept "
        "from training; evaluated in buildings with other textures. Projected labels are what the teacher says at the pixel of every point "
        "in view, unfiltered, as published; the bar compares student and teacher at those points. The student that is trained twice goes "
        "on with what it says itself, where frames agree on a place. No true label is learnt from."
    )

    def cells(self, scale: Scale, teachers: Sequence[str]) -> list[Cell]:
        """List the cells: one per seed, then those of students that are trained for longer."""
        return [
            make_cell(self.name, name, seed, scale, **parameters, teacher=teachers[0])
            for name, _, parameters in _STUDENTS
            for seed in range(scale.seeds)
        ]

    def run(self, cell: Cell, workshop: Workshop, trial: Trial) -> Outcome:
        """Fine-tune, calibrate, evaluate against all kinds of labels."""
        teacher = cell.parameters["teacher"]
        backbone = workshop.backbone((RIG,), teacher, cell.seed, workshop.network())
        frames, labels = workshop.frames(RIG, "train"), workshop.pseudo_labels(RIG, "train", teacher)
        retrain = RetrainConfig(again="trainings" in cell.parameters)
        steps = 2 * workshop.scale.finetune_steps if "longer" in cell.parameters else None
        config = workshop.scale.finetune(cell.seed, steps).model_copy(update={"retrain": retrain})
        student = trial.learn(config, frames, labels, labels.manifest.hash, backbone)
        segmenter = trial.segmenter(student)
        temperature = trial.temperature(segmenter, frames, labels)
        projected = ProjectedLabels(workshop.frames(RIG, "val"), workshop.targets(RIG, "val", teacher))
        evaluation = trial.evaluate(segmenter, RIG, projected, temperature)
        trusted = reduced(trial.evaluate(segmenter, RIG, workshop.pseudo_labels(RIG, "val", teacher), temperature))
        metrics = {**reduced(evaluation), "temperature": temperature}
        metrics["trusted"] = {name: trusted[name] for name in ("pseudo", "teacher") if name in trusted}
        return trial.outcome(evaluation, teacher, metrics)

    def tables(self, results: Sequence[CellResult]) -> list[StudyTable]:
        """Lay the kinds of labels side by side."""
        columns = ("who, where, against what", "12 classes", "4 classes", "published, 4 classes")
        scores = StudyTable(
            "mIoU %, mean ± 95 %",
            columns,
            notes=("Published: ITC, real labels of 1720 frames of the building that it learnt from, out of view included.",),
        )
        published = {"pseudo": "56.5", "real": "35.8"}
        bars = StudyTable("Student against its teacher, calibration", BAR_COLUMNS)
        for _, learner, parameters in _STUDENTS:
            cells = [result for result in results if result.cell.parameters.keys() - {"teacher"} == parameters.keys()]
            for kind, against in (("pseudo", "projected labels"), ("real", "true labels")):
                for heading in ("all points", "in view", "out of view") if kind == "real" else ("all points",):
                    where = heading if kind == "real" else "in view"
                    shown = published[kind] if heading == "all points" and not parameters else "-"
                    scores.rows.append([f"{learner}, {where}, {against}", *_both(cells, (kind, heading)), shown])
            for base, title in (((), "projected labels"), (("trusted",), "labels that it learns from")):
                for who, name in (("teacher", f"teacher's {title}"), ("student", f"{learner} at the same points ({title})")):
                    if who == "student" or not parameters:
                        scores.rows.append([f"{name}, in view, true labels", *_both(cells, (*base, "teacher", who)), "-"])
            bars.rows.extend(_against_the_teacher(cells, learner))
        return [scores, bars]


def _against_the_teacher(cells: Sequence[CellResult], learner: str) -> list[list[str]]:
    """Compare a student with its teacher at the same points, and its probabilities with the truth."""
    rows = []
    for base, what, bar in (
        ((), f"{learner} minus its teacher's projected labels", 0.0),
        (("trusted",), f"{learner} minus labels learnt from", None),
    ):
        for score, classes in (("struct4_miou", "4 classes, as published"), ("miou", "12 classes")):
            student, teacher = (by_seed(cells, (*base, "teacher", who, score)) for who in ("student", "teacher"))
            rows.append(bar_row(f"{what}, in view, {classes}", paired_difference(student, teacher), bar))
    spare = spread([LARGEST_ECE_PERCENT - 100 * value for value in by_seed_of(cells, _error_as_shipped).values()])
    what = f"{LARGEST_ECE_PERCENT:g} % minus the calibration error (15 bins) of the {learner}, true labels"
    return [*rows, bar_row(what, spare, 0.0)]


def _error_as_shipped(metrics: dict[str, Any]) -> float | None:
    """Return the calibration error of a model with this student; cells done long ago have temperatures below 1, which none is given."""
    return figure(metrics, ("real", "ece" if metrics.get("temperature", 1.0) >= 1 else "ece_unscaled"))


def _both(cells: Sequence[CellResult], base: tuple[str, ...]) -> list[str]:
    return [str(mean_of(by_seed(cells, (*base, name)))) for name in ("miou", "struct4_miou")]
