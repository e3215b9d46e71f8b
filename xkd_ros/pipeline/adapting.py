"""`xkd adapt`: a finished model and recordings of a new place → the model adapted to it, if that agrees better with its images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.bags.frame_writer import write_frames
from xkd_ros.core.card import ModelCard, check_model_name, load_card
from xkd_ros.core.config import change, validate
from xkd_ros.core.errors import ConfigError
from xkd_ros.distill.partdistill.adaptation import Adaptation, AdaptConfig, adapt_student
from xkd_ros.distill.partdistill.unit_makers import make_makers, units_of
from xkd_ros.distill.partdistill.units import FrameUnits
from xkd_ros.distill.student_input import StudentConfig
from xkd_ros.export.onnx_export import export_onnx
from xkd_ros.nets.checkpoint import load_student, save_student
from xkd_ros.nets.student import Student
from xkd_ros.pipeline.learn_progress import LearnProgress
from xkd_ros.pipeline.model_page import write_model_page
from xkd_ros.pipeline.run_folder import claim_folder
from xkd_ros.teacher.class_map import load_class_map
from xkd_ros.teacher.config import TargetConfig, TeacherConfig
from xkd_ros.teacher.model_folder import DEFAULT_TEACHER, find_teacher
from xkd_ros.teacher.teacher import load_teacher
from xkd_ros.train.engine import make_fabric

STEPS = ("frames", "units", "adapt", "export")


class AdaptRunConfig(BaseModel):
    """One run of `xkd adapt`; every key can be changed by `--set key=value`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: str = Field("indoor12", description="class map of the model")
    teacher: str = Field(DEFAULT_TEACHER, description="image model that names classes")
    minutes: float = Field(3.0, gt=0, description="of each recording, from its beginning")
    most_frames: int = Field(200, ge=4, description="evenly spaced in those minutes")
    frames: FrameConfig = FrameConfig(split="bag", shares=(1.0, 0.0, 0.0))
    looks: TeacherConfig = TeacherConfig()
    targets: TargetConfig = TargetConfig()
    adapt: AdaptConfig = AdaptConfig()


class _Claim(BaseModel):
    """What a work folder was begun with."""

    config: AdaptRunConfig
    model: str
    bags: tuple[str, ...]
    rigs: tuple[str, ...]


def adapt_model(
    model: Path,
    bags: Sequence[Path],
    out: Path,
    work: Path,
    rigs: Sequence[Path] = (),
    changes: Sequence[str] = (),
    progress_file: Path | None = None,
) -> Adaptation:
    """Adapt and print the agreement before and after; nothing is written where the adaptation is rolled back.

    Args:
        model: Model folder.
        bags: Recordings of the new place, with its camera.
        out: Model folder to write.
        work: Frames and checkpoint; the same command goes on where it stopped.
        rigs: Rig files for what recordings lack.
        changes: `key=value` lines over the settings.
        progress_file: Lines of JSON for whoever watches; see `LearnProgress`.
    Raises:
        ConfigError: the folder to write is the model's own, the model's classes are not those of the class map, or too few frames.
        XkdError: whatever else does not fit, in one line.
    """
    config = validate(change({}, changes), AdaptRunConfig, "--set")
    check_model_name(out)
    if out.resolve() == model.resolve():
        raise ConfigError(f"{out} is the model that is adapted, and stays as it is; give another folder for the adapted one")
    student, card = load_student(model)
    class_map = load_class_map(config.classes)
    if class_map.label_set.hash != card.labels.hash:
        raise ConfigError(
            f"{model} names {', '.join(card.labels.names[:4])} ..., the class map {config.classes} "
            f"{', '.join(class_map.label_set.names[:4])} ...: give the model's with --set classes=NAME"
        )
    names = tuple(tuple(str(path) for path in paths) for paths in (bags, rigs))
    claim_folder(work, _Claim(config=config, model=card.hash, bags=names[0], rigs=names[1]))
    fabric = make_fabric(config.adapt.precision)
    fabric.launch()
    teachers = [load_teacher(find_teacher(config.teacher), class_map, str(fabric.device), config.looks)]
    makers = make_makers(config.adapt, teachers, class_map, str(fabric.device))
    reads = StudentConfig(geometry=card.geometry, intensity="per_scan" if card.intensity.per_scan else "per_rig")
    with LearnProgress(len(STEPS), progress_file).shown() as progress:
        progress.start(STEPS[0], 0)
        frames = write_frames(bags, work / "frames", config.frames, list(rigs) or None, progress=progress)
        progress.start(STEPS[1], 1)
        numbers = first_minutes(frames, config.minutes, config.most_frames)
        units: dict[int, FrameUnits] = {}
        for done, number in enumerate(numbers.tolist(), 1):
            units[number] = units_of(frames[number], makers, config.targets)
            progress(done, len(numbers))
        progress.start(STEPS[2], 2)
        result = adapt_student(student, frames, units, numbers, reads, config.adapt, work / "adapt", fabric, progress)
        if result.kept:
            progress.start(STEPS[3], 3)
            _write(result, card, out, f"xkd adapt {model} {' '.join(names[0])} -o {out}", [Path(bag).name for bag in names[0]])
        written = f"the adapted model is in {out}" if result.kept else f"{model} stays as it is, {out} is not written"
        progress.conclude(f"{result.line}; {written}")
    return result


def first_minutes(frames: FrameStore, minutes: float, most: int) -> np.ndarray:
    """Choose frames from the beginning of each recording, evenly spaced, in order of time.

    Args:
        frames: The store.
        minutes: From the first frame of each recording.
        most: Largest number in all.
    Returns:
        (F,) int64 frame numbers.
    """
    entries = frames.manifest.frames
    begins: dict[str, int] = {}
    for entry in entries:
        begins[entry.source] = min(entry.stamp_ns, begins.get(entry.source, entry.stamp_ns))
    early = [n for n, entry in enumerate(entries) if entry.views and entry.stamp_ns - begins[entry.source] <= 60e9 * minutes]
    early.sort(key=lambda number: entries[number].stamp_ns)
    chosen = np.unique(np.linspace(0, len(early) - 1, min(most, len(early))).round().astype(int)) if early else np.zeros(0, int)
    return np.array(early, np.int64)[chosen]


def _write(result: Adaptation, card: ModelCard, out: Path, command: str, sources: list[str]) -> None:
    student: Student = result.student
    recipe = {
        "method": "adaptation of the head to a new place",
        "model": card.name,
        "model_hash": card.hash,
        "agreement_before": result.before,
        "agreement_after": result.after,
        "earlier": card.recipe,
    }
    # Scores were those of the model before.
    metrics = {name: card.metrics[name] for name in ("classes", "entropy") if name in card.metrics}
    changes = {"name": out.name, "files": {}, "recipe": recipe, "metrics": metrics, "sources": [*card.sources, *sources]}
    save_student(student, card.model_copy(update=changes), out)
    export_onnx(out)
    write_model_page(load_card(out), out, command, result.line)
