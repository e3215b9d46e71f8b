"""The whole way from a recording to a model, on a walk of two seconds and networks of two layers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from public_layout import their_state

from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.core.card import load_card
from xkd_ros.core.errors import ConfigError, ModelError
from xkd_ros.distill.backbone import load_backbone
from xkd_ros.distill.partdistill.unit_report import load_unit_scores
from xkd_ros.distill.partdistill.unit_store import UnitStore
from xkd_ros.metrics.unit_quality import load_unit_report
from xkd_ros.nets.checkpoint import load_student
from xkd_ros.nets.fused_checkpoint import load_fused
from xkd_ros.nets.image_checkpoint import ImageTeacherCard, save_image_teacher
from xkd_ros.nets.image_student import ImageNetworkConfig, seeded_image_student
from xkd_ros.pipeline.fused_segmenter import FusedSegmenter
from xkd_ros.pipeline.learn import learn, load_run
from xkd_ros.pipeline.learn_config import LearnConfig, read_config
from xkd_ros.pipeline.learn_stages import NAMES
from xkd_ros.pipeline.learning import Sources
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.worlds.simulate import simulate

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walk") / "walk"
    simulate(3, "ouster16", 2.0, folder)
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "random"
    network = ImageNetworkConfig(widths=(16, 16, 16, 16), blocks=(1, 1, 1, 1), feature_width=16)
    save_image_teacher(seeded_image_student(network, 0), ImageTeacherCard(name="random", network=network), folder)
    lines = [
        f"teacher={folder}",
        "network={depth: 2, width: 16}",
        "distill={steps: 3, batch: 2, head_hidden: 8, tensorboard: false, input: {max_points: 1500}}",
        # A random teacher is sure of nothing.
        "pseudo={min_margin: 0, min_confidence: 0, keep_share: 1, drop_borders: false, consolidate: false}",
        "probe={steps: 2, batch: 2, tensorboard: false, input: {max_points: 1500}}",
        "finetune={steps: 3, batch: 2, tensorboard: false, input: {max_points: 1500}}",
    ]
    return lines


@pytest.fixture(scope="module")
def learnt(walk, settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("learnt")
    learn(read_config(None, settings), Sources((walk,)), folder / "run", folder / "site", progress_file=folder / "progress.jsonl")
    return folder


def test_the_model_labels_a_scan_and_its_card_says_where_it_is_from(learnt):
    points = np.random.default_rng(0).uniform(-4, 4, (3000, 3)).astype(np.float32)
    labels = Segmenter.load(learnt / "site", backend="torch").segment(points).labels
    card = load_card(learnt / "site")
    assert labels.shape == (3000,) and labels.max() < len(card.labels)
    assert card.name == "site" and "walk" in card.sources[0] and card.recipe["method"] == "label-free distillation"
    assert card.metrics["evaluation"]["real"]["out of view"]["points"] > 0 and sum(card.metrics["entropy"]["counts"]) > 0
    assert {"student.ort.onnx", "student.trt.onnx"} <= set(card.files)
    page, scans = (learnt / "site" / "README.md").read_text(), card.metrics["evaluation"]["scans_by_split"]
    assert "true labels, in view" in page and set(scans) == {"test"} and f"resolution on {scans['test']} test frames, " in page


def test_progress_goes_through_every_stage(learnt):
    lines = [json.loads(line) for line in (learnt / "progress.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(line["stage"] for line in lines)) == [*NAMES, "done"]
    assert all(line["done"] <= line["total"] for line in lines if "total" in line)


def test_the_same_command_again_does_nothing(learnt, walk, settings):
    files = [path for path in (learnt / "run").rglob("*") if path.is_file() and path.name != "learn.json"]
    before = {path: path.stat().st_mtime_ns for path in files}
    learn(read_config(None, settings), Sources((walk,)), learnt / "run", learnt / "site")
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_changed_settings_are_refused_before_anything_is_touched_and_redo_makes_what_follows_again(learnt, walk, settings, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(learnt / "run", run)
    changed = read_config(None, [*settings, "probe.steps=1", "pseudo.keep_share=0.9"])
    begun_with = (run / "learn.json").read_bytes()
    with pytest.raises(ConfigError, match="--redo pseudo"):
        learn(changed, Sources((walk,)), run, tmp_path / "site")
    assert (run / "learn.json").read_bytes() == begun_with
    distilled = (run / "stages" / "distill.json").stat().st_mtime_ns
    probed = json.loads((run / "stages" / "probe.json").read_text())
    learn(changed, Sources((walk,)), run, None, only=("pseudo", "probe"), redo=("pseudo",))
    assert (run / "stages" / "distill.json").stat().st_mtime_ns == distilled
    assert json.loads((run / "stages" / "probe.json").read_text())["key"] != probed["key"]
    assert not (run / "stages" / "finetune.json").exists()
    learn(read_config(None, [*settings, "probe.steps=1"]), Sources((walk,)), run, None, only=("pseudo", "probe"), redo=("stale",))
    assert json.loads((run / "stages" / "distill.json").read_text()) and (run / "stages" / "probe.json").exists()


def test_a_model_folder_that_is_gone_is_written_again(learnt, walk, settings, tmp_path):
    shutil.move(learnt / "site", tmp_path / "elsewhere")
    learn(read_config(None, settings), Sources((walk,)), learnt / "run", learnt / "site")
    assert load_card(learnt / "site").hash == load_card(tmp_path / "elsewhere").hash


def test_a_method_by_name_changes_the_last_stages_alone_and_its_fused_head_comes_along(learnt, walk, settings, tmp_path):
    run, site = tmp_path / "run", tmp_path / "site"
    shutil.copytree(learnt / "run", run)
    config = read_config(None, settings, recipe="xmodel")
    assert config.recipe == "indoor" and config.finetune.method == "xmodel" and config.finetune.steps == 3
    with pytest.raises(ConfigError, match="--redo finetune"):
        learn(config, Sources((walk,)), run, site)
    before = {path: path.stat().st_mtime_ns for path in (run / "stages").iterdir()}
    learn(config, Sources((walk,)), run, site, redo=("finetune",))
    changed = {path.name.partition(".")[0] for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"finetune", "evaluation", "export"}
    student, card = load_student(site)
    head, fused = load_fused(site, student)
    assert card.recipe["finetune"]["method"] == "xmodel" and fused.features == 16 and len(fused.teacher) == 64
    assert head.sizes.classes == len(card.labels)
    segmenter, frame = FusedSegmenter.load(site, config.teacher, "torch"), FrameStore(run / "frames")[0]
    net_input, logits = segmenter.logits(frame)
    alone = segmenter.segmenter.infer(net_input)
    assert frame.views and np.abs(logits - alone).max() > 1e-4 and len(segmenter.segment(frame).labels) == len(frame)


def test_a_run_starts_from_a_model_or_from_a_checkpoint_of_the_public_code(learnt, walk, settings, tmp_path):
    run, sources, only = tmp_path / "run", Sources((walk,)), ("distill",)
    shutil.copytree(learnt / "run", run)
    for name in ("distill", "probe", "finetune", "evaluation"):
        shutil.rmtree(run / name)
    student, card = load_student(learnt / "site")
    checkpoint = tmp_path / "scalr.pth"
    torch.save({"net": their_state(student)}, checkpoint)
    with pytest.raises(ConfigError, match="--redo"):
        learn(read_config(None, settings, start=str(learnt / "site")), sources, run, None, only=only)
    for start, said in ((learnt / "site", {"model": "site", "model_hash": card.hash}), (checkpoint, {"checkpoint": "scalr.pth"})):
        learn(read_config(None, settings, start=str(start)), sources, run, None, only=only, redo=only)
        taken = load_backbone(run / "distill")
        assert all(torch.equal(value, taken.weights[name]) for name, value in student.backbone.state_dict().items())
        assert said.items() <= taken.card.recipe.items() and taken.card.recipe["method"] == "start"
    deeper = [*settings, "network={depth: 3, width: 16}"]
    with pytest.raises(ModelError, match=r"scalr\.pth holds a WI-2-16 .* expected a WI-3-16"):
        learn(read_config(None, deeper, start=str(checkpoint)), sources, run, None, only=only, redo=only)
    with pytest.raises(ModelError, match="does not exist"):
        learn(read_config(None, settings, start=str(tmp_path / "nowhere")), sources, run, None, only=only, redo=only)


def test_a_stage_alone_needs_what_it_reads(walk, settings, tmp_path):
    learn(read_config(None, settings), Sources((walk,)), tmp_path / "run", None, only=("frames",))
    config, sources = load_run(tmp_path / "run", ["finetune.steps=7"])
    assert config.finetune.steps == 7 and sources.bags == (walk,)
    with pytest.raises(ConfigError, match=r"distill needs targets .*xkd targets"):
        learn(config, sources, tmp_path / "run", None, only=("distill",))


def test_a_dry_run_writes_nothing(walk, settings, tmp_path, capsys):
    learn(read_config(None, settings), Sources((walk,)), tmp_path / "run", tmp_path / "site", dry_run=True)
    assert not (tmp_path / "run").exists() and "MB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        (["teacher=no_such_teacher"], ModelError, "no_such_teacher"),
        (["classes=no_such_map"], ConfigError, "no class map 'no_such_map'"),
        (["recipe=scalar"], ConfigError, "recipe"),
        (["distill.precision=32-true"], ConfigError, "finetune auto"),
        (["cache=false", "distill.workers=2"], ConfigError, "distill.workers to 0"),
    ],
)
def test_wrong_settings_stop_before_the_work(walk, tmp_path, lines, error, message):
    with pytest.raises(error, match=message):
        learn(read_config(None, lines), Sources((walk,)), tmp_path / "run", tmp_path / "site")
    assert not (tmp_path / "run" / "frames").exists()


def test_a_recipe_reaches_all_stages_unless_one_names_its_own():
    config = LearnConfig.model_validate({"recipe": "scalr", "finetune": {"recipe": "scalr_plus"}})
    assert (config.distill.recipe, config.probe.recipe, config.finetune.recipe) == ("scalr", "scalr", "scalr_plus")
    assert config.finetune.lr == 1e-4 and config.distill.pairs.student_input == "frustum"


def test_a_method_is_chosen_by_name_on_what_earlier_stages_left(learnt, walk, settings, tmp_path):
    work = tmp_path / "run"
    shutil.copytree(learnt / "run", work)
    before = (work / "distill" / "backbone.json").stat().st_mtime_ns
    lines = [*settings, "recipe=ignet", "labels=both", "finetune.contrast_hidden=8", "finetune.retrain.least_points=5"]
    config = read_config(None, lines)
    assert config.recipe == "indoor" and config.finetune.method == "ignet" and config.finetune.steps == 3
    with pytest.raises(ConfigError, match="--redo probe"):
        learn(config, Sources((walk,)), work, tmp_path / "site")
    learn(config, Sources((walk,)), work, tmp_path / "site", redo=("stale",))
    card = load_card(tmp_path / "site")
    assert card.recipe["finetune"]["method"] == "ignet" and card.recipe["method"] == "given labels and label-free distillation"
    assert (work / "distill" / "backbone.json").stat().st_mtime_ns == before


def test_the_recipe_partdistill_learns_from_units_and_reports_on_them(learnt, walk, settings, tmp_path, capsys):
    import shutil

    shutil.copytree(learnt / "run", tmp_path / "run")
    changes = ["finetune.backward={latest: 0.5}", "finetune.pixels={least_area_px: 32, erode_px: 0}"]
    changes.append(f"finetune.generated={learnt / 'run/frames'}")
    config = read_config(None, [*settings, *changes], recipe="partdistill")
    learn(config, Sources((walk,)), tmp_path / "run", tmp_path / "site", redo=("stale",))
    assert "units with" in capsys.readouterr().out
    report = load_unit_report(tmp_path / "run" / "finetune")
    units = UnitStore(tmp_path / "run" / "finetune" / "units")
    assert sum(row.units for row in report.origins["pixels"]) == len(load_unit_scores(tmp_path / "run" / "finetune")) > 10
    assert len(units) == len(FrameStore(tmp_path / "run" / "frames").numbers("train"))
    card = load_card(tmp_path / "site")
    assert card.recipe["finetune"]["method"] == "partdistill" and "evaluation" in card.metrics
    assert (tmp_path / "run" / "stages" / "pseudo.json").read_bytes() == (learnt / "run" / "stages" / "pseudo.json").read_bytes()
    # The run folder alone knows the method.
    assert load_run(tmp_path / "run", ["finetune.steps=5"])[0].finetune.backward.latest == 0.5


@pytest.mark.parametrize("name", ["learn", "learn-cpu"])
def test_the_configurations_that_come_with_the_package_are_valid(name):
    assert read_config(ROOT / "config" / "train" / f"{name}.yaml").network.depth == 24


def test_two_processes_learn_together(walk, settings, tmp_path, torchrun):
    changes = [part for line in settings for part in ("--set", line)]
    torchrun("-m", "xkd_ros.cli", "learn", walk, "-o", tmp_path / "site", "--work", tmp_path / "run", "--threads", "1", *changes)
    assert load_card(tmp_path / "site").name == "site"
