from pathlib import Path

import numpy as np
import pytest

from xkd_ros.core.card import NetworkConfig
from xkd_ros.core.errors import ConfigError
from xkd_ros.nets.image_checkpoint import ImageTeacherCard, save_image_teacher
from xkd_ros.nets.image_student import ImageNetworkConfig, seeded_image_student
from xkd_ros.pipeline.studies import trial
from xkd_ros.pipeline.studies.queue import STUDIES, run_study
from xkd_ros.pipeline.studies.results import Results
from xkd_ros.pipeline.studies.scale import FULL, RIGS, SMALL, Scale
from xkd_ros.pipeline.studies.workshop import name_teachers

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


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("scale", [SMALL, FULL], ids=lambda scale: scale.name)
def test_cells_follow_from_the_definition_and_are_unique(name, scale):
    cells = STUDIES[name].cells(scale, ["sim2d"])
    assert [cell.key for cell in cells] == [cell.key for cell in STUDIES[name].cells(scale, ["sim2d"])]
    assert len({cell.key for cell in cells}) == len({cell.name for cell in cells}) == len(cells)
    assert all(cell.study == name for cell in cells)
    seeds = {cell.seed for cell in cells}
    assert len(seeds) >= (3 if name == "depth" else 5)


def test_how_many_cells_there_are_does_not_change_them():
    few, many = (SMALL.model_copy(update={"seeds": count}) for count in (2, 9))
    keys = [{cell.key for cell in STUDIES["scalr"].cells(scale, ["sim2d"])} for scale in (few, many)]
    assert keys[0] < keys[1]
    assert not keys[0] & {cell.key for cell in STUDIES["scalr"].cells(few, ["other"])}
    assert not keys[0] & {cell.key for cell in STUDIES["scalr"].cells(few.model_copy(update={"batch": 5}), ["sim2d"])}


def test_rigs_does_what_the_bar_needs_first():
    cells = STUDIES["rigs"].cells(SMALL, ["sim2d"])
    first = cells[: 2 * len(RIGS) * SMALL.seeds]
    assert all(cell.parameters["distilled_on"] in ("all", cell.parameters["tested_on"]) for cell in first)
    assert len(cells) == (len(RIGS) + 1) * len(RIGS) * SMALL.seeds


@pytest.mark.parametrize(
    "changes", [{"train_buildings": (59, 60)}, {"val_buildings": (74, 75)}, {"val_buildings": ()}, {"train_buildings": (1, 1)}]
)
def test_test_buildings_are_never_touched(changes):
    with pytest.raises(ValueError, match="buildings are"):
        Scale.model_validate({**SMALL.model_dump(), **changes})


def test_teachers_are_named_by_the_last_part_of_their_folder():
    assert name_teachers(["/a/Sim 2D", "facebook/dinov2-small"]) == {"sim-2d": "/a/Sim 2D", "dinov2-small": "facebook/dinov2-small"}
    for bad in ([], ["/a/x", "/b/x"], ["random-image-network"]):
        with pytest.raises(ConfigError, match="name of its own"):
            name_teachers(bad)


def test_an_unknown_study_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no study 'rig'; studies are scalr"):
        run_study("rig", out=tmp_path)


def test_a_study_interrupted_resumed_and_finished(tmp_path, teacher, monkeypatch, capsys):
    """Every part is the real one: a simulated walk, a teacher, distillation, fine-tuning, evaluation in another building."""

    def study(name="scalr", **options):
        run_study(name, work=tmp_path / "work", teachers=[str(teacher)], out=tmp_path / "docs", scale=TINY, **options)

    cells = STUDIES["scalr"].cells(TINY, ["tiny-teacher"])
    results = Results(tmp_path / "docs" / "scalr-tiny")
    with monkeypatch.context() as patch:
        patch.setattr(trial, "evaluate_frames", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            study(cells=1)
    assert not results.of(cells) and list((tmp_path / "work" / "cells").iterdir())
    assert not list((tmp_path / "work" / "bags").iterdir())
    made = _times(tmp_path / "work")
    assert any("backbones" in path.parts for path in made) and any("frames" in path.parts for path in made)

    study(cells=1)
    assert _times(tmp_path / "work").items() >= {path: time for path, time in made.items() if "cells" not in path.parts}.items()
    (first,) = results.of(cells)
    assert first.cell.name == cells[0].name == "001pct-distilled-seed0"
    assert first.metrics["real"]["all points"]["points"] > 1000 and first.metrics["real"]["ece"] is not None
    assert {"in view", "out of view", "0-2 m"} <= first.metrics["real"].keys()
    assert not list((tmp_path / "work" / "cells").iterdir())

    study(cells=1)
    assert [result.cell.name for result in results.of(cells)] == ["001pct-distilled-seed0", "001pct-scratch-seed0"]
    assert results.find(cells[0]) == first
    study(only_list=True)
    assert capsys.readouterr().out.count("to do") == len(cells) - 2
    page = (tmp_path / "docs" / "scalr-tiny.md").read_text()
    assert "2 of 6 are done" in page and "not enough cells" in page and "| 54.1 |" in page


def _interrupt(*_arguments, **_options):
    raise KeyboardInterrupt


def _times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_scans_of_a_thinned_walk_are_those_of_the_whole_one(tmp_path):
    from xkd_ros.bags.folder import open_recording
    from xkd_ros.worlds.simulate import simulate

    for name, every in (("whole", 1), ("thinned", 2)):
        simulate(1, "dual_ouster16_horizontal", 0.4, tmp_path / name, every=every)
    truths = [sorted((tmp_path / name / "truth").glob("*.npz")) for name in ("whole", "thinned")]
    assert [path.name for path in truths[1]] == [path.name for path in truths[0][::2]]
    for whole, thinned in zip(truths[0][::2], truths[1]):
        with np.load(whole) as a, np.load(thinned) as b:
            assert np.array_equal(a["labels"], b["labels"]) and np.array_equal(a["world_from_lidar"], b["world_from_lidar"])
    stamps = []
    for name in ("whole", "thinned"):
        with open_recording(tmp_path / name) as recording:
            stamps.append({topic: [r.stamp_ns for r in recording.records([topic])] for topic in ("/os1_cloud_node1/points", "/odom")})
            everything = [record.stamp_ns for record in recording.records(["/os1_cloud_node1/points", "/odom", "/left/image_raw"])]
            assert everything == sorted(everything)
    assert stamps[0]["/odom"] == stamps[1]["/odom"] and stamps[0]["/os1_cloud_node1/points"][::2] == stamps[1]["/os1_cloud_node1/points"]
    with pytest.raises(ConfigError, match="0-th scan"):
        simulate(1, "dual_ouster16_horizontal", 0.4, tmp_path / "none", every=0)
