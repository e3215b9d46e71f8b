"""A few hand-labelled scans, and simulated ones, beside what image teachers say: `xkd learn --recipe partdistill --labels FOLDER`."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.bags.reader import Bag
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import ConfigError, XkdError
from xkd_ros.nets.checkpoint import load_student
from xkd_ros.pipeline import learning
from xkd_ros.pipeline.learn import learn
from xkd_ros.pipeline.learn_config import read_config
from xkd_ros.pipeline.learning import Sources
from xkd_ros.worlds.simulate import simulate

TRAINED = ("frames", "targets", "distill", "pseudo", "probe", "finetune")


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walk") / "walk"
    simulate(3, "ouster16", 1.6, folder, every=2)
    return folder


@pytest.fixture(scope="module")
def settings(tiny_teacher):
    stage = "batch: 2, tensorboard: false, input: {max_points: 1500}"
    return [
        f"teacher={tiny_teacher}",
        "labels=given",
        "network={depth: 2, width: 16}",
        f"distill={{steps: 1, head_hidden: 8, {stage}}}",
        # A random teacher is sure of nothing.
        "pseudo={min_margin: 0, min_confidence: 0, keep_share: 1, drop_borders: false, consolidate: false}",
        f"probe={{steps: 1, {stage}}}",
        f"finetune={{steps: 2, pixels: {{least_area_px: 32, erode_px: 0}}, {stage}}}",
    ]


@pytest.fixture(scope="module")
def unlabelled(walk, tmp_path_factory):
    """The walk without the truth of the simulation."""
    folder = tmp_path_factory.mktemp("unlabelled") / "walk"
    with Bag(walk) as bag, BagWriter(folder) as writer:
        for record in bag.records():
            writer.copy(record)
    return folder


@pytest.fixture(scope="module")
def hand(unlabelled, walk, settings, tmp_path_factory):
    """Labels of two training scans and one of another split, as somebody made them; and the stamps of the two."""
    folder, run = tmp_path_factory.mktemp("hand"), tmp_path_factory.mktemp("run")
    learn(read_config(None, [*settings, "labels=pseudo"], recipe="partdistill"), Sources((unlabelled,)), run, None, only=("frames",))
    frames = FrameStore(run / "frames")
    train, others = frames.numbers("train"), np.setdiff1d(np.arange(len(frames)), frames.numbers("train"))
    stamps = [frames.scan(int(number)).stamp_ns for number in (train[0], train[-1], others[0])]
    for stamp in stamps:
        with np.load(walk / "truth" / f"{stamp}.npz") as truth:
            np.savez(folder / f"{stamp}.npz", indoor12=truth["labels"])
    return folder, stamps[:2]


def test_partdistill_learns_from_a_few_labelled_scans_and_from_simulated_ones(unlabelled, hand, walk, settings, tmp_path, monkeypatch):
    lessons, train_student = [], learning.train_student
    monkeypatch.setattr(learning, "train_student", lambda lesson, *rest: lessons.append(lesson) or train_student(lesson, *rest))
    labels, stamps = hand
    shutil.copytree(walk, tmp_path / "walks" / "one")
    config = read_config(None, [*settings, f"finetune.generated={tmp_path / 'walks'}"], recipe="partdistill")
    sources, run = Sources((unlabelled,), labels=labels), tmp_path / "run"
    learn(config, sources, run, None, only=TRAINED)
    (lesson,) = lessons
    frames = FrameStore(run / "frames")
    assert sorted(frames.scan(int(number)).stamp_ns for number in lesson.labelled) == sorted(stamps)
    assert all((lesson.labels[int(number)][0] != 255).any() for number in lesson.labelled_numbers())
    drawn, truth = lesson.generated
    assert drawn.folder == run / "finetune" / "generated" and len(drawn.numbers("train")) == len(drawn) == 8
    assert (truth[0][0] != 255).any() and load_student(run / "finetune")[1].recipe["method"] == "given labels"
    assert len(replace(lesson, labelled=None).labelled_numbers()) == len(frames.numbers("train")) > 2
    # Walks that are exchanged make the stage stale.
    (tmp_path / "walks" / "one" / "more").write_text("x")
    with pytest.raises(ConfigError, match="--redo finetune"):
        learn(config, sources, run, None, only=TRAINED)


@pytest.mark.parametrize(
    ("kept", "generated", "message"),
    [("other", "", "for not one frame of split 'train'"), ("train", "empty", "holds neither frames nor simulated recordings")],
)
def test_labels_and_simulated_scans_that_are_not_there_are_named(unlabelled, hand, settings, tmp_path, kept, generated, message):
    labels, stamps = hand
    (tmp_path / "hand").mkdir()
    (tmp_path / "empty").mkdir()
    for path in labels.iterdir():
        if (int(path.stem) in stamps) == (kept == "train"):
            shutil.copy(path, tmp_path / "hand")
    lines = [*settings, *([f"finetune.generated={tmp_path / generated}"] if generated else [])]
    config, sources = read_config(None, lines, recipe="partdistill"), Sources((unlabelled,), labels=tmp_path / "hand")
    with pytest.raises(XkdError, match=message):
        learn(config, sources, tmp_path / "run", None, only=TRAINED)
    assert not (tmp_path / "run" / "targets").exists()  # said before the teacher looks
