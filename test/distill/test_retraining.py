"""A second training on what the first student says: when there is one, what it learns from, and who is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rooms import STUDENT, Labels, Rooms, Targets, surface

from xkd_ros.core.card import NetworkConfig
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.backbone import Backbone
from xkd_ros.distill.ignet.config import IgnetConfig
from xkd_ros.distill.labelled_frames import LabelledOnly
from xkd_ros.distill.lesson import Lesson
from xkd_ros.distill.methods import train_student
from xkd_ros.distill.passes import share_of
from xkd_ros.distill.recipe import FinetuneConfig
from xkd_ros.distill.retraining.config import RetrainConfig
from xkd_ros.distill.retraining.training import trains_twice
from xkd_ros.distill.xmodel.config import XModelConfig
from xkd_ros.distill.xmodel.fused_opinions import FusedOpinions
from xkd_ros.nets.batch import collate
from xkd_ros.nets.fused_checkpoint import load_fused
from xkd_ros.nets.planes import make_planes
from xkd_ros.nets.student import Student
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.train.engine import make_fabric

NETWORK = NetworkConfig(depth=2, width=16)
STILL = {"robust": {"big_tilt": 0, "thin": 0, "sector": 0, "shorten": 0}}
COMMON: dict[str, Any] = {
    "batch": 4, "steps": 30, "lr": 1e-2, "precision": "32-true", "tensorboard": False, "average_decay": 0.9, "drop_path": 0.0,
    "input": STILL, "retrain": {"again": True, "least_points": 5},
}  # fmt: skip
XMODEL = {**COMMON, "attention": 16, "code": 16, "head_hidden": 16}


class Posed(Rooms):
    """Rooms of a robot that has odometry."""

    def scan(self, number: int) -> Any:
        return SimpleNamespace(**{**vars(super().scan(number)), "world_from_lidar": np.eye(4)})


pytestmark = pytest.mark.usefixtures("one_thread")


def lesson(frames: Rooms | None = None) -> Lesson:
    frames = frames or Rooms(points=400)
    return Lesson(frames, Labels(frames), 3, Backbone.untrained(NETWORK, STUDENT, 0), Targets(frames))


@pytest.mark.parametrize("kind", [IgnetConfig, XModelConfig])
def test_there_is_one_where_frames_can_vote_or_many_have_labels(kind: Any) -> None:
    method = {"method": "ignet"} if kind is IgnetConfig else {}
    few, many = (kind.model_validate({**method, "label_share": share}) for share in (0.15, 0.5))
    still, posed = lesson(), lesson(Posed(points=400))
    assert [trains_twice(still, few), trains_twice(still, many), trains_twice(posed, few)] == [False, True, True]
    alone = few.model_copy(update={"retrain": RetrainConfig(votes=None)})
    assert not trains_twice(posed, alone)
    for asked in (True, False):
        assert trains_twice(still, few.model_copy(update={"retrain": RetrainConfig(again=asked)})) == asked


def test_plain_fine_tuning_learns_once_unless_asked_and_its_key_stays() -> None:
    once = FinetuneConfig()
    assert not trains_twice(lesson(Posed(points=400)), once) and "retrain" not in once.deciding()
    again = FinetuneConfig(retrain=RetrainConfig(again=True))
    assert trains_twice(lesson(), again) and again.deciding()["retrain"]["keep"] == 0.7


@pytest.mark.parametrize("config", [FinetuneConfig.model_validate(COMMON), XModelConfig.model_validate(XMODEL)], ids=["labels", "xmodel"])
def test_the_second_training_knows_labels_that_nobody_gave(config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xkd_ros.distill import methods

    seen: list[Lesson] = []
    for name in ("run_finetune", "run_xmodel"):
        run = getattr(methods, name)
        monkeypatch.setattr(methods, name, lambda given, *rest, run=run: (seen.append(given), run(given, *rest))[1])
    config, given = config.model_copy(update={"label_share": 0.25}), lesson()
    student = train_student(given, config, tmp_path, make_fabric("32-true"))
    assert isinstance(student, Student) and len(seen) == 2 and seen[0] is given
    labelled = share_of(given.labelled_numbers(), 0.25, config.seed).tolist()
    right = added = 0
    for number in given.frames.numbers("train").tolist():
        labels, confidence = seen[1].labels[number]
        own, sure = given.labels[number]
        if number in labelled:
            given_surely = (own != UNKNOWN) & (sure == 1)
            assert np.array_equal(labels[given_surely], own[given_surely]) and (confidence[given_surely] == 1).all()
            continue
        frame = given.frames.scan(number)
        new = labels != UNKNOWN
        right += int((labels[new] == surface(frame.points_m[new] @ frame.levelled_from_lidar.T)).sum())
        added += int(new.sum())
    assert added > 500 and right / added > 0.6
    if isinstance(config, XModelConfig):
        load_fused(tmp_path, student)  # the head that is left belongs to the second student


def test_labels_of_other_frames_are_hidden() -> None:
    given = Labels(Rooms(points=400))
    some = LabelledOnly(given, np.array([1, 4]))
    assert np.array_equal(some[4][0], given[4][0]) and (some[0][0] == UNKNOWN).all() and not some[0][1].any()


def test_a_fused_head_is_asked_with_the_pictures_of_the_frame(tmp_path: Path) -> None:
    config = XModelConfig.model_validate({**XMODEL, "steps": 4, "retrain": {"again": False}})
    given = lesson(Rooms(points=700))
    student = train_student(given, config, tmp_path, make_fabric("32-true"))
    head, _ = load_fused(tmp_path, student)
    opinions = FusedOpinions(given, config, student, tmp_path, torch.device("cpu"))
    frame = given.frames.scan(5)
    logits, undo = opinions(frame)
    reads = given.backbone.card.student
    item = Preprocessor(reads.geometry, reads.statistics(frame.rig, given.frames.manifest.intensity), 1)(
        frame.points_m, frame.intensity, frame.levelled_from_lidar
    )
    pairs = [
        (int(item.undo[point]), feature)
        for picture in given.teacher("xmodel")[5]
        for point, feature, edge in zip(picture.point, picture.features, picture.edge)
        if item.undo[point] >= 0 and not edge
    ]
    batch = collate([item])
    with torch.inference_mode():
        tokens = student.backbone(batch.features, batch.neighbours, make_planes(batch.cells, batch.shapes), None, batch.scan)
        point, shown = torch.tensor([point for point, _ in pairs]), torch.from_numpy(np.stack([feature for _, feature in pairs]))
        expected, blind = head(tokens, point, shown).numpy(), head(tokens, point[:0], shown[:0]).numpy()
    assert np.array_equal(undo, item.undo) and np.allclose(logits, expected, atol=1e-5) and not np.allclose(logits, blind, atol=1e-3)
    bare = FusedOpinions(replace(given, targets={5: []}), config, student, tmp_path, torch.device("cpu"))  # type: ignore[arg-type]
    assert np.allclose(bare(frame)[0], blind, atol=1e-5)
    nothing = SimpleNamespace(**{**vars(frame), "points_m": frame.points_m[:0], "intensity": frame.intensity[:0]})
    assert len(bare(nothing)[0]) == len(bare(nothing)[1]) == 0
