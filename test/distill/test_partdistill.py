"""PartDistill on a handful of rooms: members stay with their points, false units are found out, a killed run goes on alike."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from rooms import RIGS, STUDENT, Rooms, Surfaces, surface

from xkd_ros.core.card import NetworkConfig
from xkd_ros.core.errors import ConfigError, XkdError
from xkd_ros.distill.backbone import Backbone
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.methods import train_student
from xkd_ros.distill.partdistill.adaptation import AdaptConfig, adapt_student, mean_agreement
from xkd_ros.distill.partdistill.config import PartDistillConfig, RescoringConfig
from xkd_ros.distill.partdistill.judge import agreement, weigh
from xkd_ros.distill.partdistill.unit_report import load_unit_scores
from xkd_ros.distill.partdistill.unit_samples import UnitSamples, collate_units, count_units
from xkd_ros.distill.partdistill.units import FrameUnits, Origin, Unit
from xkd_ros.distill.student_input import InputConfig, StudentInput
from xkd_ros.metrics.separation import roc_auc
from xkd_ros.metrics.unit_quality import load_unit_report
from xkd_ros.nets.batch import collate
from xkd_ros.nets.student import Student
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.train.engine import make_fabric

FRAMES = Rooms(points=400)
UNITS = Surfaces(FRAMES)
TRAIN = FRAMES.numbers("train")
START = Backbone.untrained(NetworkConfig(depth=2, width=16), STUDENT, 0)
STILL = {"robust": {"big_tilt": 0, "thin": 0, "sector": 0, "shorten": 0}}
COMMON: dict[str, Any] = {
    "method": "partdistill", "batch": 4, "precision": "32-true", "tensorboard": False, "average_decay": 0.9, "steps": 60, "lr": 1e-2,
    "drop_path": 0.0, "input": STILL,
}  # fmt: skip


class TrueLabels:
    """The surfaces."""

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        frame = FRAMES.scan(number)
        labels = surface(frame.points_m @ frame.levelled_from_lidar.T)
        return labels, np.ones(len(labels), np.float32)


pytestmark = pytest.mark.usefixtures("one_thread")


def lesson(**changes: Any) -> Lesson:
    return replace(Lesson(FRAMES, TrueLabels(), 3, START, units=UNITS), **changes)


def train(folder: Path, given: Lesson | None = None, losses: list[float] | None = None, **changes: Any) -> Student:
    config = PartDistillConfig(**{**COMMON, **changes})
    found = [] if losses is None else losses
    return train_student(given or lesson(), config, folder, make_fabric("32-true"), lambda *facts: found.append(facts[2]["loss"]))


def accuracy(student: Student) -> float:
    """Share of right points of a validation room."""
    frame = FRAMES.scan(9)
    item = Preprocessor(STUDENT.geometry, RIGS["dim"])(frame.points_m, frame.intensity, frame.levelled_from_lidar)
    with torch.no_grad():
        best = student.on(collate([item])).argmax(1).numpy()
    return float((best == surface(frame.points_m @ frame.levelled_from_lidar.T)[item.kept]).mean())


@pytest.mark.parametrize("augmentation", ["robust", "paper"])
def test_members_stay_with_their_points(augmentation) -> None:
    student_input = StudentInput(InputConfig(augmentation=augmentation, max_points=200), STUDENT, RIGS)
    count = count_units(UNITS, TRAIN, 3)
    samples = UnitSamples(FRAMES, UNITS, count, student_input, 0, TrueLabels(), TRAIN)
    items = [samples(number) for number in range(12)]
    for item in items:
        frame = int(TRAIN[np.flatnonzero(count.first[:-1] == item.number[0])[-1]])
        wrong = np.array([UNITS.false(frame, unit) for unit in range(len(item.label))])
        agrees = item.labels[item.point] == item.label[item.unit]
        assert len(agrees) > 20 and np.array_equal(agrees, ~wrong[item.unit])
        sure = UNITS[frame].confidence
        assert set(item.confidence) <= set(sure) and len(set(zip(item.point, item.unit))) == len(item.point)
    batch = collate_units(items)
    assert torch.equal(batch.labels[batch.point] == batch.label[batch.unit], torch.tensor(np.concatenate(
        [item.labels[item.point] == item.label[item.unit] for item in items]
    )))  # fmt: skip
    assert torch.equal(batch.number, torch.from_numpy(np.concatenate([item.number for item in items])))


def test_confidences_stay_with_their_points() -> None:
    class Telling(Surfaces):
        """The confidence of a member names the surface that it lies on."""

        def __getitem__(self, number: int) -> FrameUnits:
            found = super().__getitem__(number)
            return replace(found, confidence=_named(TrueLabels()[number][0][found.point]))

    units = Telling(FRAMES)
    student_input = StudentInput(InputConfig(augmentation="robust", max_points=200), STUDENT, RIGS)
    samples = UnitSamples(FRAMES, units, count_units(units, TRAIN, 3), student_input, 0, TrueLabels(), TRAIN)
    for item in map(samples, range(4)):
        np.testing.assert_array_equal(item.confidence, _named(item.labels[item.point]))


def _named(labels: np.ndarray) -> np.ndarray:
    return (0.5 + 0.125 * labels).astype(np.float32)


def test_units_are_counted_by_class() -> None:
    count = count_units(UNITS, TRAIN, 3)
    members = np.zeros(3)
    for number in TRAIN:
        units = UNITS[number]
        for unit in range(len(units)):
            members[units.label[unit]] += len(units.point[units.start[unit] : units.start[unit + 1]])
    assert np.array_equal(count.members, members) and count.units == sum(len(UNITS[number]) for number in TRAIN)
    assert count.span(2) == slice(len(UNITS[0]) + len(UNITS[1]), len(UNITS[0]) + len(UNITS[1]) + len(UNITS[2]))


def test_agreement_is_the_share_of_points_that_say_the_same_or_probability_beside_the_most_probable_class() -> None:
    units, rng = UNITS[1], np.random.default_rng(0)
    logits, undo = rng.normal(size=(50, 3)).astype(np.float32), rng.integers(-1, 50, 400)
    share, mean = agreement(units, logits, undo, "argmax"), agreement(units, logits, undo, "probability")
    for unit, label in enumerate(units.label):
        points = units.point[units.start[unit] : units.start[unit + 1]]
        said = [undo[point] >= 0 and int(logits[undo[point]].argmax()) == label for point in points]
        sure = [torch.from_numpy(logits[undo[point]]).softmax(0) for point in points if undo[point] >= 0]
        mean_sure = torch.stack(sure).mean(0) if sure else torch.ones(3)
        assert share[unit] == pytest.approx(np.mean(said) if said else 0, abs=1e-6)
        assert mean[unit] == pytest.approx(float(mean_sure[label] / mean_sure.max()) if sure else 0, abs=1e-5)


def test_what_a_unit_counts_follows_from_agreement() -> None:
    score = np.array([0.9, 0.45, 0.09, 0.02, 0.3, 0.15, 0.01, 0.3, 0.3], np.float32)
    label = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    published = weigh(score, label, RescoringConfig(agreement="argmax", drop=0.05, floor=0.1))
    assert published.tolist() == pytest.approx([0.9, 0.45, 0.1, 0, 0.3, 0.15, 0, 0.3, 0.3])
    within = weigh(score, label, RescoringConfig(drop=0.1, floor=0.2))
    first = np.quantile(score[:4], 0.75)
    assert within.tolist() == pytest.approx([1, min(1, 0.45 / first), 0.2, 0, 1, 0.5, 0, 1, 1])
    assert weigh(np.zeros(3, np.float32), np.zeros(3, int), RescoringConfig(drop=0.0, floor=0.0)).tolist() == [0, 0, 0]
    # A class that the student nowhere finds a quarter as probable as another: what it claims is false, or not yet known.
    faint = weigh(np.array([0.02, 0.1, 0.05], np.float32), np.zeros(3, int), RescoringConfig(drop=0.1, floor=0.2))
    assert faint.tolist() == pytest.approx([0, 0.4, 0.2])


@pytest.mark.parametrize(("form", "kind"), [("unit", "probability"), ("point", "argmax")])
def test_false_units_are_found_out(form, kind, tmp_path) -> None:
    student = train(tmp_path, form=form, balance="effective", backward={"latest": 0.5, "agreement": kind})
    assert accuracy(student) > 0.8
    rows = load_unit_scores(tmp_path)
    false = np.array([UNITS.false(int(row["frame"]), int(row["unit"])) for row in rows])
    sizes = np.concatenate([UNITS[number].sizes for number in TRAIN])
    assert len(rows) == sum(len(UNITS[number]) for number in TRAIN) and roc_auc(rows["score"][sizes > 0], ~false[sizes > 0]) > 0.9
    assert rows["weight"][~false].mean() > 2 * rows["weight"][false].mean()
    report = load_unit_report(tmp_path)
    assert set(report.origins) == {"pixels", "box"}  # `Surfaces` marks false ones as boxes
    assert max(row.score for row in report.origins["box"]) < min(row.score for row in report.origins["pixels"])
    assert sum(row.units for kind in report.origins.values() for row in kind) == len(rows)
    assert sum(row.points for kind in report.origins.values() for row in kind) == sizes.sum()
    assert report.lines(("floor", "ceiling", "wall"))[0].startswith("pixels: floor: ")


def test_forward_alone_leaves_no_scores(tmp_path) -> None:
    train(tmp_path, backward=None, steps=4)
    with pytest.raises(XkdError, match="was not trained by partdistill with backward scoring"):
        load_unit_report(tmp_path)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path) -> None:
    setting = {"steps": 24, "save_every": 5, "backward": {"latest": 0.4, "every_epochs": 1}}
    whole, part = [], []
    train(tmp_path / "whole", losses=whole, **setting)

    class Killed(Exception):
        pass

    def kill(done: int, total: int, facts: dict[str, float]) -> None:
        part.append(facts["loss"])
        if done == 17:  # judged at step 10 and after; last saved at 15
            raise Killed

    config, given = PartDistillConfig(**{**COMMON, **setting}), lesson()
    with pytest.raises(Killed):
        train_student(given, config, tmp_path / "cut", make_fabric("32-true"), kill)
    again: list[float] = []
    train(tmp_path / "cut", losses=again, **setting)
    assert part == whole[:17] and again == whole[15:]
    assert np.array_equal(load_unit_scores(tmp_path / "cut"), load_unit_scores(tmp_path / "whole"))


def test_labels_and_simulated_scans_are_learnt_from(tmp_path) -> None:
    """Units that are all wrong, but labels of some frames, or labelled scans from elsewhere, that are right."""

    class Wrong:
        def __getitem__(self, number: int) -> FrameUnits:
            units = UNITS[number]
            return replace(units, label=np.zeros_like(units.label), confidence=np.full_like(units.confidence, 1e-3))

    blind = lesson(units=Wrong(), generated=(FRAMES, TrueLabels()))
    wide = {"backward": None, "label_weight": 1.0}
    assert accuracy(train(tmp_path / "nothing", blind, **wide, generated_share=0.0)) < 0.6
    assert accuracy(train(tmp_path / "few", blind, **wide, generated_share=0.0, label_share=0.5)) > 0.8
    assert accuracy(train(tmp_path / "one", replace(blind, labelled=TRAIN[2:3]), **wide, generated_share=0.0)) > 0.8
    assert accuracy(train(tmp_path / "generated", blind, **wide)) > 0.8


def test_what_does_not_fit_is_said_before_training(tmp_path) -> None:
    with pytest.raises(ConfigError, match="partdistill learns from units"):
        train(tmp_path, lesson(units=None))
    with pytest.raises(ConfigError, match="claims class 2, the student has 2"):
        train(tmp_path, lesson(classes=2))

    class Strange:
        def __init__(self, units: FrameUnits) -> None:
            self.units = units

        def __getitem__(self, number: int) -> FrameUnits:
            return self.units

    with pytest.raises(ConfigError, match="8 training frames hold not one unit"):
        train(tmp_path, lesson(units=Strange(FrameUnits.of([]))))
    beyond = FrameUnits.of([Unit(0, 1.0, Origin.BOX, 0, np.array([3, 400]), np.ones(2))])
    with pytest.raises(XkdError, match=r"has (400|9) points and its units name point 400"):
        train(tmp_path, lesson(units=Strange(beyond)))
    for wrong, message in (({"pixels": None}, "no units"), ({"group_weight": 0.5}, "group_weight")):
        with pytest.raises(ValidationError, match=message):
            PartDistillConfig(method="partdistill", **wrong)
    few, many = (PartDistillConfig(method="partdistill", label_share=share) for share in (0.01, 0.0))
    assert few.epochs == many.epochs == 25


def mislead(student: Student) -> Student:
    """Spoil the head: what it called a floor it calls a ceiling, mostly."""
    spoilt = copy.deepcopy(student)
    with torch.no_grad():
        spoilt.head.weight[1] += 1.2 * (spoilt.head.weight[0] - spoilt.head.weight[1])
        spoilt.head.bias[1] = spoilt.head.bias[0] + 0.5
    return spoilt


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Student:
    return train(tmp_path_factory.mktemp("finished"))


ADAPT = {**COMMON, "lr": 5e-2, "steps": 30}


@pytest.mark.parametrize("norms", [False, True])
def test_adaptation_repairs_a_head_and_leaves_the_backbone_alone(finished, norms, tmp_path) -> None:
    spoilt = mislead(finished)
    before = copy.deepcopy(spoilt.state_dict())
    adapted = adapt_student(spoilt, FRAMES, UNITS, TRAIN, STUDENT, AdaptConfig(**ADAPT, norms=norms), tmp_path, make_fabric("32-true"))
    assert adapted.kept and adapted.after > adapted.before + 0.1 and "kept" in adapted.line and adapted.frames == 6
    assert accuracy(adapted.student) > accuracy(spoilt) + 0.1
    assert all(torch.equal(value, before[name]) for name, value in spoilt.state_dict().items())
    changed = {name for name, value in adapted.student.state_dict().items() if not torch.equal(value, before[name])}
    assert {"head.weight", "head.bias"} <= changed
    assert all("head" in name or ((norms and "embedding" in name and "running" in name) or "tracked" in name) for name in changed)
    assert any("running" in name for name in changed) == norms


@pytest.mark.parametrize("name", ["generated_share", "layer_decay", "label_weight"])
def test_settings_of_training_are_refused_in_adaptation(name: str) -> None:
    usual = AdaptConfig()
    assert AdaptConfig.model_validate(usual.model_dump()) == usual
    with pytest.raises(ValidationError, match="recipe"):
        AdaptConfig.model_validate({"recipe": ["indoor"]})
    with pytest.raises(ValidationError, match=f"{name} does nothing in adaptation"):
        AdaptConfig.model_validate({name: 0.125})


def test_adaptation_that_does_not_help_is_rolled_back(finished, tmp_path) -> None:
    """The first frames' units all say floor; those held out are right."""

    class Misleading:
        def __getitem__(self, number: int) -> FrameUnits:
            units = UNITS[number]
            return units if number >= 6 else replace(units, label=np.zeros_like(units.label))

    config = AdaptConfig(**ADAPT, backward=None, balance="effective")
    result = adapt_student(finished, FRAMES, Misleading(), TRAIN, STUDENT, config, tmp_path, make_fabric("32-true"))
    assert not result.kept and result.after < result.before and "rolled back" in result.line
    assert accuracy(result.student) == accuracy(finished)


def test_agreement_is_a_mean_over_classes() -> None:
    count = count_units(UNITS, TRAIN, 4)
    scores = np.random.default_rng(0).random(count.units).astype(np.float32)
    agreed, claimed = np.zeros(4), np.zeros(4)
    for number in TRAIN:
        for unit, (label, size) in enumerate(zip(UNITS[number].label, UNITS[number].sizes)):
            agreed[label] += scores[count.span(number)][unit] * size
            claimed[label] += size
    assert mean_agreement(scores, UNITS, count) == pytest.approx((agreed[:3] / claimed[:3]).mean())
    with pytest.raises(ConfigError, match="3 frames are too few"):
        adapt_student(Student(NetworkConfig(depth=1, width=8, classes=3)), FRAMES, UNITS, TRAIN[:3], STUDENT, AdaptConfig(), Path(), None)
