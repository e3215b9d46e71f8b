"""Simulated recordings: ordinary bags, true labels in cloud order, calibration that fits, the same bytes every time."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xkd_ros.core.errors import BagError, ConfigError
from xkd_ros.core.labels import INDOOR12
from xkd_ros.core.rig import load_rig, save_rig
from xkd_ros.core.se3 import apply, invert
from xkd_ros.msgs.camera_info import camera_from_info
from xkd_ros.msgs.cloud import decode_cloud
from xkd_ros.msgs.image import decode_image
from xkd_ros.msgs.transform_tree import TransformTree
from xkd_ros.worlds.building import make_building
from xkd_ros.worlds.raycaster import Raycaster
from xkd_ros.worlds.simulate import simulate
from xkd_ros.worlds.simulated_rig import SimulatedRig, load_simulated_rig, rig_names
from xkd_ros.worlds.walkthrough import Walkthrough, family_of, split_of

SEED = 75
SECONDS = 0.3


def read(folder: Path, typestore: Any) -> dict[str, list[Any]]:
    """Read a whole bag with plain rosbags: messages by topic."""
    from rosbags.highlevel import AnyReader

    found: dict[str, list[Any]] = {}
    with AnyReader([folder], default_typestore=typestore) as reader:
        for connection, _, raw in reader.messages():
            found.setdefault(connection.topic, []).append(reader.deserialize(raw, connection.msgtype))
    return found


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name in ("ouster16", "vlp32"):
        made[name] = tmp_path_factory.mktemp(name) / "walk"
        simulate(SEED, name, SECONDS, made[name])
    return made


@pytest.mark.parametrize("name", ["ouster16", "vlp32"])
def test_bag_opens_with_rosbags_and_labels_follow_the_cloud(recordings: dict[str, Path], name: str, typestore: Any) -> None:
    folder = recordings[name]
    messages = read(folder, typestore)
    rig = load_simulated_rig(name).rig
    clouds = messages[rig.lidar.topic]
    assert len(clouds) == 3
    truth = json.loads((folder / "truth.json").read_text())
    assert truth["split"] == "test" and truth["family"] == "test" and truth["scans"] == 3 and len(truth["class_names"]) == 12
    for message in clouds:
        scan = decode_cloud(message)
        with np.load(folder / "truth" / f"{scan.stamp_ns}.npz") as true:
            labels, pose = true["labels"], true["world_from_lidar"]
        assert labels.dtype == np.uint8 and len(labels) == len(scan) == message.width * message.height
        known = labels != 255
        assert known.mean() > 0.7
        # Floor points lie on the floor and ceilings overhead, in this very order.
        height = apply(pose, scan.points_m.astype(float))[:, 2]
        assert np.abs(np.median(height[labels == 1])) < 0.03
        assert height[labels == 2].min() > 1.8
        empty = ~scan.points_m.any(1)
        assert not known[empty].any()


def test_fields_are_those_of_the_drivers(recordings: dict[str, Path], typestore: Any) -> None:
    ouster = read(recordings["ouster16"], typestore)["/ouster/points"][0]
    assert {f.name: f.datatype for f in ouster.fields} == {
        "x": 7, "y": 7, "z": 7, "intensity": 7, "t": 6, "reflectivity": 4, "ring": 2, "noise": 4, "range": 6,
    }  # fmt: skip
    assert (ouster.height, ouster.width) == (16, 1024)
    messages = read(recordings["vlp32"], typestore)
    velodyne = messages["/velodyne_points"][0]
    assert [f.name for f in velodyne.fields] == ["x", "y", "z", "intensity", "ring", "time"]
    assert velodyne.height == 1 and 20_000 < velodyne.width <= 32 * 1800
    picture = messages["/camera/left/image_raw/compressed"][0]
    assert "jpeg" in picture.format and decode_image(picture).rgb.shape == (512, 640, 3)


def test_pictures_have_stamps_of_their_own(recordings: dict[str, Path], typestore: Any) -> None:
    messages = read(recordings["ouster16"], typestore)
    scans = [decode_cloud(m).stamp_ns for m in messages["/ouster/points"]]
    images = [decode_image(m) for m in messages["/camera/image_raw"]]
    late = [image.stamp_ns - scan for image, scan in zip(images, scans, strict=True)]
    assert all(2_000_000 < dt < 33_000_000 for dt in late)
    assert images[0].rgb.shape == (480, 640, 3) and images[0].rgb.std() > 15
    assert len(messages["/camera/camera_info"]) == len(images) and len(messages["/odom"]) >= 10


@pytest.mark.parametrize("name", ["ouster16", "vlp32"])
def test_points_fall_where_the_camera_sees_them(recordings: dict[str, Path], name: str, typestore: Any) -> None:
    """Project the bag's points with the bag's own calibration, and compare their distance with the rendered one."""
    messages = read(recordings[name], typestore)
    setup = load_simulated_rig(name)
    config = setup.rig.cameras[0]
    info_topic = next(topic for topic in messages if topic.endswith("camera_info"))
    camera = camera_from_info(messages[info_topic][0])
    tree = TransformTree()
    tree.add_message(messages["/tf_static"][0])
    scan = decode_cloud(messages[setup.rig.lidar.topic][0])
    with np.load(recordings[name] / "truth" / f"{scan.stamp_ns}.npz") as true:
        labels = true["labels"]
    walk = Walkthrough(SEED, setup, SECONDS)
    picture = walk.picture(0, 0)
    assert decode_image(messages[config.topic][0]).rgb.mean() == pytest.approx(picture.rgb.mean(), abs=1.0)  # the same walk
    # The lidar turns for 100 ms, the picture is taken at one moment: bring every point to that moment.
    assert scan.time_s is not None
    lidar_then = invert(walk.world_from_lidar(walk.picture_time_s(0, 0)))
    still = np.concatenate([apply(lidar_then @ walk.world_from_lidar(float(t)), scan.points_m[scan.time_s == t].astype(float))
                            for t in np.unique(scan.time_s)])  # fmt: skip
    true_labels = np.concatenate([labels[scan.time_s == t] for t in np.unique(scan.time_s)])
    for points, classes, worst_m in ((still, true_labels, 0.03), (scan.points_m.astype(float), labels, 0.12)):
        points = apply(tree.lookup(config.frame_id, scan.frame_id), points)
        uv, inside = camera.project(points)
        solid = inside & (classes != 255) & (classes != 4)
        column, row = np.rint(uv[solid]).astype(int).T
        error = np.abs(np.linalg.norm(points[solid], axis=1) - picture.distance_m[row, column])
        assert solid.sum() > 1500
        assert np.median(error) < worst_m
        assert (picture.labels[row, column] == classes[solid]).mean() > 0.8


def test_the_same_call_writes_the_same_bytes(recordings: dict[str, Path], tmp_path: Path) -> None:
    again = tmp_path / "walk"
    simulate(SEED, "ouster16", SECONDS, again)

    def digest(folder: Path) -> dict[str, str]:
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    assert digest(again) == digest(recordings["ouster16"])


def test_any_number_of_processes_writes_the_same_bytes(tmp_path: Path) -> None:
    for processes in (1, 2):
        simulate(SEED, "vlp32", 1.3, tmp_path / str(processes) / "walk", processes=processes)
    one, two = (tmp_path / str(processes) / "walk" / "walk.mcap" for processes in (1, 2))
    assert one.read_bytes() == two.read_bytes() and one.stat().st_size > 1e6


def blind(rig: SimulatedRig) -> SimulatedRig:
    """Take the cameras off: rendering is not needed everywhere."""
    return replace(rig, rig=rig.rig.model_copy(update={"cameras": []}))


def test_nobody_walks_through_walls() -> None:
    walk = Walkthrough(SEED, blind(load_simulated_rig("ouster16")), 12.0)
    caster = Raycaster(make_building(SEED).mesh)
    moments = np.arange(0, 12.0, 0.1)
    rig = walk.trajectory.at(moments)[:, :2]
    ways = [rig] + [np.array([walk.crowd.at(t)[-1 - k].__dict__[axis] for t in moments for axis in ("x_m", "y_m")]).reshape(-1, 2)
                    for k in range(walk.crowd.walkers)]  # fmt: skip
    assert walk.crowd.walkers >= 1
    for way in ways:
        assert walk.building.is_free(way).all()
        step = np.diff(way, axis=0)
        length = np.hypot(*step.T)
        assert length.max() < 0.25 and length.sum() > 2.0
        moving = length > 1e-3
        for height in (0.4, 1.2):
            origins = np.column_stack([way[:-1], np.full(len(step), height)])[moving].astype(np.float32)
            rays = np.column_stack([step / np.maximum(length, 1e-9)[:, None], np.zeros(len(step))])[moving].astype(np.float32)
            assert (caster.cast(origins, rays).distance_m > length[moving]).all()
    for way in ways[1:]:
        assert np.hypot(*(way - rig).T).min() > 0.5


def test_more_walkers_are_asked_for(tmp_path: Path) -> None:
    """Two are the default; more of them walk, are seen, and stand in truth.json."""
    walkers, seen = [], []
    for asked in (0, 2, 12):
        folder = tmp_path / str(asked)
        summary = simulate(SEED, "ouster16", 0.4, folder, pictures=False, walkers=asked)
        assert json.loads((folder / "truth.json").read_text())["walkers"] == summary.walkers
        walkers.append(summary.walkers)
        labels = [np.load(path)["labels"] for path in sorted((folder / "truth").glob("*.npz"))]
        seen.append(sum(int((scan == INDOOR12.names.index("person")).sum()) for scan in labels))
    assert walkers[0] + 1 <= walkers[1] <= walkers[0] + 2 and walkers[1] + 7 <= walkers[2] <= walkers[1] + 10
    assert seen[2] > seen[0] + 200
    with pytest.raises(ConfigError, match="walkers"):
        simulate(SEED, "ouster16", 0.4, tmp_path / "many", walkers=100_000)


def test_walkers_of_another_process_are_the_same(tmp_path: Path) -> None:
    for processes in (1, 2):
        simulate(SEED, "vlp32", 1.3, tmp_path / str(processes) / "walk", processes=processes, pictures=False, walkers=6)
    one, two = (tmp_path / str(processes) / "walk" / "walk.mcap" for processes in (1, 2))
    assert one.read_bytes() == two.read_bytes()


def test_splits_and_families() -> None:
    assert [split_of(s) for s in (0, 59, 60, 74, 75, 99, 100)] == ["train", "train", "val", "val", "test", "test", "extra"]
    assert [family_of(s) for s in (0, 60, 99, 2000)] == ["train", "test", "test", "train"]


def test_wrong_requests_say_what_to_do(recordings: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ouster16, vlp32"):
        simulate(SEED, "ouster17", 1, tmp_path / "walk")
    with pytest.raises(BagError, match="exists already"):
        simulate(SEED, "ouster16", 1, recordings["ouster16"])
    with pytest.raises(ConfigError, match="is a folder"):
        simulate(SEED, "ouster16", 1, tmp_path / "walk.mcap")
    with pytest.raises(ConfigError, match="seconds"):
        simulate(SEED, "ouster16", 0, tmp_path / "walk")
    with pytest.raises(ConfigError, match="teach2d"):
        simulate(SEED, "ouster16", 1, tmp_path / "walk", family="real")
    assert not list(tmp_path.iterdir())


def test_interrupted_simulation_leaves_nothing(tmp_path: Path) -> None:
    rig = tmp_path / "blind.yaml"
    save_rig(blind(load_simulated_rig("vlp32")).rig, rig)

    def stop(done: int, *_: Any) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(SEED, rig, 1, tmp_path / "walk", stop)
    assert [path.name for path in tmp_path.iterdir()] == ["blind.yaml"]


def test_own_rig_files_can_be_simulated(tmp_path: Path) -> None:
    assert set(rig_names()) >= {"ouster16", "vlp32"}
    rig = blind(load_simulated_rig("ouster16")).rig
    save_rig(rig.model_copy(update={"name": "mine"}), tmp_path / "mine.yaml")
    assert load_rig(tmp_path / "mine.yaml").name == "mine"
    summary = simulate(80, tmp_path / "mine.yaml", 0.2, tmp_path / "walk")
    assert summary.rig == "mine" and summary.images == 0 and summary.scans == 2
