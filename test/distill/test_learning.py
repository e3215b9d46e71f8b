"""Distil, probe, fine-tune on a handful of rooms: losses fall, labels are learnt, what is frozen stays, the result is a plain student."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rooms import RIGS, STUDENT, Labels, Rooms, Targets, surface

from xkd_ros.core.card import ModelCard, NetworkConfig
from xkd_ros.core.errors import ConfigError, ModelError
from xkd_ros.core.labels import LabelSet
from xkd_ros.distill.backbone import Backbone, load_backbone
from xkd_ros.distill.distillation import run_distil
from xkd_ros.distill.finetune import run_finetune
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.probe import run_probe
from xkd_ros.distill.recipe import DistilConfig, FinetuneConfig, ProbeConfig
from xkd_ros.nets.batch import collate
from xkd_ros.nets.checkpoint import load_student, save_student
from xkd_ros.nets.student import Student
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.train.engine import make_fabric

FRAMES = Rooms(points=400)
NETWORK = NetworkConfig(depth=2, width=16)
COMMON = {"batch": 4, "precision": "32-true", "tensorboard": False, "average_decay": 0.9}
STILL = {"robust": {"big_tilt": 0, "thin": 0, "sector": 0, "shorten": 0}}
DISTIL = {**COMMON, "steps": 40, "lr": 1e-2, "head_hidden": 32, "drop_path": 0.0, "input": STILL}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    folder, losses = tmp_path_factory.mktemp("distilled"), []

    def progress(done: int, total: int, facts: dict[str, float]) -> None:
        assert 0 < done <= total == 40 and facts["samples_per_s"] > 0
        losses.append(facts["loss"])

    run_distil(FRAMES, Targets(FRAMES), NETWORK, STUDENT, DistilConfig(**DISTIL), folder, make_fabric("32-true"), progress)
    return folder, losses


def _lesson(backbone: Backbone) -> Lesson:
    return Lesson(FRAMES, Labels(FRAMES), 3, backbone)


def _accuracy(student: Student) -> float:
    """Share of right points of a validation room."""
    frame = FRAMES.scan(9)
    item = Preprocessor(STUDENT.geometry, RIGS["dim"], threads=1)(frame.points_m, None, frame.levelled_from_lidar, undo=False)
    with torch.no_grad():
        said = student.on(collate([item])).argmax(1).numpy()
    return float(np.mean(said == surface(frame.points_m @ frame.levelled_from_lidar.T)[item.kept]))


def test_the_distance_to_the_teacher_falls(distilled: tuple[Path, list[float]]) -> None:
    _, losses = distilled
    assert len(losses) == 40 and np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])


def test_the_backbone_is_stored_whole(distilled: tuple[Path, list[float]], tmp_path: Path) -> None:
    folder, _ = distilled
    backbone = load_backbone(folder)
    assert backbone.card.network == NETWORK and backbone.card.recipe["steps"] == 40
    (tmp_path / "backbone.json").write_bytes((folder / "backbone.json").read_bytes())
    with pytest.raises(ModelError, match="cannot be read"):
        load_backbone(tmp_path)
    (tmp_path / "backbone.safetensors").write_bytes((folder / "backbone.safetensors").read_bytes()[:-4])
    with pytest.raises(ModelError, match="hash differs"):
        load_backbone(tmp_path)


def test_asked_again_it_trains_nothing_and_gives_the_same(distilled: tuple[Path, list[float]]) -> None:
    folder, _ = distilled
    before, steps = load_backbone(folder), []
    again = run_distil(
        FRAMES,
        Targets(FRAMES),
        NETWORK,
        STUDENT,
        DistilConfig(**DISTIL),
        folder,
        make_fabric("32-true"),
        lambda *facts: steps.append(facts),
    )
    assert not steps and again.card == before.card


@pytest.mark.parametrize("recipe", ["scalr", "scalr_plus"])
def test_the_published_recipes_run(recipe: str, tmp_path: Path) -> None:
    changes = {"recipe": recipe, "steps": 3, "batch": 4, "accumulate": 2, "tensorboard": False, "gradient_checkpointing": True}
    fabric = make_fabric("bf16-mixed")
    backbone = run_distil(FRAMES, Targets(FRAMES), NETWORK, STUDENT, DistilConfig(**changes), tmp_path / "distil", fabric)
    assert backbone.card.network.activation == ("gelu" if recipe == "scalr_plus" else "relu")
    student = run_finetune(_lesson(backbone), FinetuneConfig(**changes), tmp_path / "finetune", fabric)
    assert student.network.activation == backbone.card.network.activation
    assert all(torch.isfinite(value).all() for value in student.state_dict().values())


def test_a_probe_learns_and_leaves_the_backbone_alone(distilled: tuple[Path, list[float]], tmp_path: Path) -> None:
    backbone = load_backbone(distilled[0])
    student = run_probe(_lesson(backbone), ProbeConfig(**COMMON, steps=40, lr=3e-2, input=STILL), tmp_path, make_fabric("32-true"))
    assert _accuracy(student) > 0.8
    assert all(torch.equal(value, backbone.weights[name]) for name, value in student.backbone.state_dict().items())


def test_fine_tuning_learns_and_ends_as_a_model_folder(distilled: tuple[Path, list[float]], tmp_path: Path) -> None:
    config = FinetuneConfig(
        **COMMON,
        steps=30,
        lr=1e-2,
        input=STILL,
        drop_path=0.0,
        label_share=0.5,
        class_weight_power=0.25,
        group_weight=0.5,
        label_smoothing=0.02,
    )
    lesson = Lesson(FRAMES, Labels(FRAMES), 3, load_backbone(distilled[0]), groups=np.array([0, 0, 1]))
    student = run_finetune(lesson, config, tmp_path / "work", make_fabric("32-true"))
    assert _accuracy(student) > 0.8
    names = LabelSet(names=("floor", "ceiling", "wall"), colours=((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    save_student(student, ModelCard(labels=names, network=student.network, geometry=STUDENT.geometry), tmp_path / "model")
    assert _accuracy(load_student(tmp_path / "model")[0]) == _accuracy(student)


def test_learning_from_nothing_depends_on_the_seed_alone() -> None:
    first, again, other = (Backbone.untrained(NETWORK, STUDENT, seed).weights for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_what_does_not_fit_is_said_before_training(tmp_path: Path) -> None:
    fabric, start = make_fabric("32-true"), Backbone.untrained(NETWORK, STUDENT, 0)
    with pytest.raises(ConfigError, match="has label 2, the student has 2 classes"):
        run_probe(Lesson(FRAMES, Labels(FRAMES), 2, start), ProbeConfig(**COMMON), tmp_path, fabric)
    with pytest.raises(ConfigError, match="cannot start from"):
        wider = NetworkConfig(depth=2, width=8)
        run_distil(FRAMES, Targets(FRAMES), wider, STUDENT, DistilConfig(**COMMON), tmp_path, fabric, start=start)

    class Scores(Targets):
        def __getitem__(self, number: int) -> list:
            views = super().__getitem__(number)
            for view in views:
                view.features = None
            return views

    with pytest.raises(ConfigError, match="no features"):
        run_distil(FRAMES, Scores(FRAMES), NETWORK, STUDENT, DistilConfig(**COMMON), tmp_path, fabric)
