"""Study `xmodel`: does a student that learns beside a fused head do better, when the robot has no picture?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xkd_ros.distill.backbone import Backbone
from xkd_ros.distill.given_labels import GivenLabels
from xkd_ros.distill.retraining.config import RetrainConfig
from xkd_ros.distill.xmodel.config import XModelConfig
from xkd_ros.nets.fused_checkpoint import load_fused
from xkd_ros.pipeline.fused_segmenter import FusedSegmenter
from xkd_ros.pipeline.studies.cell import Cell, CellResult
from xkd_ros.pipeline.studies.class_table import class_table
from xkd_ros.pipeline.studies.paired import paired_difference
from xkd_ros.pipeline.studies.scale import Scale
from xkd_ros.pipeline.studies.study import REAL_ALL, by_seed, make_cell, mean_of
from xkd_ros.pipeline.studies.table import BAR_COLUMNS, StudyTable, bar_row
from xkd_ros.pipeline.studies.trial import Outcome, Trial, reduced
from xkd_ros.pipeline.studies.workshop import Workshop

RIG = "ouster16"
LABEL_SHARE = 0.01
BAR = 2.0
ALONE, TWICE, LONGER = "lidar alone", "lidar alone twice", "lidar alone longer"
MODEL, ONCE = "xmodel", "xmodel once"
PLAIN, FEWER = "xmodel once without infonce", "xmodel once on labelled frames alone"
_ONCE = {"retrain": {"again": False}}
ARMS: dict[str, dict[str, Any]] = {
    MODEL: {},
    ONCE: _ONCE,
    PLAIN: {**_ONCE, "contrast_weight": 0.0},
    FEWER: {**_ONCE, "unlabelled": 0.0},
}
_PARTS = (
    (ONCE, ALONE, "xmodel trained once minus lidar alone"),
    (MODEL, ONCE, "what the second training adds"),
    (TWICE, ALONE, "what a second training adds to lidar alone"),
    (LONGER, ALONE, "what as many more steps add to lidar alone"),
    (MODEL, TWICE, "xmodel minus lidar alone, both trained twice"),
    (ONCE, PLAIN, "what InfoNCE adds, trained once"),
    (ONCE, FEWER, "what frames without labels add, trained once"),
)
_CLASSES = ((MODEL, ALONE, "xmodel minus lidar alone"), *_PARTS[:2])
_WHERE = ("all points", "in view", "out of view")


class XModelStudy:
    """Training beside a fused head against training on labels alone, from the same start, on the same labels, for as many steps."""

    name = "xmodel"
    claim = (
        "Fusing image features while training gives 2 % absolute mIoU over a lidar-only baseline (xModel-KD, arXiv 2605.30111, abstract; "
        "data, backbones and whether images are needed at run time were not available to us, and the method here is our reconstruction)."
    )
    protocol = (
        f"Rig {RIG}. As the claim is about supervised training, labels are the true ones, of {100 * LABEL_SHARE:g} % of the frames (the "
        "same for the same seed in all rows): so few that there is something to gain, as with 10 % even the labels of all frames would "
        "add no more than 1.4 mIoU (study scalr). As it is about backbones that are trained before in "
        f"both senses, all start from the backbone of study scalr, which was distilled from the image teacher; '{ALONE}' is then that "
        f"study's row of {100 * LABEL_SHARE:g} %. Random starts show how much of the gain distillation had taken before. Batches are of "
        "equally many scans in all rows; half of them are of frames without labels, so that labelled ones come half as often, but for the "
        "row of labelled frames alone. xmodel trains a second time, on what the fused head says where frames of one place agree, and goes "
        f"on from the first; '{TWICE}' does so with what the student itself says, '{LONGER}' takes as many steps as both. Students are "
        "evaluated as the robot runs them, without a picture; the fused head is given the pictures of the evaluated frame and asks the "
        "image teacher on the spot."
    )

    def cells(self, scale: Scale, teachers: Sequence[str]) -> list[Cell]:
        """List the cells: what the bar needs, then the random start."""
        rows = (
            [("distilled", arm) for arm in (ALONE, MODEL)],
            [("distilled", arm) for arm in (ONCE, LONGER, TWICE, PLAIN, FEWER)],
            [("scratch", arm) for arm in (ALONE, MODEL)],
        )
        return [
            make_cell(self.name, f"{start}-{arm.replace(' ', '-')}", seed, scale, start=start, arm=arm, teacher=teachers[0])
            for group in rows
            for seed in range(scale.seeds)
            for start, arm in group
        ]

    def run(self, cell: Cell, workshop: Workshop, trial: Trial) -> Outcome:
        """Train and evaluate without pictures, and with them where there is a fused head."""
        p, scale, network = cell.parameters, workshop.scale, workshop.network()
        frames, labels = workshop.frames(RIG, "train"), GivenLabels(workshop.frames(RIG, "train"), workshop.class_map.label_set)
        pretrained = p["start"] == "distilled"
        if pretrained:
            backbone = workshop.backbone((RIG,), p["teacher"], cell.seed, network)
        else:
            backbone = Backbone.untrained(network, scale.student, cell.seed)
        steps = 2 * scale.finetune_steps if p["arm"] == LONGER else None
        plain = scale.finetune(cell.seed, steps, label_share=LABEL_SHARE, pretrained=pretrained)
        if p["arm"] in (ALONE, TWICE, LONGER):
            plain = plain.model_copy(update={"retrain": RetrainConfig(again=p["arm"] == TWICE)})
            student = trial.learn(plain, frames, labels, "true labels", backbone)
        else:
            changes = {"label_share": LABEL_SHARE, "layer_decay": plain.layer_decay, "max_pairs": scale.max_pairs, **ARMS[p["arm"]]}
            config = scale.method(XModelConfig, cell.seed, **changes)
            student = trial.learn(config, frames, labels, "true labels", backbone, workshop.targets(RIG, "train", p["teacher"]))
        segmenter = trial.segmenter(student)
        evaluation = trial.evaluate(segmenter, RIG)
        metrics = reduced(evaluation)
        if p["arm"] in ARMS:
            head, _ = load_fused(trial.latest, student)
            fused = FusedSegmenter(segmenter, student, head, workshop.teacher(p["teacher"]))
            metrics["fused"] = reduced(trial.evaluate_frames(fused.logits, RIG))
        return trial.outcome(evaluation, p["teacher"], metrics)

    def tables(self, results: Sequence[CellResult]) -> list[StudyTable]:
        """Compare students at run time without pictures; then what pictures would add."""
        columns = ("start, training", *_WHERE, "with pictures: in view", "with pictures: all points")
        scores = StudyTable("mIoU % over twelve classes against true labels, mean ± 95 %", columns)
        bars = StudyTable("Differences, all points and without pictures unless said otherwise", BAR_COLUMNS)
        for start in ("distilled", "scratch"):
            arms = (ALONE, LONGER, TWICE, *ARMS) if start == "distilled" else (ALONE, MODEL)
            rows = {arm: {"start": start, "arm": arm} for arm in arms}
            for arm, row in rows.items():
                found = [mean_of(by_seed(results, ("real", where, "miou"), **row)) for where in _WHERE]
                found += [mean_of(by_seed(results, ("fused", "real", where, "miou"), **row)) for where in ("in view", "all points")]
                scores.rows.append([f"{start}, {arm}", *map(str, found)])
            alone = by_seed(results, REAL_ALL, **rows[ALONE])
            model = by_seed(results, REAL_ALL, **rows[MODEL])
            bar = BAR if start == "distilled" else None
            bars.rows.append(bar_row(f"{start}: {MODEL} minus {ALONE}", paired_difference(model, alone), bar))
            structure = (by_seed(results, ("real", "all points", "struct4_miou"), **rows[arm]) for arm in (MODEL, ALONE))
            bars.rows.append(bar_row(f"{start}: the same over four classes", paired_difference(*structure), None))
            for more, less, words in _PARTS if start == "distilled" else ():
                difference = paired_difference(*(by_seed(results, REAL_ALL, **rows[arm]) for arm in (more, less)))
                bars.rows.append(bar_row(f"{start}: {words}", difference, None))
            path = ("real", "in view", "miou")
            with_pictures, without = by_seed(results, ("fused", *path), **rows[MODEL]), by_seed(results, path, **rows[MODEL])
            words = f"{start}: what pictures add at run time, in view"
            bars.rows.append(bar_row(words, paired_difference(with_pictures, without), None))
        bars.rows.append(["published: with fusion minus lidar-only", f"+{BAR:g}", "-", "-", "-"])
        kinds = {arm: {"start": "distilled", "arm": arm} for arm in (MODEL, ONCE, ALONE)}
        pairs = [(f"distilled: {words}", kinds[more], kinds[less]) for more, less, words in _CLASSES]
        return [scores, bars, class_table(results, pairs)]
