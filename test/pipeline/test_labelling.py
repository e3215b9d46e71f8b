"""Labelling offline: nothing of the original is lost, every readable cloud gets its labels, the rest is named."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xkd_ros.bags.calibration import read_calibration
from xkd_ros.bags.label_import import import_labels, stamp_of
from xkd_ros.bags.ply import read_ply
from xkd_ros.bags.reader import Bag
from xkd_ros.bags.ros2_form import jazzy as ros2_store
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import BagError, ModelError
from xkd_ros.core.labels import INDOOR12
from xkd_ros.core.rig import LidarConfig
from xkd_ros.msgs.build import make_cloud
from xkd_ros.msgs.layout import CloudLayout
from xkd_ros.pipeline.labelling import OUTPUT_TOPIC, label_bag
from xkd_ros.points.levelling_filter import LevellingFilter
from xkd_ros.runtime.segmenter import Segmenter
from xkd_ros.worlds.simulate import simulate

from .conftest import STAMP_NS, room


def test_copies_everything_and_adds_labels(small_bag: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "labelled.mcap"
    label_bag(small_bag, out, tiny_model, pictures=tmp_path / "pictures", backend="torch", threads=1)
    with Bag(small_bag) as before, Bag(out) as after:
        originals = [(r.topic, r.stamp_ns, bytes(r.raw)) for r in before.records()]
        kept = [(r.topic, r.stamp_ns, bytes(r.raw)) for r in after.records() if r.topic != OUTPUT_TOPIC]
        assert originals == kept
        clouds = [message for _, _, message in after.messages([OUTPUT_TOPIC])]
    assert len(clouds) == 3 and len(list((tmp_path / "pictures").glob("*.png"))) == 3
    layout = CloudLayout.read(clouds[1])
    labels = np.asarray(layout.values(layout.find("label"))).ravel()
    scan = room(1)
    expected = Segmenter.load(tiny_model, "torch", threads=1).segment(scan.points_m, scan.intensity)
    assert np.array_equal(labels, expected.labels)
    assert (labels[::100] == 255).all() and (labels[1::100] == 255).all() and (labels != 255).sum() == 3000 - 60


def test_scans_as_ply_come_back_as_labels(small_bag: Path, tiny_model: Path, tmp_path: Path) -> None:
    """What an editor opens is what `--labels` reads: same points, same labels; non-returns are not among them."""
    label_bag(small_bag, tmp_path / "out", tiny_model, backend="torch", threads=1, ply=tmp_path / "clouds")
    files = sorted((tmp_path / "clouds").iterdir())
    assert len(files) == 3 and all(stamp_of(file) == int(file.stem) for file in files)
    for number, file in enumerate(files):
        scan = room(number)
        expected = Segmenter.load(tiny_model, "torch", threads=1).segment(scan.points_m, scan.intensity)
        table = read_ply(file)
        assert len(table["x"]) == 3000 - 60 and set(table) >= {"red", "green", "blue", "label", "probability", "intensity"}
        colours = np.stack([table[name] for name in ("red", "green", "blue")], axis=1)
        assert (colours == INDOOR12.palette[table["label"]]).all()
        assert np.array_equal(table["probability"], expected.probability[expected.labels != 255])
        assert np.array_equal(import_labels(file, scan.points_m), expected.labels)


def test_scans_as_semantic_kitti_hold_the_labels_of_the_cloud(small_bag: Path, tiny_model: Path, tmp_path: Path) -> None:
    label_bag(small_bag, tmp_path / "out", tiny_model, backend="torch", threads=1, kitti=tmp_path / "set")
    with Bag(tmp_path / "out") as after:
        clouds = [CloudLayout.read(message) for _, _, message in after.messages([OUTPUT_TOPIC])]
    sequence = tmp_path / "set" / "sequences" / "00"
    assert len(list((sequence / "velodyne").iterdir())) == len(list((sequence / "labels").iterdir())) == len(clouds) == 3
    for number, layout in enumerate(clouds):
        labels = np.asarray(layout.values(layout.find("label"))).ravel()
        points = np.stack([np.asarray(layout.values(layout.find(axis))).ravel() for axis in "xyz"], axis=1)
        ids = np.fromfile(sequence / "labels" / f"{number:06d}.label", np.uint32) & 0xFFFF
        rows = np.fromfile(sequence / "velodyne" / f"{number:06d}.bin", np.float32).reshape(-1, 4)
        assert len(ids) == 3000 - 60 and np.array_equal(ids, labels[labels != 255] + 1)
        assert np.array_equal(rows[:, :3], points[labels != 255]) and 0 <= rows[:, 3].min() <= rows[:, 3].max() <= 1
    with pytest.raises(BagError, match="exists already"):
        label_bag(small_bag, tmp_path / "again", tiny_model, backend="torch", threads=1, kitti=tmp_path / "set")
    assert not (tmp_path / "again").exists()


def test_a_lidar_on_its_side_is_labelled_as_one_that_stands(tiny_model: Path, tmp_path: Path) -> None:
    simulate(3, "dual_ouster16_vertical", 0.2, tmp_path / "bag")
    label_bag(tmp_path / "bag", tmp_path / "out.mcap", tiny_model, backend="torch", threads=1)
    with Bag(tmp_path / "bag") as bag, Bag(tmp_path / "out.mcap") as after:
        (scan, *_), (message, *_) = list(bag.scans()), [message for _, _, message in after.messages([OUTPUT_TOPIC])]
        mounting = read_calibration(bag).rig.lidar.rotation()
    assert mounting is not None and abs(mounting[2, 2]) < 0.1
    layout = CloudLayout.read(message)
    labels = np.asarray(layout.values(layout.find("label"))).ravel()
    segmenter = Segmenter.load(tiny_model, "torch", threads=1)
    rotation = LevellingFilter(mounting=mounting).update(scan.points_m).rotation
    assert np.array_equal(labels, segmenter.segment(scan.points_m, scan.intensity, rotation).labels)
    assert (labels != segmenter.segment(scan.points_m, scan.intensity).labels).any()


@pytest.mark.parametrize("share", [0.55, 0.8])
def test_what_comes_before_damage_is_labelled_and_kept(small_bag: Path, tiny_model: Path, tmp_path: Path, share: float) -> None:
    with Bag(small_bag) as bag:
        sound = int(share * len(list(bag.records())))

    class Breaks(Bag):
        def records(self, *arguments: Any, **named: Any) -> Any:
            yield from islice(Bag.records(self, *arguments, **named), sound)
            raise BagError("the disk has a hole")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xkd_ros.pipeline.labelling.open_recording", Breaks)
        patch.setattr(
            "xkd_ros.pipeline.labelling.read_calibration",
            lambda *_: SimpleNamespace(rig=SimpleNamespace(lidar=LidarConfig(topic="/points"))),
        )
        with pytest.raises(BagError, match=r"a hole; .*out\.mcap holds the [12] scans before it"):
            label_bag(small_bag, tmp_path / "out.mcap", tiny_model, backend="torch", threads=1)
    with Bag(tmp_path / "out.mcap") as after:
        assert after.topics[OUTPUT_TOPIC].count in (1, 2)


def test_poses_of_a_recording_without_transforms_need_the_mounting(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate(61, "ouster16", 0.6, tmp_path / "walk", pictures=False)
    with Bag(tmp_path / "walk") as bag, BagWriter(tmp_path / "bare") as writer:
        for record in bag.records():
            if record.topic != "/tf_static":
                writer.copy(record)

    def poses(bag: str, rig: Path | None = None) -> np.ndarray | None:
        label_bag(tmp_path / bag, tmp_path / f"{bag}-out", tiny_model, backend="torch", threads=1, kitti=tmp_path / "set", rig=rig)
        path = tmp_path / "set" / "sequences" / "00" / "poses.txt"
        found = np.loadtxt(path).reshape(-1, 3, 4) if path.exists() else None
        for folder in ("set", f"{bag}-out"):
            shutil.rmtree(tmp_path / folder)
        return found

    assert poses("bare") is None and "give rpy_deg in a rig file" in " ".join(capsys.readouterr().out.split())
    (tmp_path / "rig.yaml").write_text("name: bare\nlidar: {topic: /points, rpy_deg: [0, 0, 0]}\ncameras: []\n")
    level, recorded = poses("bare", tmp_path / "rig.yaml"), poses("walk")
    assert level is not None and recorded is not None and np.allclose(level[0], np.eye(4)[:3]) and len(level) == len(recorded) == 6
    (tmp_path / "rig.yaml").write_text("name: bare\nlidar: {topic: /points, rpy_deg: [0, 0, 90]}\ncameras: []\n")
    turned = poses("bare", tmp_path / "rig.yaml")
    assert turned is not None and np.linalg.norm(level[-1, :, 3]) > 0.05
    assert np.allclose(turned[:, :2, 3], np.stack([level[:, 1, 3], -level[:, 0, 3]], axis=1), atol=1e-6)


def test_an_unreadable_cloud_is_named_and_the_rest_labelled(
    small_bag: Path, tiny_model: Path, tmp_path: Path, typestore: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = make_cloud(room(9), typestore.types)
    broken.point_step = 3
    with Bag(small_bag) as bag, BagWriter(tmp_path / "mixed") as writer:
        for record in bag.records():
            writer.copy(record)
        writer.write("/points", broken, STAMP_NS + 10**9)
    label_bag(tmp_path / "mixed", tmp_path / "out", tiny_model, backend="torch", threads=1)
    with Bag(tmp_path / "out") as after:
        assert after.topics[OUTPUT_TOPIC].count == 3 and after.topics["/points"].count == 4
    assert "1 clouds of /points not labelled" in " ".join(capsys.readouterr().out.split())


def test_folder_of_clouds(tiny_model: Path, tmp_path: Path) -> None:
    points = room(0).points_m[2:50]
    lines = ["ply", "format ascii 1.0", f"element vertex {len(points)}", *(f"property float {a}" for a in "xyz"), "end_header"]
    folder = tmp_path / "clouds"
    folder.mkdir()
    (folder / "000.ply").write_text("\n".join([*lines, *(" ".join(map(str, point)) for point in points)]) + "\n")
    label_bag(folder, tmp_path / "out", tiny_model, backend="torch", threads=1)
    with Bag(tmp_path / "out") as after:
        assert after.topics[OUTPUT_TOPIC].count == 1


def test_livox_points_become_a_labelled_cloud(tiny_model: Path, tmp_path: Path) -> None:
    """From a bag that defines nothing but Livox's own types; the copy of the CustomMsg has the recorded bytes."""
    store = ros2_store()
    scan = room(0)
    names = ("livox_ros_driver2/msg/CustomMsg", "livox_ros_driver2/msg/CustomPoint")
    values = np.random.default_rng(0).integers(0, 99, (len(scan), 4))
    points = [
        store.types[names[1]](int(time), *map(float, point), int(strength), int(tag), int(line))
        for point, (time, strength, tag, line) in zip(scan.points_m, values)
    ]
    header = make_cloud(scan, store.types).header
    with BagWriter(tmp_path / "livox") as writer:
        writer.write("/livox/lidar", store.types[names[0]](header, 0, len(scan), 1, np.zeros(3, np.uint8), points), STAMP_NS)
    label_bag(tmp_path / "livox", tmp_path / "out", tiny_model, backend="torch", threads=1)
    with Bag(tmp_path / "livox") as before, Bag(tmp_path / "out") as after:
        assert [bytes(r.raw) for r in before.records()] == [bytes(r.raw) for r in after.records(["/livox/lidar"])]
        cloud = after.first(OUTPUT_TOPIC)
    layout = CloudLayout.read(cloud)
    expected = Segmenter.load(tiny_model, "torch", threads=1).segment(scan.points_m, values[:, 1].astype(np.float32))
    columns = {name: np.asarray(layout.values(layout.find(name))).ravel() for name in ("x", "label", "ring", "tag", "time", "intensity")}
    assert np.array_equal(columns["label"], expected.labels) and np.array_equal(columns["x"], scan.points_m[:, 0], equal_nan=True)
    assert all(np.array_equal(columns[name], values[:, at]) for name, at in (("intensity", 1), ("tag", 2), ("ring", 3)))
    np.testing.assert_allclose(columns["time"], values[:, 0] * 1e-9, rtol=1e-6)


def test_what_was_labelled_is_not_labelled_again(small_bag: Path, tiny_model: Path, tmp_path: Path) -> None:
    label_bag(small_bag, tmp_path / "once", tiny_model, backend="torch", threads=1)
    with pytest.raises(BagError, match="already has"):
        label_bag(tmp_path / "once", tmp_path / "twice", tiny_model, backend="torch", threads=1)
    assert not (tmp_path / "twice").exists()


def test_missing_model_and_topic(small_bag: Path, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        label_bag(small_bag, tmp_path / "out", tmp_path / "nowhere")
    with pytest.raises(BagError, match="/points"):
        label_bag(small_bag, tmp_path / "out", tiny_model, topic="/poinst", backend="torch")
