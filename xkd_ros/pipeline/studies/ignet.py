"""Study `ignet`: how near do scribbles on 8 % of the points come to labels on all of them, and what does each part give?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xkd_ros.distill.backbone import Backbone
from xkd_ros.distill.given_labels import GivenLabels
from xkd_ros.distill.ignet.config import IgnetConfig
from xkd_ros.distill.labelled_frames import Labels
from xkd_ros.distill.methods import MethodConfig
from xkd_ros.distill.retraining.training import FIRST_NAME
from xkd_ros.nets.checkpoint import read_weights
from xkd_ros.pipeline.studies.cell import Cell, CellResult
from xkd_ros.pipeline.studies.class_table import class_table
from xkd_ros.pipeline.studies.given_labels import ScribbleLabels
from xkd_ros.pipeline.studies.paired import paired_difference, spread
from xkd_ros.pipeline.studies.scale import Scale
from xkd_ros.pipeline.studies.study import by_seed, make_cell, mean_of
from xkd_ros.pipeline.studies.table import BAR_COLUMNS, StudyTable, bar_row
from xkd_ros.pipeline.studies.trial import Outcome, Trial, reduced
from xkd_ros.pipeline.studies.workshop import Workshop

RIG = "ouster16"
SHARE = 0.08
LEAST_PERCENT = 98.0
_ONCE = {"retrain": {"again": False}}
_VARIANTS: dict[str, dict[str, Any]] = {
    "ignet": {},
    "published": {"retrain": {"afresh": True, "votes": None, "keep": 0.5}},
    "no-contrast": {**_ONCE, "contrast_weight": 0.0},
    "no-fovmix": {**_ONCE, "mix": {"share": 0.0}},
    "no-images": {**_ONCE, "contrast_weight": 0.0, "feature_weight": 0.0, "mix": {"share": 0.0}},
}
_ROWS = {
    "full": "labels on all points, cross-entropy and Lovász",
    "full-longer": "the same, as many steps as both trainings of ignet",
    "scribbles": "scribbles, cross-entropy and Lovász",
    "longer": "scribbles, as many steps as both trainings of ignet",
    "no-images": "scribbles and mean teacher, trained once",
    "no-contrast": "ignet without one-way contrast, trained once",
    "no-fovmix": "ignet without FOVMix, trained once",
    "once": "ignet, trained once",
    "published": "ignet, the second training as published: from the start, on labels of each frame alone",
    "ignet": "ignet",
}
_DIFFERENCES = (
    ("ignet", "scribbles"), ("ignet", "longer"), ("longer", "full-longer"), ("ignet", "once"), ("ignet", "published"),
    ("once", "scribbles"), ("once", "no-images"), ("once", "no-contrast"), ("once", "no-fovmix"),
)  # fmt: skip


class IgnetStudy:
    """Scribbles with all parts of the method, without single ones, and full supervision."""

    name = "ignet"
    claim = "Up to 98 % of full supervision from scribbles on 8 % of the points; 62.0 mIoU on ScribbleKITTI (IGNet, WACV 2024)."
    protocol = (
        f"Rig {RIG}. Strokes are drawn on the surfaces of the training buildings until they label {100 * SHARE:.0f} % of the points. "
        "Every training starts from the same random weights and takes equally many steps, all layers at one rate; ignet trains a second "
        "time, on labels of the first, as published, but goes on from its student, and frames vote on places first. The image teacher "
        "learnt from rendered pictures of other textures. The three image-guided parts are our reconstruction."
    )

    def cells(self, scale: Scale, teachers: Sequence[str]) -> list[Cell]:
        """List the cells: those of the bar first."""
        return [
            make_cell(self.name, variant, seed, scale, variant=variant, teacher=teachers[0])
            for variants in (
                ("full", "ignet", "scribbles", "longer", "full-longer"),
                ("published", "no-contrast", "no-fovmix", "no-images"),
            )
            for seed in range(scale.seeds)
            for variant in variants
        ]

    def run(self, cell: Cell, workshop: Workshop, trial: Trial) -> Outcome:
        """Train and evaluate."""
        variant, teacher, scale = cell.parameters["variant"], cell.parameters["teacher"], workshop.scale
        frames, classes = workshop.frames(RIG, "train"), workshop.class_map.label_set
        backbone = Backbone.untrained(workshop.network(), scale.student, cell.seed)
        full = variant.startswith("full")
        labels: Labels = GivenLabels(frames, classes) if full else ScribbleLabels(frames, classes, SHARE, cell.seed)
        steps = 2 * scale.finetune_steps if variant.endswith("longer") else None
        config: MethodConfig = scale.finetune(cell.seed, steps, pretrained=False)
        targets = None
        if variant in _VARIANTS:
            config = scale.method(IgnetConfig, cell.seed, method="ignet", layer_decay=1.0, **_VARIANTS[variant])
            targets = workshop.targets(RIG, "train", teacher)
        student = trial.learn(config, frames, labels, f"{full} {SHARE} {cell.seed}", backbone, targets)
        evaluation = trial.evaluate(trial.segmenter(student), RIG)
        metrics = reduced(evaluation)
        if variant == "ignet":
            first = read_weights(trial.latest / FIRST_NAME, student.network)
            metrics["once"] = reduced(trial.evaluate(trial.segmenter(first), RIG))
        return trial.outcome(evaluation, teacher, metrics)

    def tables(self, results: Sequence[CellResult]) -> list[StudyTable]:
        """Compare with full supervision, and with single parts left out."""
        scores = StudyTable(
            "mIoU % over twelve classes against true labels, mean ± 95 %",
            ("learnt from", "all points", "in view", "out of view", "of full supervision, %"),
            notes=("Published (ScribbleKITTI, outdoors): 62.0 from scribbles, 98 % of full supervision.",),
        )
        figures = {row: _by_seed(results, row, "all points") for row in _ROWS}
        shares = {row: {seed: 100 * value / figures["full"][seed] for seed, value in found.items() if seed in figures["full"]}
                  for row, found in figures.items()}  # fmt: skip
        for row, text in _ROWS.items():
            places = [_by_seed(results, row, place) for place in ("all points", "in view", "out of view")]
            scores.rows.append([text, *(str(mean_of(found)) for found in places), str(mean_of(shares[row]))])
        bars = StudyTable("Against the bar, and what each part gives", BAR_COLUMNS)
        beyond = spread([value - LEAST_PERCENT for value in shares["ignet"].values()])
        bars.rows.append(bar_row(f"ignet, % of full supervision, minus {LEAST_PERCENT:g}", beyond, 0.0))
        as_long = [100 * value / figures["full-longer"][seed] for seed, value in figures["ignet"].items() if seed in figures["full-longer"]]
        difference = spread([value - LEAST_PERCENT for value in as_long])
        bars.rows.append(
            bar_row(f"the same, of full supervision for as many steps as both trainings, minus {LEAST_PERCENT:g}", difference, None)
        )
        for row, other in _DIFFERENCES:
            bars.rows.append(bar_row(f"{_ROWS[row]} minus: {_ROWS[other]}", paired_difference(figures[row], figures[other]), None))
        pairs = [(f"{_ROWS['ignet']} minus: {_ROWS[other]}", {"variant": "ignet"}, {"variant": other}) for other in ("full", "scribbles")]
        return [scores, bars, class_table(results, pairs)]


def _by_seed(results: Sequence[CellResult], row: str, place: str) -> dict[int, float]:
    """Find the figures of a row; what ignet is after its first training stands in the cells of the whole."""
    if row == "once":
        return by_seed(results, ("once", "real", place, "miou"), variant="ignet")
    return by_seed(results, ("real", place, "miou"), variant=row)
