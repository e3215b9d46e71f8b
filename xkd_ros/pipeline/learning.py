"""The stages of learning from bags without a label: what each one reads, does and leaves in the run folder.

bags → frames → targets → distill → pseudo → probe → finetune → evaluation. Each method is one stage; `learn.py` decides which run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_fabric import Fabric

from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.bags.frame_writer import write_frames
from xkd_ros.core.card import CARD_NAME, IntensityConfig, ModelCard
from xkd_ros.core.errors import ConfigError, MissingPackageError
from xkd_ros.core.files import sha256
from xkd_ros.core.labels import INDOOR12, INDOOR12_TO_STRUCT4
from xkd_ros.core.progress import Report
from xkd_ros.distill.backbone import Backbone, load_backbone
from xkd_ros.distill.distillation import run_distil
from xkd_ros.distill.given_labels import GivenLabels
from xkd_ros.distill.label_score import score_against_truth
from xkd_ros.distill.label_store import LabelStore
from xkd_ros.distill.labelled_frames import Labels
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.methods import FINETUNE, train_student
from xkd_ros.distill.partdistill.config import PartDistillConfig
from xkd_ros.distill.probe import run_probe
from xkd_ros.distill.pseudo_labels import write_pseudo_labels
from xkd_ros.evaluate.evaluation import EVALUATION_NAME
from xkd_ros.evaluate.frame_evaluation import evaluate_frames
from xkd_ros.evaluate.report import write_report
from xkd_ros.evaluate.scan_logits import logits_of
from xkd_ros.evaluate.scan_sample import write_evaluation
from xkd_ros.metrics.unit_quality import REPORT_NAME as UNIT_REPORT_NAME
from xkd_ros.metrics.unit_quality import load_unit_report
from xkd_ros.nets.checkpoint import load_foreign, load_student, save_student
from xkd_ros.nets.student import Student
from xkd_ros.pipeline.calibration import divide_frames, honest_temperature
from xkd_ros.pipeline.learn_config import LearnConfig
from xkd_ros.pipeline.progress import console
from xkd_ros.pipeline.report import REPORT_NAME
from xkd_ros.pipeline.unit_stage import make_units, open_generated
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.runtime.torch_backend import run_in_memory
from xkd_ros.teacher.class_map import ClassMap, load_class_map
from xkd_ros.teacher.live_targets import LiveTargets
from xkd_ros.teacher.model_folder import find_teacher
from xkd_ros.teacher.target_store import TargetStore
from xkd_ros.teacher.target_writer import write_targets
from xkd_ros.teacher.teacher import Teacher, load_teacher

if TYPE_CHECKING:
    from xkd_ros.bags.frame import Frame

_METHODS = {"pseudo": "label-free distillation", "given": "given labels", "both": "given labels and label-free distillation"}

SHOWN = "shown"
"""Key of the lines of a stage's facts that are printed and not kept."""

Result = tuple[str, dict[str, Any]]
"""Hash of what a stage made, and figures for people."""


@dataclass(frozen=True)
class Sources:
    """What a run learns from.

    Attributes:
        bags: Recordings.
        rigs: Rig files for what recordings lack.
        labels: Folder of real labels; for evaluation only.
    """

    bags: tuple[Path, ...]
    rigs: tuple[Path, ...] = ()
    labels: Path | None = None


class Learning:
    """The stages over one run folder."""

    def __init__(self, config: LearnConfig, sources: Sources, work: Path, fabric: Fabric) -> None:
        self.config, self.sources, self.work, self.fabric = config, sources, work, fabric
        self.class_map: ClassMap = load_class_map(config.classes)

    # --- what earlier stages left --------------------------------------------------------------------------------------

    def open_frames(self) -> FrameStore:
        """Open the frame store."""
        return FrameStore(self.work / "frames")

    def open_targets(self, frames: FrameStore) -> TargetStore | LiveTargets:
        """Open the teacher's answers, or get ready to ask it."""
        if self.config.cache:
            return TargetStore(self.work / "targets", frames)
        return LiveTargets(frames, self._load_teachers(), self.config.targets)

    def open_labels(self, frames: FrameStore) -> LabelStore:
        """Open the pseudo-labels."""
        return LabelStore(self.work / "pseudo", frames.hash)

    # --- stages --------------------------------------------------------------------------------------------------------

    def frames(self, progress: Report) -> Result:
        """Pair scans and images of all bags, split them, and store them for random access."""
        rigs, sources = list(self.sources.rigs), self.sources
        folder = self.work / "frames"
        store = write_frames(sources.bags, folder, self.config.frames, rigs or None, sources.labels, progress, _print_lines)
        if self.config.labels == "given":
            GivenLabels(store, self.class_map.label_set).numbers("train")  # an error now, not after hours of distillation
        manifest = store.manifest
        facts = {split: manifest.count(split) for split in ("train", "val", "test")}
        return store.hash, {
            **facts,
            "rigs": sorted(manifest.rigs),
            "notes": [*manifest.notes, *(n for s in manifest.sources for n in s.notes)],
            SHOWN: [f"{source.name}: {count} left out, {why}" for source in manifest.sources for why, count in source.skipped.items()],
        }

    def targets(self, progress: Report) -> Result:
        """Ask the image teacher about every point that a camera sees."""
        frames, teachers = self.open_frames(), self._load_teachers()
        if not self.config.cache:
            live = LiveTargets(frames, teachers, self.config.targets)
            return live.hash, {"teachers": [teacher.name for teacher in teachers], "cached": False}
        rank, world = self.fabric.global_rank, self.fabric.world_size
        store = write_targets(frames, teachers, self.work / "targets", self.config.targets, progress, rank, world)
        return store.hash, {"teachers": [teacher.name for teacher in teachers], "points": store.manifest.points, "cached": True}

    def distill(self, progress: Report) -> Result:
        """Teach the student to say at each point what the teacher says at its pixel."""
        frames, config = self.open_frames(), self.config
        network = config.network.model_copy(update={"classes": len(self.class_map.label_set)})
        if config.start is not None:
            return self._take_backbone(config.start), {"start": str(config.start)}
        stage, folder = config.loaded(config.distill), self.work / "distill"
        backbone = run_distil(frames, self.open_targets(frames), network, config.student, stage, folder, self.fabric, progress)
        return backbone.card.sha256, {}

    def pseudo(self, progress: Report) -> Result:
        """Turn the teacher's scores into labels that can be trusted."""
        frames = self.open_frames()
        store = write_pseudo_labels(frames, self.open_targets(frames), self.work / "pseudo", self.config.pseudo, progress)
        facts: dict[str, Any] = {SHOWN: store.statistics("train").lines()}
        if any(source.truth_frames for source in frames.manifest.sources):
            try:
                facts["against real labels"] = score_against_truth(frames, store).summary()
            except ConfigError as error:  # real labels of other classes are no reason to lose the pseudo-labels
                facts[SHOWN] += [f"not compared with real labels: {error}"]
        return store.hash, facts

    def probe(self, progress: Report) -> Result:
        """Train a linear classifier on the frozen student: how much distillation taught."""
        student = run_probe(self._lesson(), self.config.probe, self.work / "probe", self.fabric, progress)
        return self._keep(student, "probe", {"method": "linear probe", **self.config.probe.model_dump(mode="json")}), {}

    def finetune(self, progress: Report) -> Result:
        """Train all of the student, by the method that the configuration names."""
        config, folder = self.config.finetune, self.work / "finetune"
        lesson = self._lesson(config.method != FINETUNE)
        if isinstance(config, PartDistillConfig):
            lesson = self._with_units(lesson, config, folder / "units", progress)
        student = train_student(lesson, self.config.loaded(config), folder, self.fabric, progress)
        shown = load_unit_report(folder).lines(self.class_map.label_set.names) if (folder / UNIT_REPORT_NAME).is_file() else []
        recipe = {"method": _METHODS[self.config.labels], **self.config.model_dump(mode="json")}
        return self._keep(student, "finetune", recipe), {SHOWN: shown}

    def evaluation(self, progress: Report) -> Result:
        """Calibrate on validation frames, score on test frames or what there is instead, draw the report."""
        frames = self.open_frames()
        labels, folder = self.open_labels(frames), self.work / "evaluation"
        student, card = load_student(self.work / "finetune")
        segmenter = Segmenter(card, run_in_memory(student, card))
        ask = logits_of(segmenter)

        def per_rig(frame: Frame) -> None:
            segmenter.intensity = self._intensity(frames, frame.rig)

        fitted, scored = divide_frames(frames)
        temperature = honest_temperature(ask, frames, fitted, labels, per_rig)
        evaluation = evaluate_frames(
            ask,
            frames,
            scored,
            labels,
            card.labels,
            progress,
            temperature=temperature,
            class_hash=self.class_map.hash,
            model=self.work.name,
            model_hash=card.hash,
            before=per_rig,
        )
        write_evaluation(folder, evaluation, ask, frames, labels, before=per_rig)
        facts, shown = evaluation.summary(), [f"measured {evaluation.where}"]
        try:
            write_report(self.work, self.work / REPORT_NAME)
            shown.append(f"report: {self.work / REPORT_NAME}")
        except MissingPackageError as error:  # a training server may lack matplotlib; the model comes out all the same
            shown.append(f"no report: {error}; then `xkd report {self.work}`")
        for kind, words in (("real", "true labels"), ("pseudo", "the teacher's labels")):
            if kind in facts:
                scores = [f"{name} {_shown(facts[kind][name]['miou'])}" for name in ("all points", "in view", "out of view")]
                shown.append(f"mIoU against {words}: {', '.join(scores)}; ECE {100 * facts[kind]['ece']:.1f} %")
        return sha256(folder / EVALUATION_NAME), {SHOWN: shown, "temperature": temperature, **facts}

    # --- parts ---------------------------------------------------------------------------------------------------------

    def _take_backbone(self, model: Path) -> str:
        """Take the backbone of a model, or of a checkpoint of the public code, instead of distilling one; every process returns its hash.

        Raises:
            ConfigError: the model is of another network or reads scans in another way.
            ModelError: the checkpoint is of another network, or none.
        """
        if model.is_file():
            student = load_foreign(model, self.config.network)
            recipe: dict[str, Any] = {"method": "start", "checkpoint": model.name, "sha256": sha256(model)}
        else:
            student, card = load_student(model)
            sizes = self.config.network.model_copy(update={"classes": card.network.classes})
            if card.network != sizes or card.geometry != self.config.student.geometry:
                asked = f"{sizes} {self.config.student.geometry}"
                raise ConfigError(f"{model} has {card.network} {card.geometry}, the configuration asks for {asked}; set it to the model's")
            recipe = {"method": "start", "model": card.name, "model_hash": card.hash, "earlier": card.recipe}
        if self.fabric.is_global_zero:
            Backbone.of(student.backbone, student.network, self.config.student, recipe).save(self.work / "distill")
        self.fabric.barrier()
        return load_backbone(self.work / "distill").card.sha256

    def _lesson(self, images: bool = False) -> Lesson:
        """Lay out what the student learns from, the teacher's answers with `images`; groups of classes are known for indoor-12 alone."""
        frames, names = self.open_frames(), self.class_map.label_set
        groups = INDOOR12_TO_STRUCT4[: len(INDOOR12)] if names.hash == INDOOR12.hash else None
        labels: Labels = self.open_labels(frames)
        labelled = None
        if self.config.labels != "pseudo":
            labels = given = GivenLabels(frames, names, labels if self.config.labels == "both" else None)
            labelled = given.numbers("train") if self.config.labels == "given" else None
        targets = self.open_targets(frames) if images else None
        looks = "" if targets is None else targets.manifest.looks
        backbone, movers = load_backbone(self.work / "distill"), self.config.pseudo.moving(names.names)
        return Lesson(frames, labels, len(names), backbone, targets, groups, looks, labelled=labelled, movers=movers)

    def _with_units(self, lesson: Lesson, config: PartDistillConfig, folder: Path, progress: Report) -> Lesson:
        """Add the units of the training frames, and simulated frames where they are asked for."""
        frames, seen, device = self.open_frames(), self.config.targets, str(self.fabric.device)
        first = self.fabric.is_global_zero
        units = make_units(config, frames, self._load_teachers, self.class_map, seen, folder, device, first, progress)
        generated = open_generated(config.generated, self.class_map, folder.with_name("generated"), first, progress)
        return replace(lesson, units=units, generated=generated)

    def _intensity(self, frames: FrameStore, rig: str) -> IntensityConfig:
        return self.config.student.statistics(rig, frames.manifest.intensity)

    def _load_teachers(self) -> list[Teacher]:
        device = str(self.fabric.device)
        return [load_teacher(find_teacher(spec), self.class_map, device, self.config.looks) for spec in self.config.teachers]

    def _keep(self, student: Student, stage: str, recipe: dict[str, Any]) -> str:
        """Write a student with its card; every process returns the same hash."""
        folder = self.work / stage
        if self.fabric.is_global_zero:
            frames = self.open_frames()
            manifest = frames.manifest
            counts = {name: sum(s.frames for s in manifest.sources if s.rig == name) for name in manifest.rigs}
            save_student(
                student,
                ModelCard(
                    name=stage,
                    geometry=self.config.student.geometry,
                    intensity=self._intensity(frames, max(counts, key=lambda name: counts[name])),
                    labels=self.class_map.label_set,
                    network=student.network,
                    recipe={**recipe, "class_map": self.class_map.name, "class_hash": self.class_map.hash},
                    sources=[f"{s.bag} (sha256 {s.sha256[:16]}): {s.frames} frames of rig {s.rig}" for s in manifest.sources],
                    licence="the terms of the recordings and of the teacher apply",
                ),
                folder,
            )
        self.fabric.barrier()
        return sha256(folder / CARD_NAME)


def _print_lines(lines: list[str]) -> None:
    console.print("\n".join(lines), highlight=False)


def _shown(value: float | None) -> str:
    return "-" if value is None else str(value)
