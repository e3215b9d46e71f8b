"""What cells do with what they share: train a student on labels, evaluate it, keep the few figures that tables need."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xkd_ros.bags.frame import Frame
from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.core.card import IntensityConfig, ModelCard
from xkd_ros.core.types import NetInput
from xkd_ros.distill.backbone import Backbone
from xkd_ros.distill.label_store import LabelStore
from xkd_ros.distill.labelled_frames import Labels as TrainingLabels
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.methods import MethodConfig, train_student
from xkd_ros.distill.partdistill.config import PartDistillConfig
from xkd_ros.distill.partdistill.units import Units
from xkd_ros.distill.probe import run_probe
from xkd_ros.distill.recipe import ProbeConfig
from xkd_ros.evaluate.evaluation import Evaluation
from xkd_ros.evaluate.frame_evaluation import evaluate_frames
from xkd_ros.evaluate.scan_logits import Labels, LogitsOf, ScanLogits, logits_of
from xkd_ros.nets.student import Student
from xkd_ros.pipeline.calibration import honest_temperature
from xkd_ros.pipeline.run_folder import stage_key
from xkd_ros.pipeline.studies.given_labels import NoLabels
from xkd_ros.pipeline.studies.workshop import Workshop
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.runtime.torch_backend import run_in_memory
from xkd_ros.teacher.target_store import TargetStore


@dataclass(frozen=True)
class Outcome:
    """What the run of a cell gives.

    Attributes:
        class_hash: Of the class map.
        inputs: Hashes of the evaluated frames and of the teacher.
        metrics: Plain numbers.
    """

    class_hash: str
    inputs: dict[str, str]
    metrics: dict[str, Any]


class Trial:
    """The trainings of one cell.

    Attributes:
        folder: Of their own; it goes when the cell is done.
        latest: Of the last training, with what its method left beside the student.
    """

    latest: Path

    def __init__(self, workshop: Workshop, name: str) -> None:
        self._workshop, self.folder = workshop, workshop.root / "cells" / name

    def learn(
        self,
        config: ProbeConfig | MethodConfig,
        frames: FrameStore,
        labels: TrainingLabels,
        labels_hash: str,
        backbone: Backbone,
        targets: TargetStore | None = None,
    ) -> Student:
        """Probe or fine-tune, according to the configuration; goes on after an interruption.

        Args:
            config: Recipe.
            frames: What to learn from.
            labels: Of these frames.
            labels_hash: Identifies the labels.
            backbone: Where to start.
            targets: What the image teacher says about these frames, for methods that ask it.
        """
        inputs = {"frames": frames.hash, "labels": labels_hash, "backbone": backbone.card.sha256 or "untrained"}
        inputs |= {} if targets is None else {"targets": targets.hash}
        looks = "" if targets is None else targets.manifest.looks
        names = self._workshop.class_map.label_set.names
        movers = self._workshop.scale.pseudo_config().moving(names)
        lesson = Lesson(frames, labels, len(names), backbone, targets, looks=looks, movers=movers)
        return self._learn(config, lesson, self._place(config, backbone, inputs))

    def learn_from_units(
        self, config: PartDistillConfig, frames: FrameStore, units: Units, units_hash: str, backbone: Backbone
    ) -> tuple[Student, Path]:
        """Learn from units alone; goes on after an interruption. Returns the student, and the folder with the scores of the units.

        Args:
            config: Recipe.
            frames: What to learn from.
            units: Of these frames.
            units_hash: Identifies the units.
            backbone: Where to start.
        """
        folder = self._place(config, backbone, {"frames": frames.hash, "units": units_hash, "backbone": backbone.card.sha256})
        lesson = Lesson(frames, NoLabels(frames), len(self._workshop.class_map.label_set), backbone, units=units)
        return self._learn(config, lesson, folder), folder

    def _place(self, config: ProbeConfig | MethodConfig, backbone: Backbone, inputs: dict[str, str]) -> Path:
        return self.folder / stage_key("learn", [config.deciding(), backbone.card.network.model_dump()], inputs)

    def _learn(self, config: ProbeConfig | MethodConfig, lesson: Lesson, folder: Path) -> Student:
        workshop = self._workshop
        config = config.model_copy(update={"workers": workshop.workers})
        self.latest = folder
        with workshop.progress.step("probing" if isinstance(config, ProbeConfig) else "fine-tuning") as report:
            if isinstance(config, ProbeConfig):
                return run_probe(lesson, config, folder, workshop.fabric, report)
            return train_student(lesson, config, folder, workshop.fabric, report)

    def segmenter(self, student: Student, threads: int | None = None) -> Segmenter:
        """Put a student behind the code that runs on the robot; `threads` are for the whole process, None leaves them."""
        card = ModelCard(
            name="study",
            geometry=self._workshop.scale.geometry,
            intensity=IntensityConfig(per_scan=True),
            labels=self._workshop.class_map.label_set,
            network=student.network,
        )
        return Segmenter(card, run_in_memory(student, card, threads))

    def temperature(self, segmenter: Segmenter, frames: FrameStore, labels: LabelStore) -> float:
        """Calibrate on buildings that were kept from training, as a model is before it is shipped."""
        return honest_temperature(logits_of(segmenter), frames, frames.numbers("val"), labels)

    def evaluate(self, segmenter: Segmenter, rig: str, against: Labels | None = None, temperature: float | None = None) -> Evaluation:
        """Evaluate on the validation buildings: against the true labels, and against others where given."""
        return self.evaluate_some(logits_of(segmenter), rig, self._workshop.frames(rig, "val").numbers(), against, temperature)

    def evaluate_frames(self, ask: Callable[[Frame], tuple[NetInput, np.ndarray]], rig: str) -> Evaluation:
        """Evaluate what reads more of a frame than its scan; `ask` gives the network's input and its logits."""
        shown: list[Frame] = []

        def ask_shown(*_scan: np.ndarray | None) -> ScanLogits:
            net_input, logits = ask(shown.pop())
            return ScanLogits(logits, net_input.undo)

        return self.evaluate_some(ask_shown, rig, self._workshop.frames(rig, "val").numbers(), before=shown.append)

    def evaluate_some(
        self,
        ask: LogitsOf,
        rig: str,
        numbers: np.ndarray,
        against: Labels | None = None,
        temperature: float | None = None,
        before: Callable[[Frame], None] | None = None,
    ) -> Evaluation:
        """Evaluate on some frames of the validation buildings; `before` is called with each of them first."""
        workshop = self._workshop
        frames = workshop.frames(rig, "val")
        with workshop.progress.step(f"evaluating on {rig}") as report:
            return evaluate_frames(
                ask,
                frames,
                numbers,
                against,
                workshop.class_map.label_set,
                report,
                temperature=temperature,
                class_hash=workshop.class_map.hash,
                model="study",
                before=before,
            )

    def outcome(self, evaluation: Evaluation, teacher: str, metrics: dict[str, Any]) -> Outcome:
        """Join what identifies the inputs with the figures."""
        return Outcome(
            evaluation.class_hash, {"frames": evaluation.frames_hash, "teacher": self._workshop.teacher(teacher).fingerprint[:16]}, metrics
        )

    def clear(self) -> None:
        """Delete checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)


def reduced(evaluation: Evaluation) -> dict[str, Any]:
    """Keep of an evaluation: scores by split and range, IoU per class over all points, calibration, the teacher beside the student."""
    summary = evaluation.summary()
    kept: dict[str, Any] = {"scans": summary["scans"]}
    for kind in ("real", "pseudo"):
        if kind not in summary:
            continue
        rows = {heading: row for heading, row in summary[kind].items() if isinstance(row, dict) and not heading.startswith("rig ")}
        kept[kind] = {heading: _short(row) for heading, row in rows.items()}
        kept[kind]["all points"]["iou"] = rows["all points"]["iou"]
        kept[kind]["ece"], kept[kind]["ece_unscaled"] = (_share(summary[kind][name]) for name in ("ece", "ece_unscaled"))
    if "teacher" in summary:
        kept["teacher"] = {who: _short(row) for who, row in summary["teacher"].items()}
    return kept


def _short(row: dict[str, Any]) -> dict[str, Any]:
    short = {name: row[name] for name in ("points", "miou", "macc", "oacc")}
    return {**short, "struct4_miou": row["struct4"]["miou"]} if "struct4" in row else short


def _share(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
