"""Scan and pictures in, labels out; and what happens without a picture, a fresh one, or the right teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from xkd_ros.bags.frame import Frame, View
from xkd_ros.core.camera import Camera
from xkd_ros.core.errors import ModelError
from xkd_ros.nets.batch import collate
from xkd_ros.nets.checkpoint import load_student
from xkd_ros.nets.fusion import FusedHead, FusionSizes
from xkd_ros.nets.planes import make_planes
from xkd_ros.pipeline.fused_segmenter import FusedSegmenter
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.teacher.teacher import Glance

FEATURES = 5


class Colours:
    """A teacher whose features are the colour of the pixel, and where it is."""

    name, feature_width, label_set, class_hash, fingerprint = "colours", FEATURES, None, "", "f" * 64

    def __init__(self) -> None:
        self.asked: list[np.ndarray] = []

    def look(self, rgb: np.ndarray, uv_px: np.ndarray) -> Glance:
        self.asked.append(uv_px)
        column, row = np.rint(uv_px).astype(int).T
        return Glance(np.hstack([rgb[row, column] / 255, uv_px / 100]).astype(np.float16))


class Picture(View):
    """A view whose picture is in memory."""

    def rgb(self) -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


def _view(dt_ms: float = 0.0) -> Picture:
    camera = Camera(80, 60, np.array([[60.0, 0, 39.5], [0, 60, 29.5], [0, 0, 1]]))
    # The optical axis along x of the lidar.
    cam_from_lidar = np.eye(4)
    cam_from_lidar[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
    return Picture("front", camera, cam_from_lidar, int(dt_ms * 1e6), b"")


@pytest.fixture
def frame() -> Frame:
    rng = np.random.default_rng(0)
    points = rng.uniform([-4, -3, -1], [4, 3, 1.5], (3000, 3)).astype(np.float32)
    return Frame(0, 0, "walk", "rig", "test", points, rng.uniform(0, 200, 3000).astype(np.float32), np.eye(3), views=(_view(),))


@pytest.fixture
def fused(tiny_model: Path) -> FusedSegmenter:
    student, card = load_student(tiny_model)
    torch.manual_seed(0)
    head = FusedHead(FusionSizes(card.network.width, FEATURES, card.network.classes, 8)).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return FusedSegmenter(Segmenter.load(tiny_model, "torch"), student, head, Colours())


def test_a_picture_changes_what_it_shows_and_nothing_else_and_is_asked_about_what_the_network_reads(fused, frame) -> None:
    net_input, logits = fused.logits(frame)
    (asked,) = fused._teacher.asked
    assert 0 < len(asked) < len(net_input)
    student, head = fused._backbone, fused._head
    batch = collate([net_input])
    with torch.no_grad():
        tokens = student(batch.features, batch.neighbours, make_planes(batch.cells, batch.shapes), None, batch.scan)
        blind = head(tokens, torch.zeros(0, dtype=torch.int64), torch.zeros(0, FEATURES)).numpy()
    changed = np.abs(logits - blind).max(1) > 1e-3
    _, visible = frame.views[0].see(frame.points_m)
    assert not changed[~visible[net_input.kept]].any() and changed.sum() > 0.9 * len(asked)
    said = fused.segment(frame)
    assert said.labels.shape == (3000,) and (said.labels != 255).all()
    assert np.array_equal(said.labels, logits.argmax(1)[net_input.undo])


@pytest.mark.parametrize("views", [(), (_view(51.0),), (_view(-80.0), _view(60.0))], ids=["none", "late", "two that are late"])
def test_without_a_fresh_picture_it_is_the_lidar_only_student(fused, frame, views) -> None:
    said = fused.segment(replace(frame, views=views))
    alone = fused.segmenter.segment(frame.points_m, frame.intensity, frame.levelled_from_lidar)
    assert np.array_equal(said.labels, alone.labels) and np.allclose(said.probability, alone.probability, atol=1e-5)
    assert not fused._teacher.asked


def test_a_picture_that_shows_no_point_is_none(fused, frame) -> None:
    behind = frame.points_m[frame.points_m[:, 0] < -0.5]
    said = fused.segment(replace(frame, points_m=behind, intensity=None))
    alone = fused.segmenter.segment(behind, None, np.eye(3))
    assert np.array_equal(said.labels, alone.labels) and not fused._teacher.asked


def test_only_the_fresh_one_of_two_pictures_is_looked_at(fused, frame) -> None:
    both = fused.segment(replace(frame, views=(_view(70.0), _view(20.0))))
    assert np.array_equal(both.labels, fused.segment(frame).labels) and len(fused._teacher.asked) == 2


def test_models_that_do_not_belong_together_are_named(fused, tiny_model) -> None:
    student, _ = load_student(tiny_model)
    narrow = SimpleNamespace(name="narrow", feature_width=FEATURES - 1)
    with pytest.raises(ModelError, match="reads 5 image features, narrow gives 4"):
        FusedSegmenter(fused.segmenter, student, fused._head, narrow)
    with pytest.raises(ModelError, match="no fused head"):
        FusedSegmenter.load(tiny_model, "anything")
