"""Study `ignet`: how near do scribbles on 8 % of the points come to labels on all of them, and what does each part give?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xkd_ros.distill.backbone import Backbone
from xkd_ros.distill.given_labels import GivenLabels
from xkd_ros.distill.ignet.config import IgnetConfig
from xkd_ros.distill.labelled_frames import Labels
from xkd_ros.distill.methods import MethodConfig
from xkd_ros.pipeline.studies.cell import Cell, CellResult
from xkd_ros.pipeline.studies.given_labels import ScribbleLabels
from xkd_ros.pipeline.studies.paired import paired_difference, spread
from xkd_ros.pipeline.studies.scale import Scale
from xkd_ros.pipeline.studies.study import REAL_ALL, by_seed, make_cell, mean_of
from xkd_ros.pipeline.studies.table import BAR_COLUMNS, StudyTable, bar_row
from xkd_ros.pipeline.studies.trial import Outcome, Trial, reduced
from xkd_ros.pipeline.studies.workshop import Workshop

RIG = "ouster16"
SHARE = 0.08
LEAST_PERCENT = 98.0
_VARIANTS: dict[str, dict[str, Any]] = {
    "ignet": {},
    "no-contrast": {"contrast_weight": 0.0},
    "no-fovmix": {"mix": {"share": 0.0}},
    "retrained": {"retrain": {"share": 0.5}},
    "no-images": {"contrast_weight": 0.0, "feature_weight": 0.0, "mix": {"share": 0.0}},
}
_ROWS = {
    "full": "labels on all points, cross-entropy and Lovász",
    "scribbles": "scribbles, cross-entropy and Lovász",
    "no-images": "scribbles and mean teacher",
    "no-contrast": "ignet without one-way contrast",
    "no-fovmix": "ignet without FOVMix",
    "retrained": "ignet, half of the steps with balanced labels too",
    "ignet": "ignet",
}


class IgnetStudy:
    """Scribbles with all parts of the method, without single ones, and full supervision."""

    name = "ignet"
    claim = "Up to 98 % of full supervision from scribbles on 8 % of the points; 62.0 mIoU on ScribbleKITTI (IGNet, WACV 2024)."
    protocol = (
        f"Rig {RIG}. Strokes are drawn on the surfaces of the training buildings until they label {100 * SHARE:.0f} % of the points. "
        "Every row starts from the same random weights and takes equally many steps, all layers at one rate. The image teacher learnt from "
        "rendered pictures of other textures. The three image-guided parts are our reconstruction."
    )

    def cells(self, scale: Scale, teachers: Sequence[str]) -> list[Cell]:
        """List the cells: those of the bar first."""
        return [
            make_cell(self.name, variant, seed, scale, variant=variant, teacher=teachers[0])
            for variants in (("full", "ignet", "scribbles"), ("no-contrast", "no-fovmix", "no-images", "retrained"))
            for seed in range(scale.seeds)
            for variant in variants
        ]

    def run(self, cell: Cell, workshop: Workshop, trial: Trial) -> Outcome:
        """Train and evaluate."""
        variant, teacher, scale = cell.parameters["variant"], cell.parameters["teacher"], workshop.scale
        frames, classes = workshop.frames(RIG, "train"), workshop.class_map.label_set
        backbone = Backbone.untrained(workshop.network(), scale.student, cell.seed)
        labels: Labels = GivenLabels(frames, classes) if variant == "full" else ScribbleLabels(frames, classes, SHARE, cell.seed)
        config: MethodConfig = scale.finetune(cell.seed, pretrained=False)
        targets = None
        if variant in _VARIANTS:
            config = scale.method(IgnetConfig, cell.seed, method="ignet", layer_decay=1.0, **_VARIANTS[variant])
            targets = workshop.targets(RIG, "train", teacher)
        student = trial.learn(config, frames, labels, f"{variant == 'full'} {SHARE} {cell.seed}", backbone, targets)
        evaluation = trial.evaluate(trial.segmenter(student), RIG)
        return trial.outcome(evaluation, teacher, reduced(evaluation))

    def tables(self, results: Sequence[CellResult]) -> list[StudyTable]:
        """Compare with full supervision, and with single parts left out."""
        scores = StudyTable(
            "mIoU % over twelve classes against true labels, mean ± 95 %",
            ("learnt from", "all points", "in view", "out of view", "of full supervision, %"),
            notes=("Published (ScribbleKITTI, outdoors): 62.0 from scribbles, 98 % of full supervision.",),
        )
        figures = {variant: by_seed(results, REAL_ALL, variant=variant) for variant in _ROWS}
        shares = {variant: {seed: 100 * value / figures["full"][seed] for seed, value in found.items() if seed in figures["full"]}
                  for variant, found in figures.items()}  # fmt: skip
        for variant, text in _ROWS.items():
            places = [by_seed(results, ("real", place, "miou"), variant=variant) for place in ("all points", "in view", "out of view")]
            scores.rows.append([text, *(str(mean_of(found)) for found in places), str(mean_of(shares[variant]))])
        bars = StudyTable("Against the bar, and what each part gives", BAR_COLUMNS)
        beyond = spread([value - LEAST_PERCENT for value in shares["ignet"].values()])
        bars.rows.append(bar_row(f"ignet, % of full supervision, minus {LEAST_PERCENT:g}", beyond, 0.0))
        for variant in ("scribbles", "no-images", "no-contrast", "no-fovmix", "retrained"):
            bars.rows.append(bar_row(f"ignet minus: {_ROWS[variant]}", paired_difference(figures["ignet"], figures[variant]), None))
        return [scores, bars]
