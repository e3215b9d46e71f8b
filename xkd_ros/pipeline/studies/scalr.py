"""Study `scalr`: how much does distillation help with few labels?"""

from __future__ import annotations

from collections.abc import Sequence

from xkd_ros.distill.backbone import Backbone
from xkd_ros.distill.given_labels import GivenLabels
from xkd_ros.pipeline.studies.cell import Cell, CellResult
from xkd_ros.pipeline.studies.paired import paired_difference
from xkd_ros.pipeline.studies.scale import Scale
from xkd_ros.pipeline.studies.study import REAL_ALL, by_seed, make_cell, mean_of
from xkd_ros.pipeline.studies.table import BAR_COLUMNS, StudyTable, bar_row
from xkd_ros.pipeline.studies.trial import Outcome, Trial, reduced
from xkd_ros.pipeline.studies.workshop import Workshop

RIG = "ouster16"
BARS = {1: 5.0, 10: 2.0, 100: 0.0}
"""Percent of labels → mIoU by which distilled must beat from-scratch."""
PASSES = {1: 45.0, 10: 45.0}
"""Percent of labels → passes over them (METHODS 2.6); all of them are learnt from for as long as the scale says."""
_PUBLISHED = {1: ("50.7", "54.1", "-"), 10: ("69.2", "70.7", "-"), 100: ("78.4", "78.4", "78.7")}


class ScalrStudy:
    """Fine-tuning from a distilled backbone against fine-tuning from random weights, on 1, 10 and 100 % of the labels."""

    name = "scalr"
    claim = "Distillation helps most where labels are few; with all of them it is neutral (ScaLR, CVPR 2024)."
    protocol = (
        f"Rig {RIG}. Both start points are fine-tuned for equally many steps on the same share of the training frames, the same frames for "
        "the same seed; each seed has a backbone of its own. As in the published protocol, the labels learnt from are the true ones, and "
        "1 and 10 % of them are passed over 45 times. With as many steps as all labels get, hundreds of passes over the same few scans, "
        "what the start point knew is written over: those cells are shown too. "
        "From scratch, all layers learn at one rate; from the distilled backbone, lower layers learn more slowly."
    )

    def cells(self, scale: Scale, teachers: Sequence[str]) -> list[Cell]:
        """List the cells: those with few labels first, which are short and decide most; last those that train too long."""
        published = [(percent, {"passes": passes}) for percent, passes in PASSES.items()]
        rounds: list[list[tuple[int, dict[str, float]]]] = [published, [(100, {})], [(percent, {}) for percent in PASSES]]
        return [
            make_cell(self.name, _name(percent, start, **length), seed, scale, percent=percent, start=start, teacher=teachers[0], **length)
            for lengths in rounds
            for seed in range(scale.seeds)
            for percent, length in lengths
            for start in ("distilled", "scratch")
        ]

    def run(self, cell: Cell, workshop: Workshop, trial: Trial) -> Outcome:
        """Fine-tune and evaluate."""
        p, scale, network = cell.parameters, workshop.scale, workshop.network()
        frames = workshop.frames(RIG, "train")
        pretrained = p["start"] == "distilled"
        if pretrained:
            backbone = workshop.backbone((RIG,), p["teacher"], cell.seed, network)
        else:
            backbone = Backbone.untrained(network, scale.student, cell.seed)
        config = scale.finetune(cell.seed, label_share=p["percent"] / 100, pretrained=pretrained, passes=p.get("passes"))
        labels = GivenLabels(frames, workshop.class_map.label_set)
        student = trial.learn(config, frames, labels, "true labels", backbone)
        evaluation = trial.evaluate(trial.segmenter(student), RIG)
        return trial.outcome(evaluation, p["teacher"], reduced(evaluation))

    def tables(self, results: Sequence[CellResult]) -> list[StudyTable]:
        """Compare the two start points."""
        columns = ("labels", "distilled", "from scratch", "published: ScaLR", "published: ScaLR+", "published: from scratch")
        scores = StudyTable(
            "Fine-tuning, mIoU % over twelve classes against true labels, all points, mean ± 95 %",
            columns,
            notes=("Published: nuScenes validation, 16 classes outdoors; from scratch at 1 % and 10 % is not given there.",),
        )
        bars = StudyTable("Distilled minus from scratch", BAR_COLUMNS)
        for percent, bar in BARS.items():
            passes = PASSES.get(percent)
            rows = [(passes, f"{percent} %", bar)] + ([] if passes is None else [(None, f"{percent} %, as many steps as 100 %", None)])
            for passes, words, wanted in rows:
                distilled, scratch = (
                    by_seed(results, REAL_ALL, percent=percent, start=start, passes=passes) for start in ("distilled", "scratch")
                )
                published = _PUBLISHED[percent] if wanted is not None else ("", "", "")
                scores.rows.append([words, str(mean_of(distilled)), str(mean_of(scratch)), *published])
                bars.rows.append(bar_row(words.replace("%", "% of the labels", 1), paired_difference(distilled, scratch), wanted))
        return [scores, bars]


def _name(percent: int, start: str, passes: float | None = None) -> str:
    return f"{percent:03d}pct-{start}" if passes is None else f"{percent:03d}pct-{passes:g}x-{start}"
