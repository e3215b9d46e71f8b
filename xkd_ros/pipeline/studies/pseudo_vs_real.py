"""Study `pseudo_vs_real`: how much better do pseudo-labels make a student look, and does it outgrow its teacher?"""

from __future__ import annotations

from collections.abc import Sequence

from xkd_ros.pipeline.studies.cell import Cell, CellResult
from xkd_ros.pipeline.studies.given_labels import ProjectedLabels
from xkd_ros.pipeline.studies.paired import paired_difference, spread
from xkd_ros.pipeline.studies.scale import Scale
from xkd_ros.pipeline.studies.study import by_seed, make_cell, mean_of
from xkd_ros.pipeline.studies.table import BAR_COLUMNS, StudyTable, bar_row
from xkd_ros.pipeline.studies.trial import Outcome, Trial, reduced
from xkd_ros.pipeline.studies.workshop import Workshop

RIG = "ouster16"
LARGEST_ECE_PERCENT = 5.0


class PseudoVsRealStudy:
    """A student that learnt from pseudo-labels, against the teacher's labels and against true ones."""

    name = "pseudo_vs_real"
    claim = "56.5 mIoU against pseudo-labels, 35.8 against real ones (arXiv 2604.18831, Table 4)."
    protocol = (
        f"Rig {RIG}. Distilled, then fine-tuned on pseudo-labels; the temperature is fitted on pseudo-labels of buildings that were kept "
        "from training; evaluated in buildings with other textures. Projected labels are what the teacher says at the pixel of every point "
        "in view, unfiltered, as published; the bar compares student and teacher at those points. No true label is learnt from."
    )

    def cells(self, scale: Scale, teachers: Sequence[str]) -> list[Cell]:
        """List the cells: one per seed."""
        return [make_cell(self.name, "student", seed, scale, teacher=teachers[0]) for seed in range(scale.seeds)]

    def run(self, cell: Cell, workshop: Workshop, trial: Trial) -> Outcome:
        """Fine-tune, calibrate, evaluate against all kinds of labels."""
        teacher = cell.parameters["teacher"]
        backbone = workshop.backbone((RIG,), teacher, cell.seed, workshop.network())
        frames, labels = workshop.frames(RIG, "train"), workshop.pseudo_labels(RIG, "train", teacher)
        student = trial.learn(workshop.scale.finetune(cell.seed), frames, labels, labels.manifest.hash, backbone)
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
        for kind, against in (("pseudo", "projected labels"), ("real", "true labels")):
            for heading in ("all points", "in view", "out of view") if kind == "real" else ("all points",):
                where = heading if kind == "real" else "in view"
                shown = published[kind] if heading == "all points" else "-"
                scores.rows.append([f"student, {where}, {against}", *_both(results, (kind, heading)), shown])
        for base, title in (((), "projected labels"), (("trusted",), "labels that it learns from")):
            for who, name in (("teacher", f"teacher's {title}"), ("student", f"student at the same points ({title})")):
                scores.rows.append([f"{name}, in view, true labels", *_both(results, (*base, "teacher", who)), "-"])
        bars = StudyTable("Student against its teacher, calibration", BAR_COLUMNS)
        for base, what, bar in (
            ((), "student minus its teacher's projected labels", 0.0),
            (("trusted",), "student minus labels learnt from", None),
        ):
            for score, classes in (("struct4_miou", "4 classes, as published"), ("miou", "12 classes")):
                student, teacher = (by_seed(results, (*base, "teacher", who, score)) for who in ("student", "teacher"))
                bars.rows.append(bar_row(f"{what}, in view, {classes}", paired_difference(student, teacher), bar))
        ece = by_seed(results, ("real", "ece"))
        spare = spread([LARGEST_ECE_PERCENT - 100 * value for value in ece.values()])
        bars.rows.append(bar_row(f"{LARGEST_ECE_PERCENT:g} % minus the calibration error (15 bins), true labels", spare, 0.0))
        return [scores, bars]


def _both(results: Sequence[CellResult], base: tuple[str, ...]) -> list[str]:
    return [str(mean_of(by_seed(results, (*base, name)))) for name in ("miou", "struct4_miou")]
