"""Study `teachers`: how much does it matter which image model is distilled?"""

from __future__ import annotations

from collections.abc import Sequence

from xkd_ros.pipeline.studies.cell import Cell, CellResult
from xkd_ros.pipeline.studies.paired import paired_difference
from xkd_ros.pipeline.studies.scale import Scale
from xkd_ros.pipeline.studies.study import REAL_ALL, by_seed, make_cell, mean_of
from xkd_ros.pipeline.studies.table import BAR_COLUMNS, StudyTable, bar_row
from xkd_ros.pipeline.studies.trial import Outcome, Trial, reduced
from xkd_ros.pipeline.studies.workshop import RANDOM_TEACHER, Workshop

RIG = "ouster16"
STAGES = ("probe", "finetune")


class TeachersStudy:
    """Features of several image models, labels of one."""

    name = "teachers"
    claim = "Two teachers are within 1.5 mIoU of each other (arXiv 2604.18831, Table 6)."
    protocol = (
        f"Rig {RIG}. The features of each teacher are distilled; probe and fine-tuning learn from the pseudo-labels of the first teacher "
        f"in all cases, as published. {RANDOM_TEACHER} is a control: an image network that never learnt anything. True labels are for "
        "evaluation only. Others join by --teacher FOLDER."
    )

    def cells(self, scale: Scale, teachers: Sequence[str]) -> list[Cell]:
        """List the cells, seed by seed."""
        return [
            make_cell(self.name, name, seed, scale, teacher=name, labels_of=teachers[0])
            for seed in range(scale.seeds)
            for name in (*teachers, RANDOM_TEACHER)
        ]

    def run(self, cell: Cell, workshop: Workshop, trial: Trial) -> Outcome:
        """Probe and fine-tune, evaluate both."""
        p, scale = cell.parameters, workshop.scale
        backbone = workshop.backbone((RIG,), p["teacher"], cell.seed, workshop.network())
        frames, labels = workshop.frames(RIG, "train"), workshop.pseudo_labels(RIG, "train", p["labels_of"])
        metrics = {}
        for stage, config in (("probe", scale.probe(cell.seed)), ("finetune", scale.finetune(cell.seed))):
            student = trial.learn(config, frames, labels, labels.manifest.hash, backbone)
            evaluation = trial.evaluate(trial.segmenter(student), RIG)
            metrics[stage] = reduced(evaluation)
        return trial.outcome(evaluation, p["teacher"], metrics)

    def tables(self, results: Sequence[CellResult]) -> list[StudyTable]:
        """One row per teacher, differences to the one that gives the labels."""
        names = list(dict.fromkeys(result.cell.parameters["teacher"] for result in results))
        scores = StudyTable(
            "mIoU % over twelve classes against true labels, all points, mean ± 95 %",
            ("teacher", "linear probe", "fine-tuned"),
            [[name, *(str(mean_of(by_seed(results, (stage, *REAL_ALL), teacher=name))) for stage in STAGES)] for name in names],
        )
        published = StudyTable(
            "Published, mIoU / mAcc / oAcc %, against pseudo-labels",
            ("teacher", "ITC", "TIERS"),
            [["OneFormer", "55.0 / 69.0 / 76.8", "67.8 / 77.1 / 85.4"], ["DINOv2", "56.5 / 70.9 / 77.6", "67.8 / 77.6 / 85.0"]],
        )
        bars = StudyTable("Differences", BAR_COLUMNS)
        base = next((result.cell.parameters["labels_of"] for result in results), "")
        for stage in STAGES:
            for name in names:
                if name != base:
                    own, first = (by_seed(results, (stage, *REAL_ALL), teacher=each) for each in (name, base))
                    bars.rows.append(bar_row(f"{stage}: {name} minus {base}", paired_difference(own, first), None))
        return [scores, published, bars]
