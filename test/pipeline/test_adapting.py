"""A finished model and a recording of a new place: adapted where that agrees better with the images there, else left alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.core.card import load_card
from xkd_ros.core.errors import ConfigError
from xkd_ros.nets.checkpoint import load_student
from xkd_ros.nets.image_checkpoint import ImageTeacherCard, save_image_teacher
from xkd_ros.nets.image_student import ImageNetworkConfig, seeded_image_student
from xkd_ros.pipeline.adapting import adapt_model, first_minutes
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.worlds.simulate import simulate


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """Eight scans of a building."""
    folder = tmp_path_factory.mktemp("there") / "there"
    simulate(61, "ouster16", 1.6, folder, every=2)
    return folder


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Settings with a random image network that is sure of something."""
    network = ImageNetworkConfig(widths=(16, 16, 16, 16), blocks=(1, 1, 1, 1), feature_width=16)
    student = seeded_image_student(network, 0)
    with torch.no_grad():
        student.head.weight *= 8
    folder = tmp_path_factory.mktemp("teacher") / "random"
    save_image_teacher(student, ImageTeacherCard(name="random", network=network), folder)
    units = "pixels: {least_area_px: 32, erode_px: 0}"
    return [f"teacher={folder}", f"adapt={{steps: 12, batch: 2, lr: 0.05, {units}, tensorboard: false, input: {{max_points: 1500}}}}"]


def test_the_adapted_model_is_kept_where_it_agrees_better(tiny_model, there, lines, tmp_path, capsys):
    result = adapt_model(tiny_model, [there], tmp_path / "site", tmp_path / "work", changes=lines, progress_file=tmp_path / "progress")
    assert result.kept and result.after > result.before and result.frames == 6
    said = " ".join(capsys.readouterr().out.split())
    assert f"agreement with held-out image labels {100 * result.before:.1f} % before, {100 * result.after:.1f} % after" in said
    last = json.loads((tmp_path / "progress").read_text().splitlines()[-1])
    assert last == {"stage": "done", "outcome": f"{result.line}; the adapted model is in {tmp_path / 'site'}"}
    card, before = load_card(tmp_path / "site"), load_card(tiny_model)
    assert card.name == "site" and card.recipe["model_hash"] == before.hash and card.recipe["agreement_after"] == result.after
    assert {"student.ort.onnx", "student.trt.onnx"} <= set(card.files) and "there" in card.sources
    old, new = (load_student(folder)[0].state_dict() for folder in (tiny_model, tmp_path / "site"))
    assert {name for name in old if not torch.equal(old[name], new[name])} == {"head.weight", "head.bias"}
    points = np.random.default_rng(0).uniform(-4, 4, (3000, 3)).astype(np.float32)
    assert Segmenter.load(tmp_path / "site", backend="torch").segment(points).labels.max() < 12
    # What there is of a recording is taken evenly, from its first minutes alone.
    frames = FrameStore(tmp_path / "work" / "frames")
    assert first_minutes(frames, 3.0, 3).tolist() == [0, 4, 7] and first_minutes(frames, 0.5 / 60, 99).tolist() == [0, 1, 2]
    with pytest.raises(ConfigError, match="choose another --work folder"):
        adapt_model(tiny_model, [there], tmp_path / "x", tmp_path / "work", changes=[*lines, "minutes=1"])


def test_a_model_that_agrees_less_afterwards_is_not_written(tiny_model, there, lines, tmp_path, capsys, monkeypatch):
    from xkd_ros.distill.partdistill import adaptation

    agreements = iter((0.6, 0.5))
    monkeypatch.setattr(adaptation, "mean_agreement", lambda *_: next(agreements))
    assert not adapt_model(tiny_model, [there], tmp_path / "site", tmp_path / "work", changes=lines).kept
    said = " ".join(capsys.readouterr().out.split())
    assert "60.0 % before, 50.0 % after" in said and "rolled back" in said and "is not written" in said
    assert not (tmp_path / "site").exists()


def test_other_classes_are_refused(tiny_model, there, lines, tmp_path):
    with pytest.raises(ConfigError, match=r"struct4_seed .*: give the model's with --set classes=NAME"):
        adapt_model(tiny_model, [there], tmp_path / "x", tmp_path / "y", changes=["classes=struct4_seed"])
    with pytest.raises(ConfigError, match="adapt"):
        adapt_model(tiny_model, [there], tmp_path / "x", tmp_path / "y", changes=["adapt.held_out=1"])
    with pytest.raises(ConfigError, match="is the model that is adapted"):
        adapt_model(tiny_model, [there], tiny_model.parent / "." / tiny_model.name, tmp_path / "y", changes=lines)
    assert not (tmp_path / "y").exists()
