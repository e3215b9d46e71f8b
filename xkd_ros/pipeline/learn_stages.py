"""The stages of `xkd learn` as a plan: what each one reads, and which settings decide what it makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One row of the plan.

    Attributes:
        name: Of the stage and of its folder.
        reads: Earlier stages whose output it reads.
        settings: Keys of `LearnConfig` that decide its result.
        everywhere: Every process takes part; otherwise the first works and the others wait.
        what: One line for people.
    """

    name: str
    reads: tuple[str, ...]
    settings: tuple[str, ...]
    what: str
    everywhere: bool = False


STAGES = (
    Stage("frames", (), ("frames",), "pair scans and images, split them, store them"),
    Stage("targets", ("frames",), ("classes", "teacher", "label_teacher", "looks", "targets", "cache"), "ask the image teacher", True),
    Stage("distill", ("frames", "targets"), ("network", "student", "distill"), "teach the student what the teacher sees", True),
    Stage("pseudo", ("frames", "targets"), ("pseudo",), "choose the labels that can be trusted"),
    Stage("probe", ("frames", "pseudo", "distill"), ("probe",), "linear classifier on the frozen student", True),
    Stage("finetune", ("frames", "pseudo", "distill"), ("finetune",), "train all of the student on the labels", True),
    Stage("evaluation", ("frames", "pseudo", "finetune"), (), "calibrate, score, draw the report"),
    Stage("export", ("finetune", "evaluation"), (), "write the model folder"),
)
NAMES = tuple(stage.name for stage in STAGES)


def with_readers(stages: Sequence[str]) -> list[str]:
    """Add every stage that reads one of these, directly or not."""
    wanted = set(stages)
    for stage in STAGES:
        if wanted & set(stage.reads):
            wanted.add(stage.name)
    return [name for name in NAMES if name in wanted]


def with_sources(stages: Sequence[str]) -> list[str]:
    """Add every stage that one of these reads, directly or not."""
    wanted = set(stages)
    for stage in reversed(STAGES):
        if stage.name in wanted:
            wanted.update(stage.reads)
    return [name for name in NAMES if name in wanted]
