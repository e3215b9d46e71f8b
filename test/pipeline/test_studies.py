from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from xkd_ros.core.card import NetworkConfig
from xkd_ros.core.errors import ConfigError, ModelError
from xkd_ros.core.labels import INDOOR12, INDOOR12_TO_STRUCT4, STRUCT4, LabelSet
from xkd_ros.distill.given_labels import GivenLabels
from xkd_ros.nets.image_checkpoint import ImageTeacherCard, save_image_teacher
from xkd_ros.nets.image_student import ImageNetworkConfig, seeded_image_student
from xkd_ros.pipeline.studies import trial
from xkd_ros.pipeline.studies.given_labels import ProjectedLabels, ScribbleLabels
from xkd_ros.pipeline.studies.progress import StudyProgress
from xkd_ros.pipeline.studies.queue import STUDIES, run_study
from xkd_ros.pipeline.studies.results import Results
from xkd_ros.pipeline.studies.scale import Scale
from xkd_ros.pipeline.studies.workshop import Workshop
from xkd_ros.train.engine import make_fabric

TINY = Scale(
    name="tiny",
    network=NetworkConfig(depth=2, width=16),
    max_points=800,
    train_buildings=(0,),
    val_buildings=(60,),
    train_frames=6,
    val_frames=2,
    every=2,
    seeds=1,
    batch=1,
    distil_steps=3,
    probe_steps=3,
    finetune_steps=3,
    depths=(1, 2),
    depth_steps=2,
    depth_seeds=1,
    head_hidden=16,
    max_pairs=200,
    max_points_per_view=400,
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """A random image network; its name is that of its folder."""
    folder = tmp_path_factory.mktemp("teachers") / "Tiny Teacher"
    network = ImageNetworkConfig(widths=(16, 16, 16, 16), blocks=(1, 1, 1, 1), feature_width=16)
    save_image_teacher(seeded_image_student(network, 0), ImageTeacherCard(network=network, temperature=0.06), folder)
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """What the cells of all tests share."""
    return tmp_path_factory.mktemp("work")


def test_a_missing_teacher_shows_before_anything_is_simulated(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="empty"):
        run_study("scalr", work=tmp_path / "work", teachers=[str(tmp_path / "empty")], out=tmp_path / "docs", scale=TINY)
    assert not (tmp_path / "work").exists()


def test_a_study_interrupted_resumed_and_finished(tmp_path, work, teacher, monkeypatch, capsys):
    """Every part is the real one: a simulated walk, a teacher, distillation, fine-tuning, evaluation in another building."""

    def study(**options):
        run_study("scalr", work=work, teachers=[str(teacher)], out=tmp_path / "docs", scale=TINY, **options)

    cells = STUDIES["scalr"].cells(TINY, ["tiny-teacher"])
    results = Results(tmp_path / "docs" / "scalr-tiny")
    with monkeypatch.context() as patch:
        patch.setattr(trial, "evaluate_frames", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            study(cells=1)
    assert not results.of(cells) and list((work / "cells").iterdir())
    assert not list((work / "bags").iterdir())
    made = _times(work)
    assert any("backbones" in path.parts for path in made) and any("frames" in path.parts for path in made)

    study(cells=1)
    assert _times(work).items() >= {path: time for path, time in made.items() if "cells" not in path.parts}.items()
    (first,) = results.of(cells)
    assert first.cell.name == cells[0].name == "001pct-45x-distilled-seed0"
    assert first.metrics["real"]["all points"]["points"] > 1000 and first.metrics["real"]["ece"] is not None
    assert {"in view", "out of view", "0-2 m"} <= first.metrics["real"].keys()
    assert not list((work / "cells").iterdir())

    study(only="001pct-45x-*-seed0")
    assert [result.cell.name for result in results.of(cells)] == ["001pct-45x-distilled-seed0", "001pct-45x-scratch-seed0"]
    assert results.find(cells[0]) == first
    study(only_list=True)
    assert capsys.readouterr().out.count("to do") == len(cells) - 2
    page = (tmp_path / "docs" / "scalr-tiny.md").read_text()
    assert "2 of 10 are done" in page and "not enough cells" in page and "| 54.1 |" in page


def test_a_fused_head_is_evaluated_with_the_pictures_of_each_frame(tmp_path, work, teacher, capsys):
    run_study("xmodel", work=work, teachers=[str(teacher)], out=tmp_path / "docs", scale=TINY, cells=2)
    alone, model = Results(tmp_path / "docs" / "xmodel-tiny").of(STUDIES["xmodel"].cells(TINY, ["tiny-teacher"]))
    assert (alone.cell.name, model.cell.name) == ("distilled-lidar-alone-seed0", "distilled-xmodel-seed0")
    points = {heading: row["points"] for heading, row in model.metrics["real"].items() if isinstance(row, dict)}
    assert "fused" not in alone.metrics and model.metrics["fused"]["real"]["in view"]["points"] == points["in view"] > 100
    assert alone.inputs == model.inputs and alone.metrics["real"]["all points"]["points"] == points["all points"]
    assert "distilled, lidar alone" in (tmp_path / "docs" / "xmodel-tiny.md").read_text()


def _interrupt(*_arguments, **_options):
    raise KeyboardInterrupt


def _times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_partdistill_does_both_ways_and_adapts(tmp_path, work, teacher):
    scale = TINY.model_copy(update={"val_frames": 8})
    run_study("partdistill", work=work, teachers=[str(teacher)], out=tmp_path, scale=scale)
    forward, backward, argmax, sound = Results(tmp_path / "partdistill-tiny").of(STUDIES["partdistill"].cells(scale, ["tiny-teacher"]))
    assert "units" not in forward.metrics and forward.metrics["scans"] == backward.metrics["adapted"]["scans"] == 4
    assert argmax.metrics["units"]["false"] == backward.metrics["units"]["false"] and "adapted" not in argmax.metrics
    units = backward.metrics["units"]
    assert units["units"] > 20 and 10 < units["false"] < 60 and 0 <= units["auc"] <= 100
    assert units["right_before"] == pytest.approx(100 - units["false"], abs=25)
    page = (tmp_path / "partdistill-tiny.md").read_text()
    assert forward.metrics["voted"] < sound.metrics["voted"] == 100
    assert "4 of 4 are done" in page and "| units vote, no student |" in page and "adapted minus backward, all points, 12 classes" in page
    assert "40.2 / 60.1 / 57.2" in page


@pytest.mark.parametrize("name", ["rigs", "pseudo_vs_real", "teachers", "depth", "ignet"])
def test_the_other_studies_do_their_cells(name, tmp_path, work, teacher):
    # The first cells of these are plain fine-tuning.
    count = 2 if name in ("ignet",) else 1
    run_study(name, work=work, teachers=[str(teacher)], out=tmp_path, scale=TINY, cells=count)
    queue = STUDIES[name].cells(TINY, ["tiny-teacher"])
    result = Results(tmp_path / f"{name}-tiny").of(queue)[0]
    assert result.cell == queue[0] and result.versions["torch"] and result.machine["cores"]
    wanted = {
        "rigs": {"real"},
        "pseudo_vs_real": {"real", "pseudo", "teacher", "trusted", "temperature"},
        "teachers": {"probe", "finetune"},
        "depth": {"real", "hz", "network_ms", "total_ms", "memory_gb"},
        "ignet": {"real"},
    }[name]
    assert wanted <= result.metrics.keys()
    assert f"{count} of {len(queue)}" in (tmp_path / f"{name}-tiny.md").read_text()
    if name == "ignet":
        (ignet,) = [done for done in Results(tmp_path / "ignet-tiny").of(queue) if done.cell.parameters["variant"] == "ignet"]
        assert (
            ignet.metrics["once"]["real"].keys() == ignet.metrics["real"].keys() and ignet.metrics["once"]["real"] != ignet.metrics["real"]
        )
    if name == "pseudo_vs_real":
        seen, labelled = result.metrics["real"]["in view"], result.metrics["teacher"]["teacher"]
        assert 0 < labelled["points"] <= seen["points"], "projected labels are those of points in view"
        assert labelled["points"] == result.metrics["teacher"]["student"]["points"]
        assert result.metrics["trusted"]["teacher"]["teacher"]["points"] < labelled["points"]


def test_a_pilot_shares_what_is_there_and_stays_apart(tmp_path, work, teacher):
    def pilot(steps):
        common = {"work": work, "teachers": [str(teacher)], "out": tmp_path, "scale": TINY.model_copy(update={"seeds": 3})}
        run_study("ignet", only="full-seed*", steps=steps, **common)

    pilot(1)
    made = set((work / "frames").iterdir())
    pilot(2)
    assert set((work / "frames").iterdir()) == made and not list(tmp_path.iterdir())
    for steps in (1, 2):
        (cell,) = (work / "pilots" / f"ignet-tiny{steps}").iterdir()
        assert cell.name == "full-seed0.json"
        page = (work / "pilots" / f"ignet-tiny{steps}.md").read_text()
        assert f"Written by `xkd study ignet --tiny --steps {steps}` from the cells in `ignet-tiny{steps}/`: 1 of 9 are done" in page


def test_temporal_fuses_the_scans_of_a_walk(tmp_path, tiny_model, monkeypatch):
    monkeypatch.setattr("xkd_ros.pipeline.studies.temporal.MODEL", str(tiny_model))
    scale = TINY.model_copy(update={"val_buildings": (60, 61)})
    run_study("temporal", work=tmp_path / "work", out=tmp_path / "docs", scale=scale, cells=1)
    queue = STUDIES["temporal"].cells(scale, [])
    (result,) = Results(tmp_path / "docs" / "temporal-tiny").of(queue)
    assert result.cell == queue[0] and queue[0].parameters["buildings"] == [60] and queue[0].parameters["scans"] == 10
    alone, fused = result.metrics["alone"], result.metrics["fused"]
    assert alone["points"] == fused["points"] > 50_000 and alone != fused
    # Of the first scan nothing is known, of those that follow most.
    assert 50 < result.metrics["known_percent"] < 95 and result.metrics["voxels"] > result.metrics["points"] > 500
    assert not list((tmp_path / "work" / "bags").iterdir())


def test_without_cameras_lidar_and_odometry_are_the_same(tmp_path):
    from xkd_ros.bags.folder import open_recording
    from xkd_ros.worlds.simulate import simulate

    clouds = []
    for pictures in (True, False):
        simulate(1, "ouster16", 0.2, tmp_path / str(pictures), pictures=pictures)
        with open_recording(tmp_path / str(pictures)) as recording:
            assert ("/camera/image_raw" in recording.topics) == pictures
            clouds.append([bytes(record.raw) for record in recording.records(["/ouster/points", "/odom"])])
    assert clouds[0] == clouds[1]


def test_labels_are_what_they_say(work, teacher):
    fabric = make_fabric("32-true")
    fabric.launch()
    workshop = Workshop(work, TINY, [str(teacher)], fabric, StudyProgress(1))
    frames, targets = workshop.frames("ouster16", "val"), workshop.targets("ouster16", "val", "tiny-teacher")
    labels, sure = GivenLabels(frames, INDOOR12)[0]
    assert np.array_equal(labels, frames.scan(0).truth) and np.array_equal(sure, labels != 255)
    assert np.array_equal(GivenLabels(frames, STRUCT4)[0][0], INDOOR12_TO_STRUCT4[frames.scan(0).truth])
    with pytest.raises(ConfigError, match="true labels know 'wall', the classes are tree, bush"):
        GivenLabels(frames, LabelSet(names=("tree", "bush"), colours=((1, 2, 3), (4, 5, 6))))
    few = SimpleNamespace(manifest=frames.manifest, scan=half_labelled(frames))
    labels = frames.scan(0).truth
    filled, sure = GivenLabels(few, INDOOR12, {0: (np.full_like(labels, 7), np.full(len(labels), 0.3, np.float32))})[0]
    given = (np.arange(len(labels)) % 2 == 0) & (labels != 255)
    assert np.array_equal(filled, np.where(given, labels, 7)) and np.allclose(sure, np.where(given, 1, 0.3))
    labels, sure = ProjectedLabels(frames, targets)[0]
    (view,) = targets[0]
    assert np.array_equal(labels[view.point], view.scores.argmax(1)) and sure[view.point] == pytest.approx(view.scores.max(1), abs=1e-3)
    assert (np.delete(labels, view.point) == 255).all() and not np.delete(sure, view.point).any()


def half_labelled(frames):
    """Scans whose every second point has a label."""

    def scan(number):
        frame = frames.scan(number)
        return replace(frame, truth=np.where(np.arange(len(frame)) % 2, np.uint8(255), frame.truth))

    return scan


def test_scribbles_are_true_few_and_the_same_for_every_frame_of_a_place(work, teacher):
    fabric = make_fabric("32-true")
    fabric.launch()
    frames = Workshop(work, TINY, [str(teacher)], fabric, StudyProgress(1)).frames("ouster16", "train")
    scribbles, again, other = (ScribbleLabels(frames, INDOOR12, 0.08, seed) for seed in (0, 0, 1))
    labelled = total = 0
    for number in frames.numbers().tolist():
        (labels, sure), true = scribbles[number], frames.scan(number).truth
        assert np.array_equal(sure > 0, labels != 255) and np.array_equal(labels[sure > 0], true[sure > 0])
        assert np.array_equal(labels, again[number][0]) and not np.array_equal(labels, other[number][0])
        labelled, total = labelled + (labels != 255).sum(), total + (true != 255).sum()
    assert 0.05 < labelled / total < 0.14
