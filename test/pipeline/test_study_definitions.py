"""What a study consists of, and the parts that several studies share, without running one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from xkd_ros.core.card import IntensityConfig
from xkd_ros.core.errors import ConfigError
from xkd_ros.pipeline.studies.joined import JoinedFrames, JoinedTargets
from xkd_ros.pipeline.studies.machine import PeakMemory
from xkd_ros.pipeline.studies.queue import STUDIES, run_study
from xkd_ros.pipeline.studies.scale import FULL, RIGS, SMALL, Scale
from xkd_ros.pipeline.studies.workshop import name_teachers


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
    with pytest.raises(ConfigError, match=r"no cell of study ignet is named like 'full'; its cells are full-seed0"):
        run_study("ignet", out=tmp_path, only="full")


class CountedStore:
    def __init__(self, rig, count):
        self.rig, self.count = rig, count
        self.manifest = SimpleNamespace(intensity={rig: IntensityConfig(mean=count)})

    def __len__(self):
        return self.count

    def scan(self, number):
        return self.rig, number

    def numbers(self, split=None):
        return np.arange(self.count)[:: 2 if split == "train" else 1]


def test_joined_frames_keep_their_rigs_and_targets():
    stores = [CountedStore("a", 3), CountedStore("b", 4)]
    frames = JoinedFrames(stores)
    assert frames.numbers("train").tolist() == [0, 2, 3, 5] and frames.numbers().tolist() == list(range(7))
    assert [frames.scan(number) for number in (0, 2, 3, 6)] == [("a", 0), ("a", 2), ("b", 0), ("b", 3)]
    assert {name: config.mean for name, config in frames.manifest.intensity.items()} == {"a": 3.0, "b": 4.0}
    assert [JoinedTargets(frames, ["abc", "wxyz"])[number] for number in (2, 3, 6)] == ["c", "w", "z"]
    with pytest.raises(ConfigError, match="a rig is in two of them"):
        JoinedFrames([stores[0], CountedStore("a", 1)])


def test_peak_memory_is_that_of_the_block():
    for _ in range(2):
        with PeakMemory(torch.device("cpu")).watched() as memory:
            assert np.ones(25_000_000).sum() > 0
        if memory.gigabytes is None:
            pytest.skip("this system does not tell a process's peak")
        assert 0.15 < memory.gigabytes < 0.4


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
