"""Mixed scans stay consistent, twins are the same points, and training learns from few labels without looking at hidden ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from rooms import RIGS, STUDENT, Labels, Rooms, Targets, surface

from xkd_ros.core.card import NetworkConfig
from xkd_ros.core.errors import ConfigError, ModelError
from xkd_ros.core.se3 import rotation_from_rpy
from xkd_ros.distill.backbone import Backbone
from xkd_ros.distill.ignet.config import FovMixConfig, IgnetConfig, RetrainConfig
from xkd_ros.distill.ignet.guided_scan import GuidedScan, camera_sector, floor_m, fov_mix
from xkd_ros.distill.ignet.samples import IgnetSamples, collate_ignet
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.methods import train_student
from xkd_ros.distill.passes import share_of
from xkd_ros.distill.prediction import WholeFrames
from xkd_ros.distill.retraining.training import BALANCED_NAME, FIRST_NAME
from xkd_ros.nets.checkpoint import read_weights
from xkd_ros.nets.student import Student
from xkd_ros.train.engine import make_fabric

FRAMES = Rooms(points=400)
NETWORK = NetworkConfig(depth=2, width=16)
STILL = {"augmentation": "robust", "robust": {"big_tilt": 0, "thin": 0, "sector": 0, "shorten": 0}}
SMALL: dict[str, Any] = {
    "method": "ignet", "batch": 4, "precision": "32-true", "tensorboard": False, "average_decay": 0.9, "input": STILL, "drop_path": 0.0,
    "contrast_hidden": 16, "bank": 16,
    "retrain": {"least_points": 10},
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


class Few(Labels):
    """One point in ten keeps its label; `lies` replaces those of some frames."""

    def __init__(self, frames: Rooms, lies: tuple[int, ...] = ()) -> None:
        super().__init__(frames)
        self.lies = lies

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        labels, confidence = super().__getitem__(number)
        labels[np.arange(len(labels)) % 10 != 5] = 255
        return (np.zeros_like(labels) if number in self.lies else labels), confidence


def _lesson(labels: Labels | None = None) -> Lesson:
    return Lesson(FRAMES, labels or Few(FRAMES), 3, Backbone.untrained(NETWORK, STUDENT, 0), Targets(FRAMES))


def _scan(seed: int, sector: tuple[float, float], rig: str = "bright", up: float = 0.0) -> GuidedScan:
    """A ring of points at all azimuths; the camera sees those within (middle, half) degrees; features repeat the azimuth."""
    rng = np.random.default_rng(seed)
    azimuth = np.radians(np.arange(0, 360, 0.5))
    radius = rng.uniform(2, 5, len(azimuth))
    points = np.column_stack([radius * np.cos(azimuth), radius * np.sin(azimuth), up + rng.uniform(-1, 1, len(azimuth))])
    away = np.abs((np.degrees(azimuth) - sector[0] + 180) % 360 - 180)
    seen = np.flatnonzero(away <= sector[1])
    features = np.column_stack([np.full(len(seen), seed), seen]).astype(np.float16)
    labels = np.full(len(points), seed, np.uint8)
    ones, view = np.ones(len(points), np.float32), np.zeros(len(seen), np.int64)
    return GuidedScan(rig, points.astype(np.float32), radius.astype(np.float32), labels, ones, seen, features, view)


@pytest.mark.parametrize("middle", [0.0, 90.0, 180.0, -135.0])
def test_the_sector_comes_from_the_second_scan_with_all_that_is_known_of_it(middle: float) -> None:
    first, second = _scan(1, (middle, 40)), _scan(2, (middle, 40), up=0.7)
    mixed = fov_mix(first, second, FovMixConfig(turned=0, guard_deg=3, parallel=False), np.random.default_rng(0))
    azimuth = np.degrees(np.arctan2(mixed.points_m[:, 1], mixed.points_m[:, 0]))
    away = np.abs((azimuth - middle + 180) % 360 - 180)
    assert (mixed.labels == np.where(away < 40, 2, 1)).all()
    assert not ((away > 37.5) & (away < 42.5)).any() and 0.9 * len(first) < len(mixed) < len(first)
    assert len(mixed.seen) == (mixed.labels == 2).sum() and (mixed.features[:, 0] == 2).all()
    original = second.points_m[mixed.features[:, 1].astype(int)]
    assert np.allclose(mixed.points_m[mixed.seen][:, :2], original[:, :2])
    assert mixed.intensity is not None and np.allclose(mixed.intensity[mixed.seen], np.linalg.norm(original[:, :2], axis=1), rtol=1e-5)
    assert floor_m(mixed.points_m[mixed.labels == 2]) == pytest.approx(floor_m(first.points_m), abs=0.15)


def test_a_turned_sector_is_anywhere_and_a_camera_that_sees_all_around_is_no_sector() -> None:
    first, second, config = _scan(1, (0, 30)), _scan(2, (0, 30)), FovMixConfig(turned=1, parallel=False)
    middles = []
    for seed in range(12):
        mixed = fov_mix(first, second, config, np.random.default_rng(seed))
        sector = camera_sector(mixed.points_m[mixed.labels == 2])
        assert sector is not None and np.degrees(sector[1]) == pytest.approx(28, abs=1.5)
        middles.append(np.degrees(sector[0]))
    assert np.ptp(middles) > 90
    assert fov_mix(first, _scan(2, (0, 180)), config, np.random.default_rng(0)) is first
    unseen = second.take(np.setdiff1d(np.arange(len(second)), second.seen))
    assert fov_mix(first, unseen, config, np.random.default_rng(0)) is first


def _room(seed: int, yaw_deg: float) -> GuidedScan:
    """Four walls turned by a yaw; the camera sees what lies within 40 degrees ahead of the sensor."""
    rng = np.random.default_rng(seed)
    along, height, side = rng.uniform(-4, 4, 2000), rng.uniform(-1, 1, 2000), np.where(rng.random(2000) < 0.5, -4.0, 4.0)
    across = rng.random(2000) < 0.5
    points = np.column_stack([np.where(across, side, along), np.where(across, along, side), height])
    points = (points @ rotation_from_rpy(0, 0, np.radians(yaw_deg)).T).astype(np.float32)
    seen = np.flatnonzero(np.abs(np.arctan2(points[:, 1], points[:, 0])) < np.radians(40))
    features = np.ones((len(seen), 2), np.float16)
    labels, ones = np.full(len(points), seed, np.uint8), np.ones(len(points), np.float32)
    return GuidedScan("bright", points, ones, labels, ones, seen, features, np.zeros(len(seen), np.int64))


@pytest.mark.parametrize("turned", [0.0, 1.0])
def test_walls_of_both_scans_are_parallel(turned: float) -> None:
    first, second = _room(1, 10.0), _room(2, 33.0)
    for seed in range(6):
        mixed = fov_mix(first, second, FovMixConfig(turned=turned), np.random.default_rng(seed))
        pasted = mixed.points_m[mixed.labels == 2]
        square = pasted @ rotation_from_rpy(0, 0, np.radians(-10.0)).T
        assert len(pasted) > 100 and np.abs(np.abs(square[:, :2]).max(1) - 4).max() < 0.1
        sector = camera_sector(pasted)
        assert sector is not None
        off = (np.degrees(sector[0]) - (10 - 33) + 45) % 90 - 45
        assert abs(off) < 3 and (turned or abs(np.degrees(sector[0])) < 45)


def test_the_mean_teacher_sees_what_the_students_sensor_lost() -> None:
    lossy = {"augmentation": "robust", "robust": {"thin": 1.0, "sector": 1.0, "shorten": 0}, "max_points": 1000}
    config, frames = IgnetConfig.model_validate({**SMALL, "input": lossy, "mix": {"share": 0.0}}), Rooms(points=900)
    lesson = Lesson(frames, Labels(frames), 3, Backbone.untrained(NETWORK, STUDENT, 0), Targets(frames))
    samples = IgnetSamples(lesson, np.arange(8), np.zeros(0, int), config)
    items = [samples(number) for number in range(12)]
    assert np.mean([len(item.twin) for item in items]) > 1.15 * np.mean([len(item.scan) for item in items])
    assert all((item.match >= 0).mean() > 0.8 for item in items)


def test_both_networks_see_the_same_points() -> None:
    config = IgnetConfig.model_validate({**SMALL, "input": {"augmentation": "paper", "max_points": 250}, "mix": {"share": 1.0}})
    samples = IgnetSamples(_lesson(Labels(FRAMES)), np.arange(8), np.zeros(0, int), config)
    rng = np.random.default_rng(0)
    for number in (0, 1, 2, 5):
        item = samples(number)
        rows = np.flatnonzero(item.match >= 0)
        assert len(rows) > 0.9 * len(item.scan) and len(np.unique(item.match[rows])) == len(rows)
        pairs = rng.choice(rows, (300, 2))
        near, far = item.scan.features[:, 1:4], item.twin.features[:, 1:4]
        ours = np.linalg.norm(near[pairs[:, 0]] - near[pairs[:, 1]], axis=1)
        theirs = np.linalg.norm(far[item.match[pairs[:, 0]]] - far[item.match[pairs[:, 1]]], axis=1)
        ratio = ours[ours > 0.5] / theirs[ours > 0.5]
        assert np.ptp(ratio) < 1e-3
        assert len(item.paired) == len(item.features) and (len(item.paired) == 0 or item.paired.max() < len(item.scan))
    assert np.array_equal(samples(5).features, samples(5).features) and np.array_equal(samples(5).match, samples(5).match)


def test_a_batch_points_into_its_own_scans() -> None:
    config = IgnetConfig.model_validate(SMALL)
    samples = IgnetSamples(_lesson(Labels(FRAMES)), np.arange(4), np.arange(4, 8), config)
    items = [samples(number) for number in range(4)]
    batch = collate_ignet(items)
    start = twin = 0
    for item in items:
        part = batch.match[start : start + len(item.scan)].numpy()
        assert np.array_equal(np.where(part < 0, -1, part - twin), item.match)
        start, twin = start + len(item.scan), twin + len(item.twin)
    assert len(batch.match) == start == len(batch.labels) and int(batch.paired.max()) < start and len(batch.features) == len(batch.paired)


def _accuracy(student: Student) -> float:
    right = []
    ask = WholeFrames(student, STUDENT, RIGS)
    for number in (8, 9):
        frame = FRAMES.scan(number)
        logits, undo = ask(frame)
        assert len(undo) == len(frame.points_m) and (undo >= 0).all()
        right.append(np.mean(logits.argmax(1)[undo] == surface(frame.points_m @ frame.levelled_from_lidar.T)))
    return float(np.mean(right))


def test_it_learns_from_few_labels_goes_on_and_never_sees_hidden_ones(tmp_path: Path) -> None:
    config = IgnetConfig.model_validate({**SMALL, "steps": 40, "lr": 1e-2, "label_share": 0.5})
    fabric, seen = make_fabric("32-true"), []
    student = train_student(_lesson(), config, tmp_path / "a", fabric, lambda *facts: seen.append(facts[:2]))
    steps = [done for done, _ in seen]
    assert sorted(set(steps)) == list(range(1, 81)) and steps == sorted(steps) and {total for _, total in seen} == {80}
    assert steps.count(40) == 1 + len(FRAMES.numbers("train")), "frames are labelled between the trainings"
    first = read_weights(tmp_path / "a" / FIRST_NAME, student.network)
    assert _accuracy(first) > 0.8 and _accuracy(student) > 0.8
    assert not any(torch.equal(value, first.state_dict()[name]) for name, value in student.state_dict().items() if value.dim() > 1)
    again = train_student(_lesson(), config, tmp_path / "a", fabric, lambda *facts: seen.append(facts[:2]))
    assert len(seen) == len(steps) and all(torch.equal(value, again.state_dict()[name]) for name, value in student.state_dict().items())
    hidden = tuple(np.setdiff1d(np.arange(8), share_of(np.arange(8), 0.5, 0)).tolist())
    short = config.model_copy(update={"steps": 6})
    honest, deceived = (
        train_student(_lesson(Few(FRAMES, lies)), short, tmp_path / name, fabric) for name, lies in (("b", ()), ("c", hidden))
    )
    assert all(torch.equal(value, deceived.state_dict()[name]) for name, value in honest.state_dict().items())


def test_the_first_training_alone_is_what_the_second_starts_from(tmp_path: Path) -> None:
    config, fabric = IgnetConfig.model_validate({**SMALL, "steps": 6}), make_fabric("32-true")
    once = config.model_copy(update={"retrain": RetrainConfig(again=False)})
    alone = train_student(_lesson(), once, tmp_path / "once", fabric)
    assert not (tmp_path / "once" / BALANCED_NAME).exists()
    train_student(_lesson(), config, tmp_path / "twice", fabric)
    first = read_weights(tmp_path / "twice" / FIRST_NAME, alone.network).state_dict()
    assert all(torch.equal(value, first[name]) for name, value in alone.state_dict().items())
    (tmp_path / "twice" / FIRST_NAME).write_bytes(b"cut")
    with pytest.raises(ModelError, match=FIRST_NAME):
        read_weights(tmp_path / "twice" / FIRST_NAME, alone.network)


@pytest.mark.parametrize("afresh", [False, True])
def test_the_second_training_goes_on_from_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, afresh: bool) -> None:
    retrain = {"least_points": 10, "afresh": afresh}
    config, given = IgnetConfig.model_validate({**SMALL, "steps": 3, "retrain": retrain}), _lesson()
    starts: list[Lesson] = []

    def note(lesson: Lesson, *_: Any) -> Student:
        starts.append(lesson)
        return Student(NETWORK)

    monkeypatch.setattr("xkd_ros.distill.methods.run_finetune", note)
    train_student(given, config, tmp_path, make_fabric("32-true"))
    first = read_weights(tmp_path / FIRST_NAME, NETWORK.model_copy(update={"classes": 3})).backbone.state_dict()
    expected = given.backbone.weights if afresh else first
    assert all(torch.equal(value, starts[0].backbone.weights[name]) for name, value in expected.items())


def test_a_run_killed_between_the_trainings_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, fabric = IgnetConfig.model_validate({**SMALL, "steps": 6}), make_fabric("32-true")
    whole = train_student(_lesson(), config, tmp_path / "whole", fabric)
    with monkeypatch.context() as patch:
        patch.setattr("xkd_ros.distill.retraining.training.write_balanced_labels", _killed)
        with pytest.raises(KeyboardInterrupt):
            train_student(_lesson(), config, tmp_path / "cut", fabric)
    again = train_student(_lesson(), config, tmp_path / "cut", fabric)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


@pytest.mark.parametrize("recipe", ["scalr", "scalr_plus", "indoor"])
def test_the_mean_teacher_is_an_average_whatever_the_recipe(recipe: str) -> None:
    assert IgnetConfig(method="ignet", recipe=recipe).average_decay == 0.99
    with pytest.raises(ValidationError, match="its own teacher"):
        IgnetConfig(method="ignet", recipe=recipe, average_decay=0.0)


def test_few_labelled_frames_are_no_ground_for_a_second_training(tmp_path: Path) -> None:
    config, fabric = IgnetConfig.model_validate({**SMALL, "steps": 4, "label_share": 0.15}), make_fabric("32-true")
    train_student(_lesson(), config, tmp_path / "few", fabric)
    assert not (tmp_path / "few" / BALANCED_NAME).exists()
    asked = config.model_copy(update={"retrain": RetrainConfig(again=True, least_points=10)})
    train_student(_lesson(), asked, tmp_path / "asked", fabric)
    assert (tmp_path / "asked" / BALANCED_NAME).exists()


def _killed(*_: Any) -> None:
    raise KeyboardInterrupt


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    config, fabric = IgnetConfig.model_validate({**SMALL, "steps": 4}), make_fabric("32-true")
    with pytest.raises(ConfigError, match="ignet learns from images"):
        train_student(Lesson(FRAMES, Few(FRAMES), 3, Backbone.untrained(NETWORK, STUDENT, 0)), config, tmp_path, fabric)

    class Scores(Targets):
        def __getitem__(self, number: int) -> list[Any]:
            views = super().__getitem__(number)
            for view in views:
                view.features = None
            return views

    with pytest.raises(ConfigError, match="hold no features"):
        lesson = Lesson(FRAMES, Few(FRAMES), 3, Backbone.untrained(NETWORK, STUDENT, 0), Scores(FRAMES))
        train_student(lesson, config, tmp_path, fabric)
