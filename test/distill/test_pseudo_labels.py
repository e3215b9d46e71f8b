"""The whole job: two passes over frames and targets, resumed, refused, and with the real stores."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from xkd_ros.bags.frame import Frame, View
from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.frame_manifest import FrameEntry, FrameManifest, ShardEntry, SourceEntry, save_manifest
from xkd_ros.bags.frame_shard import SUMMARY_NAME, Draft, Picture, save_shard, to_millimetres
from xkd_ros.bags.frame_store import FrameStore, shard_folder
from xkd_ros.core import se3
from xkd_ros.core.card import IntensityConfig
from xkd_ros.core.errors import ConfigError, XkdError
from xkd_ros.core.labels import INDOOR12, STRUCT4, LabelSet
from xkd_ros.core.rig import CameraConfig, LidarConfig, RigConfig
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.label_score import score_against_truth, truth_map
from xkd_ros.distill.label_store import LabelStore
from xkd_ros.distill.pseudo_config import PseudoConfig, Reason
from xkd_ros.distill.pseudo_labels import find_drives, write_pseudo_labels
from xkd_ros.teacher.target_writer import write_targets
from xkd_ros.teacher.targets import ViewTargets
from xkd_ros.teacher.teacher import Glance

CONFIG = PseudoConfig(frames_per_part=4, radius_frames=3, reach_frames=5)
PLACES = np.floor(np.random.default_rng(0).uniform(-3, 3, (400, 3)) / 0.1) * 0.1 + 0.05
CLASS = (PLACES[:, 0] > 0).astype(np.uint8) + (PLACES[:, 1] > 1.5)  # 0, 1, 2


class Frames:
    """Walks through one static room; points are in the same order in every frame."""

    hash = "frames"

    def __init__(self, walks: tuple[tuple[str, int], ...] = (("a", 18),), splits: str = "train", poses: bool = True) -> None:
        self._frames = []
        for source, count in walks:
            for step in range(count):
                number = len(self._frames)
                stamp_ns = number * 100_000_000
                split = splits if splits == "train" else ("train" if step < 10 else "val" if step < 14 else "test")
                pose = se3.make_transform(se3.rotation_from_rpy(0.1, 0, 0.3 * step), [0.1 * step, 0, 0])
                points = se3.apply(se3.invert(pose), PLACES).astype(np.float32)
                views = (View("front", None, np.eye(4), 0, b""),)  # type: ignore[arg-type]
                known = pose if poses else None
                frame = Frame(number, stamp_ns, source, "rig", split, points, None, np.eye(3), known, CLASS, views, 0.0)
                self._frames.append(frame)
        truth = ("wall", "floor", "ceiling", "non-structural")
        self.manifest = SimpleNamespace(sources=[SimpleNamespace(name=source, truth=truth) for source, _ in walks])

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, number: int) -> Frame:
        return self._frames[number]

    def scan(self, number: int) -> Frame:
        return replace(self._frames[number], views=())

    def numbers(self, split: str | None = None, rig: str | None = None) -> np.ndarray:
        return np.array([frame.number for frame in self._frames if split in (None, frame.split)], np.int64)


class Targets:
    """A camera that sees half the points, and a teacher that is wrong about a tenth of them."""

    hash = "targets"

    def __init__(self, frames: Frames, label_set: LabelSet | None = STRUCT4, frames_hash: str = "frames") -> None:
        self.frames, self.asked = frames, 0
        self.manifest = SimpleNamespace(frames_hash=frames_hash, label_set=label_set, class_hash="map")

    def __getitem__(self, number: int) -> list[ViewTargets]:
        self.asked += 1
        rng = np.random.default_rng(number)
        frame = self.frames[number]
        seen = np.flatnonzero(frame.points_m[:, 0] > 0).astype(np.int32)
        label = np.where(rng.random(len(seen)) < 0.1, 3 - CLASS[seen], CLASS[seen])
        confidence = rng.uniform(0.7, 0.99, len(seen))
        scores = np.repeat((1 - confidence)[:, None] / 3, 4, axis=1)
        scores[np.arange(len(seen)), label] = confidence
        edge = np.zeros(len(seen), bool)
        return [ViewTargets(0, seen, np.zeros((len(seen), 2), np.float32), None, scores.astype(np.float32), ~edge, edge)]


def make(tmp_path: Path, frames: Any, targets: Any = None, config: PseudoConfig = CONFIG, progress: Any = None) -> LabelStore:
    return write_pseudo_labels(frames, targets or Targets(frames), tmp_path / "pseudo", config, progress)


def test_out_of_view_points_are_labelled_and_errors_go(tmp_path: Path) -> None:
    frames, calls = Frames(), []
    store = make(tmp_path, frames, progress=lambda *call: calls.append(call))
    assert [call[0] for call in calls] == list(range(1, 37)) and {call[1] for call in calls} == {36}
    assert calls[-1][2]["labelled_share"] > 0.5 and calls[-1][2]["frames_per_s"] > 0
    score = score_against_truth(frames, store)
    summary = score.summary()
    assert score.frames == 18 and summary["in_view"]["accuracy"] > 98 and summary["out_of_view"]["accuracy"] > 98
    assert summary["in_view"]["labelled"] > 60 and summary["out_of_view"]["labelled"] > 25
    alone = write_pseudo_labels(frames, Targets(frames), tmp_path / "alone", PseudoConfig(consolidate=False))
    summary = score_against_truth(frames, alone).summary()
    assert summary["in_view"]["accuracy"] < 93 and summary["out_of_view"]["labelled"] == 0
    assert summary["in_view"]["labelled"] == pytest.approx(70, abs=1.5)
    for row in alone.statistics("train").rows()[:3]:
        assert row.kept / row.seen == pytest.approx(0.7, abs=0.03) and row.dropped[Reason.THRESHOLD] == row.seen - row.kept
    assert len(store) == len(frames) and all(len(store[number][0]) == 400 for number in range(18))


def test_the_same_again_and_nothing_done_twice(tmp_path: Path) -> None:
    frames = Frames((("a", 9), ("b", 6)))
    first = make(tmp_path / "1", frames)
    second = make(tmp_path / "2", frames)
    for number in range(15):
        assert np.array_equal(first[number][0], second[number][0]) and np.array_equal(first[number][1], second[number][1])
    assert first.hash == second.hash
    targets = Targets(frames)
    assert make(tmp_path / "1", frames, targets).hash == first.hash and targets.asked == 0


@pytest.mark.parametrize("stop_after", [1, 17, 25, 30, 35])
def test_an_interrupted_job_goes_on(tmp_path: Path, stop_after: int) -> None:
    frames = Frames((("a", 12), ("b", 6)))
    whole = make(tmp_path / "whole", frames)

    def stop(done: int, total: int, facts: dict[str, float]) -> None:
        if done == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "cut", frames, progress=stop)
    with pytest.raises(XkdError, match="no whole set"):
        LabelStore(tmp_path / "cut" / "pseudo")
    targets = Targets(frames)
    again = make(tmp_path / "cut", frames, targets)
    assert again.hash == whole.hash
    assert all(np.array_equal(again[n][i], whole[n][i]) for n in range(18) for i in (0, 1))
    if stop_after > 17:
        assert targets.asked <= 18 - (stop_after - 18) // 4 * 4 + CONFIG.reach_frames


def test_splits_do_not_vote_on_each_other(tmp_path: Path) -> None:
    frames = Frames((("a", 18), ("b", 12)), splits="mixed")
    assert [(drive.numbers, drive.split) for drive in find_drives(frames)] == [
        (tuple(range(0, 10)), "train"), (tuple(range(10, 14)), "val"), (tuple(range(14, 18)), "test"),
        (tuple(range(18, 28)), "train"), (tuple(range(28, 30)), "val"),
    ]  # fmt: skip
    store = make(tmp_path, frames)
    assert set(store.manifest.statistics) == {"train", "val", "test"}
    # Two frames alone are fewer than three observations: nothing reaches what they do not see.
    assert not (store.reasons(28) == Reason.PROPAGATED).any() and (store.reasons(5) == Reason.PROPAGATED).any()


def test_a_jump_of_the_odometry_ends_a_drive() -> None:
    frames = Frames((("a", 8),))
    moved = se3.make_transform(np.eye(3), [9.0, 0, 0])
    frames._frames[4:] = [replace(frame, world_from_lidar=moved @ frame.world_from_lidar) for frame in frames._frames[4:]]
    assert [drive.numbers for drive in find_drives(frames)] == [(0, 1, 2, 3), (4, 5, 6, 7)]


def test_a_turn_of_the_odometry_on_the_spot_ends_a_drive() -> None:
    frames = Frames((("a", 8),))
    place = frames._frames[4].world_from_lidar
    turned = place @ se3.make_transform(se3.rotation_from_rpy(0, 0, 1.6), np.zeros(3)) @ se3.invert(place)
    frames._frames[4:] = [replace(frame, world_from_lidar=turned @ frame.world_from_lidar) for frame in frames._frames[4:]]
    assert [drive.numbers for drive in find_drives(frames)] == [(0, 1, 2, 3), (4, 5, 6, 7)]


@pytest.mark.parametrize(("pause_s", "drives"), [(4, 1), (6, 2)])
def test_a_long_pause_ends_a_drive(pause_s: int, drives: int) -> None:
    frames = Frames((("a", 8),))
    frames._frames[4:] = [replace(frame, stamp_ns=frame.stamp_ns + pause_s * 1_000_000_000) for frame in frames._frames[4:]]
    assert len(find_drives(frames)) == drives


class InTwelve(LabelStore):
    """The same labels, said to be of the twelve classes: the first three are the same, the fourth is one of the others."""

    label_set = INDOOR12  # type: ignore[assignment]


def test_four_true_classes_are_compared_in_four(tmp_path: Path) -> None:
    frames = Frames()
    store = make(tmp_path, frames)
    assert score_against_truth(frames, InTwelve(store.folder)).summary() == score_against_truth(frames, store).summary()


def test_lidars_in_turn_are_drives_of_their_own(tmp_path: Path) -> None:
    frames = Frames((("a", 8),))
    frames._frames = [replace(frame, source="ab"[frame.number % 2]) for frame in frames._frames]
    drives = find_drives(frames)
    assert [drive.numbers for drive in drives] == [(0, 2, 4, 6), (1, 3, 5, 7)]
    assert [drive.numbers for drive in find_drives(frames, consolidate=False)] == [(n,) for n in range(8)]
    store = make(tmp_path, frames)
    assert [len(store[number][0]) for number in range(8)] == [400] * 8


def test_without_poses_labels_are_those_of_single_images(tmp_path: Path) -> None:
    frames = Frames(poses=False)
    store = make(tmp_path, frames)
    assert sum(row.propagated + row.gained for row in store.statistics().rows()) == 0
    assert sum(row.labelled for row in store.statistics().rows()) > 1000


def test_a_frame_without_pictures_is_labelled_by_the_others(tmp_path: Path) -> None:
    class Blind(Targets):
        def __getitem__(self, number: int) -> list[ViewTargets]:
            return [] if number == 9 else super().__getitem__(number)

    frames = Frames()
    labels, confidence = make(tmp_path, frames, Blind(frames))[9]
    known = labels != UNKNOWN
    assert known.mean() > 0.5 and (labels[known] == CLASS[known]).mean() > 0.97 and (confidence[known] >= 0.5).all()


def test_what_cannot_be_learnt_from_is_refused_in_one_line(tmp_path: Path) -> None:
    frames = Frames()

    class Changed(Targets):
        def __init__(self, change: Any) -> None:
            super().__init__(frames)
            self.change = change

        def __getitem__(self, number: int) -> list[ViewTargets]:
            return [self.change(view) for view in super().__getitem__(number)]

    def only_wall(view: ViewTargets) -> ViewTargets:
        return replace(view, scores=np.tile(np.array([0.9, 0.1, 0, 0], np.float32), (len(view), 1)))

    for name, change, message in (
        ("one", only_wall, r"only wall \(\d+ points\) of wall, floor.* a student needs two"),
        ("ignored", lambda view: replace(view, scores=np.zeros_like(view.scores)), "none has a label.*class map ignores"),
        ("edge", lambda view: replace(view, edge=np.ones(len(view), bool)), "none has a label.*jumps in depth"),
        ("classes", lambda view: replace(view, scores=view.scores[:, :3]), "score 3 classes, the class map has 4"),
        ("none", lambda view: replace(view, scores=None), "no class scores"),
        ("doubtful", lambda view: replace(view, scores=view.scores * 0.1 + 0.2), "none has a label.*never sure"),
    ):
        with pytest.raises(XkdError, match=message) as error:
            make(tmp_path / name, frames, Changed(change))
        assert "\n" not in str(error.value) and not (tmp_path / name / "pseudo" / "manifest.json").exists()
    with pytest.raises(XkdError, match="no camera sees a point"):
        empty = Targets(frames)
        empty.__class__ = type("Empty", (Targets,), {"__getitem__": lambda self, number: []})
        make(tmp_path / "empty", frames, empty)
    with pytest.raises(XkdError, match="features but no class scores"):
        make(tmp_path / "features", frames, Targets(frames, label_set=None))
    with pytest.raises(ConfigError, match="made from other frames"):
        make(tmp_path / "stale", frames, Targets(frames, frames_hash="old"))
    validation = Frames()
    validation._frames = [replace(frame, split="val") for frame in validation._frames]
    with pytest.raises(XkdError, match="none of the 18 frames is for training"):
        make(tmp_path / "val", validation)


def test_truth_is_mapped_by_name() -> None:
    assert truth_map(INDOOR12.names, STRUCT4)[[0, 1, 5, 10, 255]].tolist() == [0, 1, 0, 3, 255]
    assert truth_map(("floor", "wall"), STRUCT4)[[0, 1, 2]].tolist() == [1, 0, 255]
    with pytest.raises(ConfigError, match="true labels know 'door'"):
        truth_map(("door",), STRUCT4)


class Horizon:
    """Says floor below the middle row of the image and ceiling above it, less surely near it."""

    name, feature_width, label_set, class_hash, fingerprint = "horizon", 0, STRUCT4, "map", "1"

    def look(self, rgb: np.ndarray, uv_px: np.ndarray) -> Glance:
        below = uv_px[:, 1] - rgb.shape[0] / 2
        floor = 1 / (1 + np.exp(-below / 16))
        scores = np.stack([0 * floor, floor, 1 - floor, 0 * floor], 1).astype(np.float32)
        return Glance(None, scores, np.abs(below) > 3)


def real_frames(folder: Path, count: int = 14) -> FrameStore:
    """A robot turns in a room of floor and ceiling; its camera looks ahead."""
    rng = np.random.default_rng(2)
    places = np.concatenate([np.stack([*rng.uniform(-4, 4, (2, 1500)), np.full(1500, z)], 1) for z in (-1.02, 1.53)])
    truth = np.repeat([1, 2], 1500).astype(np.uint8)
    optical = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
    matrix = [240.0, 0, 319.5, 0, 240.0, 239.5, 0, 0, 1]
    camera = CameraConfig(name="front", topic="/image", width=640, height=480, K=matrix, cam_from_lidar=optical.ravel().tolist())
    rig = RigConfig(name="cart", lidar=LidarConfig(topic="/points"), cameras=[camera])
    png = cv2.imencode(".png", np.zeros((480, 640, 3), np.uint8))[1].tobytes()
    drafts = []
    for step in range(count):
        pose = se3.make_transform(se3.rotation_from_rpy(0, 0, 0.25 * step), [5 + 0.02 * step, 0, 1])
        points = to_millimetres(se3.apply(se3.invert(pose), places + [5, 0, 1]))
        drafts.append(Draft(step * 10**8, points, None, truth, np.eye(3), pose, 0.5, (Picture(0, optical, 10**6, png),)))
    save_shard(shard_folder(folder, 0), drafts, {})
    entry = ShardEntry.model_validate_json(
        (shard_folder(folder, 0) / SUMMARY_NAME).read_text().partition('"shard": ')[2].rpartition("}")[0]
    )
    source = SourceEntry(
        name="walk", bag="walk", sha256="0", rig="cart", points_topic="/points", scans=count, pairs=count, frames=count, deskewed=0,
        truth=STRUCT4.names,
    )  # fmt: skip
    entries = tuple(FrameEntry(stamp_ns=draft.stamp_ns, source="walk", split="train", points=3000, views=1) for draft in drafts)
    manifest = FrameManifest(
        plan="p", config=FrameConfig(), sources=(source,), rigs={"cart": rig}, intensity={"cart": IntensityConfig()}, shards=(entry,),
        frames=entries,
    )  # fmt: skip
    save_manifest(manifest, folder)
    return FrameStore(folder)


def test_with_the_real_stores(tmp_path: Path) -> None:
    frames = real_frames(tmp_path / "frames")
    targets = write_targets(frames, [Horizon()], tmp_path / "targets")
    store = write_pseudo_labels(frames, targets, tmp_path / "pseudo", PseudoConfig(drop_edges=False))
    summary = score_against_truth(frames, store, "train").summary()
    assert summary["in_view"]["accuracy"] == summary["out_of_view"]["accuracy"] == 100
    assert summary["in_view"]["labelled"] > 60 and summary["out_of_view"]["labelled"] > 15
    assert LabelStore(tmp_path / "pseudo", frames.hash).hash == store.hash
    again = write_targets(frames, [type("Other", (Horizon,), {"fingerprint": "2"})()], tmp_path / "targets2")
    with pytest.raises(ConfigError, match="holds pseudo-labels of other targets"):
        write_pseudo_labels(frames, again, tmp_path / "pseudo", PseudoConfig(drop_edges=False))
    table = store.statistics("train").lines()
    assert list(itertools.compress(table, ["floor" in line for line in table])) and len(table) == 6
