"""Training beside a fused head on a handful of rooms: what its samples hold, and that both heads learn."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rooms import FEATURES, RIGS, STUDENT, Labels, Rooms, Targets, surface

from xkd_ros.core.card import NetworkConfig
from xkd_ros.core.errors import ConfigError
from xkd_ros.distill.augment import AugmentConfig
from xkd_ros.distill.backbone import Backbone
from xkd_ros.distill.label_stage import label_loss
from xkd_ros.distill.labelled_frames import LabelledFrames
from xkd_ros.distill.layer_decay import layer_groups
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.methods import train_student
from xkd_ros.distill.recipe import FinetuneConfig
from xkd_ros.distill.student_input import StudentInput
from xkd_ros.distill.xmodel.config import XModelConfig
from xkd_ros.distill.xmodel.fused_frames import FusedBatch, FusedFrames, collate_fused
from xkd_ros.distill.xmodel.loss import FusedLoss
from xkd_ros.distill.xmodel.training import _make_student, run_xmodel
from xkd_ros.nets.batch import collate
from xkd_ros.nets.fused_checkpoint import load_fused
from xkd_ros.nets.fusion import FusedStudent
from xkd_ros.nets.planes import make_planes
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.train.engine import make_fabric

FRAMES = Rooms(points=400)
NETWORK = NetworkConfig(depth=2, width=16)
STILL = {"robust": {"big_tilt": 0, "thin": 0, "sector": 0, "shorten": 0}}
COMMON = {"batch": 4, "precision": "32-true", "tensorboard": False, "average_decay": 0.9, "drop_path": 0.0, "input": STILL}
SMALL = {**COMMON, "steps": 60, "lr": 1e-2, "attention": 16, "code": 16, "head_hidden": 16}


class Seen(Targets):
    """Also cameras that overlap the front one: some points have up to three views more."""

    def __getitem__(self, number: int) -> list:
        views = super().__getitem__(number)
        return [*views, *(SimpleNamespace(**{**vars(views[0]), "view": extra}) for extra in (2, 3, 4))]


pytestmark = pytest.mark.usefixtures("one_thread")


def _lesson(targets: object = None, **changes: object) -> Lesson:
    return Lesson(FRAMES, Labels(FRAMES), 3, Backbone.untrained(NETWORK, STUDENT, 0), targets or Targets(FRAMES), **changes)


def _said(features: np.ndarray) -> np.ndarray:
    """Surface that a teacher feature names."""
    directions = np.random.default_rng(7).normal(size=(3, FEATURES))
    return np.argmin(np.linalg.norm(features.astype(np.float32)[:, None] - 5 * directions, axis=2), axis=1)


def test_pairs_follow_their_points_and_labels_are_those_of_plain_fine_tuning() -> None:
    unmoved = {"robust": dict.fromkeys(AugmentConfig.model_fields, 0)}
    config = XModelConfig(**{**COMMON, "input": unmoved})
    samples = FusedFrames(_lesson(), config)
    plain = LabelledFrames(FRAMES, Labels(FRAMES), samples.numbers, StudentInput(config.input, STUDENT, RIGS), config.seed)
    for number in range(8):
        item, other = samples(number), plain(number)
        said, height = _said(item.features), item.scan.features[item.paired, 3]
        assert (height[said == 0] < -0.89).all() and (height[said == 1] > 1.34).all() and len(set(said)) == 3
        assert np.isclose(len(item.scan), len(other.scan), rtol=0.02)
        assert np.isclose((item.labels != 255).sum(), (other.labels != 255).sum(), rtol=0.05)
    assert samples.width == FEATURES and samples.length == len(samples.numbers) == 8


def test_views_are_limited_and_drawn() -> None:
    counts = []
    for number in range(8):
        item = FusedFrames(_lesson(Seen(FRAMES)), XModelConfig(**COMMON, views=2))(number)
        counts.append(np.bincount(item.paired).max())
    assert set(counts) == {1, 2}
    assert np.bincount(FusedFrames(_lesson(Seen(FRAMES)), XModelConfig(**COMMON))(0).paired).max() in (3, 4)
    assert len(FusedFrames(_lesson(), XModelConfig(**COMMON, max_pairs=16))(0).paired) == 16


def test_frames_without_a_label_alternate_with_labelled_ones() -> None:
    samples = FusedFrames(_lesson(), XModelConfig(**COMMON, label_share=0.25))
    items = [samples(number) for number in range(12)]
    known = [bool((item.labels != 255).any()) for item in items]
    # A frame that cannot be used gives way to the next number, which is of the other kind.
    assert sum(a != b for a, b in zip(known, [True, False] * 6)) <= 2 and samples.length == 4
    assert all(len(item.paired) for item, labelled in zip(items, known) if not labelled)
    alone = FusedFrames(_lesson(), XModelConfig(**COMMON, label_share=0.25, unlabelled=0))
    assert all((alone(number).labels != 255).any() for number in range(12)) and alone.length == 2


def test_scans_without_a_picture_and_without_a_label_can_share_a_batch() -> None:
    class Blind(Targets):
        def __getitem__(self, number: int) -> list:
            return super().__getitem__(number) if number % 2 else []

    samples = FusedFrames(_lesson(Blind(FRAMES)), XModelConfig(**COMMON, label_share=0.5))
    items = [samples(number) for number in range(8)]
    assert any(not len(item.paired) for item in items) and any(not (item.labels != 255).any() for item in items)
    batch = collate_fused(items)
    wanted = np.concatenate([item.scan.features[item.paired] for item in items])
    assert np.array_equal(batch.batch.features[batch.paired].numpy(), wanted) and batch.features.shape == (len(wanted), FEATURES)
    nothing = collate_fused([item for item in items if not len(item.paired)])
    assert _loss(nothing).isfinite() and _loss(batch).isfinite()


def _loss(batch: FusedBatch, **changes: float) -> torch.Tensor:
    lesson, config = _lesson(), XModelConfig(**SMALL, **changes)
    torch.manual_seed(0)
    model = _make_student(lesson, config, FEATURES)
    return FusedLoss(label_loss(lesson, config, np.arange(8)), config)(model, batch).detach()


def test_each_part_of_the_loss_counts_by_its_weight() -> None:
    samples = FusedFrames(_lesson(), XModelConfig(**SMALL))
    batch = collate_fused([samples(number) for number in range(4)])
    parts = ("fused_weight", "contrast_weight", "cosine_weight", "agreement_weight")
    none = dict.fromkeys(parts, 0.0)
    base = _loss(batch, **none)
    gains = {part: float(_loss(batch, **{**none, part: 2.0}) - base) for part in parts}
    assert gains["fused_weight"] == pytest.approx(2 * float(base), rel=1e-3), "both heads start undecided"
    assert gains["contrast_weight"] > 0 and gains["cosine_weight"] > 0 and gains["agreement_weight"] == pytest.approx(0, abs=1e-5)
    assert float(_loss(batch, **dict.fromkeys(parts, 2.0)) - base) == pytest.approx(sum(gains.values()), rel=1e-3)


def test_both_heads_learn_and_the_robot_gets_a_plain_student(tmp_path: Path) -> None:
    lesson = _lesson(looks="some teacher")
    student = train_student(lesson, XModelConfig(**SMALL), tmp_path, make_fabric("32-true"))
    head, card = load_fused(tmp_path, student)
    assert card.teacher == "some teacher" and card.features == FEATURES
    frame = FRAMES.scan(9)
    item = Preprocessor(STUDENT.geometry, RIGS["dim"], threads=1)(frame.points_m, None, frame.levelled_from_lidar, undo=False)
    truth = surface(frame.points_m @ frame.levelled_from_lidar.T)[item.kept]
    batch, place = collate([item]), np.full(len(frame.points_m), -1)
    place[item.kept] = np.arange(len(item))
    pictures = Targets(FRAMES)[9]
    point, features = np.concatenate([p.point for p in pictures]), np.concatenate([p.features for p in pictures])
    paired = torch.from_numpy(place[point[place[point] >= 0]])
    with torch.no_grad():
        tokens = student.backbone(batch.features, batch.neighbours, make_planes(batch.cells, batch.shapes), None, batch.scan)
        fused = head(tokens, paired, torch.from_numpy(features[place[point] >= 0]))
        lidar = student.on(batch)
    assert np.mean(lidar.argmax(1).numpy() == truth) > 0.8
    assert np.mean(fused.argmax(1).numpy()[paired] == truth[paired]) > 0.95


def test_an_interrupted_training_ends_the_same(tmp_path: Path) -> None:
    config = XModelConfig(**{**SMALL, "steps": 6}, save_every=3)
    whole = run_xmodel(_lesson(), config, tmp_path / "whole", make_fabric("32-true"))

    def stop(done: int, total: int, facts: dict[str, float]) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_xmodel(_lesson(), config, tmp_path / "parts", make_fabric("32-true"), stop)
    again = run_xmodel(_lesson(), config, tmp_path / "parts", make_fabric("32-true"))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())
    assert (tmp_path / "whole" / "fused.safetensors").read_bytes() == (tmp_path / "parts" / "fused.safetensors").read_bytes()


def test_what_is_missing_is_said_before_training(tmp_path: Path) -> None:
    fabric, config = make_fabric("32-true"), XModelConfig(**SMALL)
    with pytest.raises(ConfigError, match="xmodel learns from images"):
        train_student(Lesson(FRAMES, Labels(FRAMES), 3, Backbone.untrained(NETWORK, STUDENT, 0)), config, tmp_path, fabric)

    class Blind(Targets):
        def __getitem__(self, number: int) -> list:
            return []

    with pytest.raises(ConfigError, match="no picture of the training frames"):
        run_xmodel(_lesson(Blind(FRAMES)), config, tmp_path, fabric)

    class Scores(Targets):
        def __getitem__(self, number: int) -> list:
            return [SimpleNamespace(**{**vars(view), "features": None}) for view in super().__getitem__(number)]

    with pytest.raises(ConfigError, match="no features"):
        run_xmodel(_lesson(Scores(FRAMES)), config, tmp_path, fabric)


def test_the_same_steps_as_fine_tuning_where_labels_are_few() -> None:
    shared = {"label_share": 0.1, "epochs": 10, "batch": 4}
    ours, plain = XModelConfig(**shared, unlabelled=0), FinetuneConfig(**shared)
    assert ours.engine(100, 1) == plain.engine(100, 1) and ours.layer_decay == plain.layer_decay == 0.95


def test_fused_students_learn_backbones_by_layer() -> None:
    model = _make_student(_lesson(), XModelConfig(**SMALL), FEATURES)
    assert isinstance(model, FusedStudent)
    groups = layer_groups(model, 0.5, True)
    scales = {id(parameter): group.scale for group in groups for parameter in group.parameters}
    assert scales[id(model.lidar.backbone.embedding.point.weight)] == 0.5**3 and scales[id(model.fused.value.weight)] == 1
    assert scales[id(model.lidar.backbone.channel[1].scale)] == 0.5 and scales[id(model.lidar.head.linear.bias)] == 1
    assert set(scales) == {id(parameter) for parameter in model.parameters()}
