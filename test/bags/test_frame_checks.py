"""Why a recording gives no frames: one line each, with what to do."""

from __future__ import annotations

import io
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xkd_ros.bags.calibration import calib
from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.frame_job import prepare_job
from xkd_ros.bags.frame_writer import write_frames
from xkd_ros.bags.inspection import inspect
from xkd_ros.bags.overlay import calib_check
from xkd_ros.bags.reader import Bag
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import BagError, CalibrationError
from xkd_ros.core.rig import LidarConfig, RigConfig, load_rig, save_rig
from xkd_ros.core.se3 import invert, make_transform, rotation_from_rpy
from xkd_ros.msgs.build import make_cloud

CONFIG = FrameConfig(shard_frames=5, learn_body_m=0.0)
HOUR_NS = 3_600_000_000_000


def prepare(bag: Path, config: FrameConfig = CONFIG, rig: Path | None = None) -> Any:
    return prepare_job([bag], config, rig, None, hashed=False)


@pytest.mark.parametrize(
    ("shift_ns", "words"),
    [
        (HOUR_NS, "begin 3.6e\\+03 s after the last scan"),
        (-HOUR_NS, "end 3.6e\\+03 s before the first scan"),
        (-80 * HOUR_NS, "end 3 days before"),
    ],
)
def test_streams_that_do_not_overlap(tmp_path: Path, room_walk: Any, shift_ns: int, words: str) -> None:
    bag = room_walk.write(tmp_path / "apart", scans=4, image_shift_ns=shift_ns)
    with pytest.raises(BagError, match=f"do not overlap in time: the stamps of /cam/image_raw {words}.*one clock"):
        prepare(bag)


def test_nothing_pairs_within_the_limit(tmp_path: Path, room_walk: Any) -> None:
    bag = room_walk.write(tmp_path / "late", scans=8, image_shift_ns=20_000_000)
    with pytest.raises(BagError, match="nothing pairs: 0 pairs of 8 scans: image stamps are 40 ms ahead of the scans; raise"):
        prepare(bag, FrameConfig(max_dt_ms=5))


@pytest.mark.parametrize("yaw", [0.0, -2.0])
def test_an_inverted_extrinsic_is_named(tmp_path: Path, room_walk: Any, yaw: float) -> None:
    """The inverse of an upright camera's extrinsic sees points too, with the picture on its side."""
    good = make_transform(room_walk.cam_from_lidar[:3, :3] @ rotation_from_rpy(0, 0, yaw), [0.0, 0.1, 0.3])
    bag = room_walk.write(tmp_path / "walk", scans=4)
    rig = calib(bag, tmp_path / "rig.yaml")
    rig.cameras[0].cam_from_lidar = good.reshape(-1).tolist()
    save_rig(rig, tmp_path / "rig.yaml")
    assert prepare(bag, rig=tmp_path / "rig.yaml").frames == 4
    assert calib_check(bag, tmp_path / "rig.yaml", tmp_path / "overlay.png")[0].problem == ""
    assert inspect(bag, rig=tmp_path / "rig.yaml").can_train
    rig.cameras[0].cam_from_lidar = invert(good).reshape(-1).tolist()
    save_rig(rig, tmp_path / "rig.yaml")
    with pytest.raises(CalibrationError, match=r"the extrinsic looks inverted: give cam_from_lidar, not lidar_from_cam"):
        prepare(bag, rig=tmp_path / "rig.yaml")
    (check,) = calib_check(bag, tmp_path / "rig.yaml", tmp_path / "overlay.png")
    assert "looks inverted" in check.problem and (tmp_path / "overlay.png").is_file()
    report = inspect(bag, rig=tmp_path / "rig.yaml")
    assert not report.can_train and any("looks inverted" in note for note in report.notes)
    assert prepare(bag, CONFIG.model_copy(update={"check_view": False}), tmp_path / "rig.yaml").frames == 4


def test_almost_nothing_in_view_while_the_inverse_shows_much(room_walk: Any) -> None:
    from xkd_ros.bags.frame_checks import check_view
    from xkd_ros.core.rig import CameraConfig

    rng = np.random.default_rng(0)
    # A lidar that only looks forward: with the inverse extrinsic nothing of it is in the picture.
    ahead = np.column_stack([rng.uniform(3, 8, 500), rng.uniform(-1, 1, (500, 2))]).astype(np.float32)
    up = [np.array([0.0, 0, 1])]
    camera = room_walk.camera
    config = {"name": "cam", "topic": "/c", "width": camera.width, "height": camera.height, "K": camera.K.reshape(-1).tolist()}

    def check(transform: np.ndarray, points: np.ndarray) -> str:
        made = CameraConfig.model_validate(config | {"cam_from_lidar": transform.reshape(-1).tolist()})
        return str(check_view([points], up, made, 0.3, "walk"))

    good = room_walk.cam_from_lidar
    assert check(good, ahead) == "None"
    assert "sees 0.0% of the points, with the inverse extrinsic 100%: the extrinsic looks inverted" in check(invert(good), ahead)
    backwards = make_transform(good[:3, :3] @ rotation_from_rpy(0, 0, np.pi), np.zeros(3))
    assert "all points are behind it" in check(backwards, ahead)
    aside = make_transform(good[:3, :3] @ rotation_from_rpy(0, 0, 1.4), np.zeros(3))
    assert "no point of 1 scans falls into its 32x24 picture" in check(aside, ahead)
    upside_down = make_transform(rotation_from_rpy(0, 0, np.pi) @ good[:3, :3], np.zeros(3))
    assert check(upside_down, ahead) == "None"


def test_a_rig_file_for_another_picture_size(tmp_path: Path, room_walk: Any) -> None:
    bag = room_walk.write(tmp_path / "walk", scans=4)
    rig = calib(bag, tmp_path / "rig.yaml")
    rig.cameras[0].width, rig.cameras[0].height = 64, 48
    save_rig(rig, tmp_path / "rig.yaml")
    job = prepare(bag, rig=tmp_path / "rig.yaml")
    assert job.surveys[0].source.rig.cameras[0].width == 32 and "scaled" in job.surveys[0].source.notes[0]
    rig.cameras[0].height = 64
    save_rig(rig, tmp_path / "rig.yaml")
    with pytest.raises(CalibrationError, match="not the same shape"):
        prepare(bag, rig=tmp_path / "rig.yaml")


def test_of_several_rig_files_each_recording_takes_its_own(tmp_path: Path, room_walk: Any) -> None:
    bag = room_walk.write(tmp_path / "walk", scans=4)
    rig = calib(bag, tmp_path / "a.yaml")
    rig.name, rig.lidar.topic = "other", "/elsewhere"
    save_rig(rig, tmp_path / "b.yaml")
    job = prepare_job([bag], CONFIG, [tmp_path / "a.yaml", tmp_path / "b.yaml"], None, hashed=False)
    assert job.surveys[0].source.rig.name == "walk"
    with pytest.raises(BagError, match="all fit"):
        prepare_job([bag], CONFIG, [tmp_path / "a.yaml", tmp_path / "a.yaml"], None, hashed=False)
    assert load_rig(tmp_path / "b.yaml").name == "other"


def test_a_damaged_recording_gives_what_comes_before(tmp_path: Path, room_walk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = room_walk.write(tmp_path / "walk", scans=8)
    whole = Bag.records

    def breaks(self: Bag, topics: Any = None, start_ns: int | None = None, stop_ns: int | None = None) -> Any:
        for record in whole(self, topics, start_ns, stop_ns):
            if record.stamp_ns > room_walk.start_ns + 620_000_000:
                raise BagError(f"{self.path} is damaged after 5 messages")
            yield record

    monkeypatch.setattr(Bag, "records", breaks)
    store = write_frames([bag], tmp_path / "frames", CONFIG)
    (source,) = store.manifest.sources
    assert source.scans == 6 and len(store) == 6
    assert any("is damaged after 5 messages; what comes before is used" in note for note in source.notes)


def test_scans_and_pictures_that_cannot_be_read_are_counted(tmp_path: Path, room_walk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from xkd_ros.bags import frame_source
    from xkd_ros.core.errors import CloudError, XkdError

    bag = room_walk.write(tmp_path / "walk", scans=6)
    decode, encode, calls = frame_source.decode_cloud, frame_source.encode_picture, {"scan": 0, "picture": 0}

    def bad_scan(message: Any) -> Any:
        calls["scan"] += 1
        if calls["scan"] == 8:  # the six of the sample come first
            raise CloudError("field 'x' is missing")
        return decode(message)

    def bad_picture(message: Any, *rest: Any) -> bytes:
        calls["picture"] += 1
        if calls["picture"] == 5:
            raise XkdError("picture is damaged")
        return encode(message, *rest)

    monkeypatch.setattr(frame_source, "decode_cloud", bad_scan)
    monkeypatch.setattr(frame_source, "encode_picture", bad_picture)
    store = write_frames([bag], tmp_path / "frames", CONFIG)
    skipped = store.manifest.sources[0].skipped
    assert len(store) == 4 and store.manifest.sources[0].frames == 4
    assert skipped["scan unreadable: field 'x' is missing"] == 1 and skipped["no readable picture"] == 1


def test_labels_for_nothing_are_refused(tmp_path: Path, room_walk: Any) -> None:
    bag = room_walk.write(tmp_path / "walk", scans=4)
    labels = tmp_path / "labels"
    labels.mkdir()
    np.savez(labels / "1600000000000000000.npz", indoor12=np.zeros(10, np.uint8))
    with pytest.raises(BagError, match=r"no label file in .* carries the stamp of a scan"):
        write_frames([bag], tmp_path / "frames", CONFIG, labels=labels)
    np.savez(labels / f"{room_walk.start_ns}.npz", indoor12=np.zeros(10, np.uint8))
    with pytest.raises(BagError, match="labels of another recording"):
        write_frames([bag], tmp_path / "frames", CONFIG, labels=labels)
    shutil.rmtree(labels)
    labels.mkdir()
    np.savez(labels / f"{room_walk.start_ns}.npz", indoor12=np.arange(1200) % 12)
    store = write_frames([bag], tmp_path / "frames", CONFIG, labels=labels)
    truth = store.scan(0).truth
    # Points 5 and 6 are no measurements.
    assert truth is not None and truth[:7].tolist() == [0, 1, 2, 3, 4, 7, 8] and store.scan(1).truth is None
    assert store.manifest.sources[0].truth_frames == 1 and store.manifest.labels


def _lies_about_its_size(path: Path) -> None:
    """An archive whose array says that it is larger than any memory."""
    with io.BytesIO() as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (1 << 50,)})
        content = file.getvalue() + bytes(1200)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("indoor12.npy", content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path, labels: path.write_bytes(path.read_bytes()[:200]), r"is no \.npz file"),
        (lambda path, labels: np.savez(path, indoor12=labels[:-1]), r"labels \(1199,\) points, its scan has 1200"),
        (lambda path, labels: np.savez(path, indoor12=np.where(labels == 3, 12, labels)), "holds label 12, but there are 12 classes"),
        (lambda path, labels: np.savez(path, indoor12=labels.astype(np.float32)), "as float32: labels are whole numbers"),
        (lambda path, labels: np.savez(path, strokes=labels), "the labels must be called indoor12 or struct4"),
        (lambda path, labels: _lies_about_its_size(path), "cannot be read"),
    ],
    ids=["truncated", "too few", "wrong class", "no whole numbers", "other name", "hostile size"],
)
def test_scribble_files_that_are_wrong_are_named(tmp_path: Path, room_walk: Any, spoil: Any, message: str) -> None:
    bag, labels = room_walk.write(tmp_path / "walk", scans=2), np.full(1200, 255, np.uint8)
    labels[100:150] = 3
    (tmp_path / "labels").mkdir()
    path = tmp_path / "labels" / f"{room_walk.start_ns}.npz"
    np.savez(path, indoor12=labels)
    store = write_frames([bag], tmp_path / "frames", CONFIG, labels=tmp_path / "labels")
    assert store.scan(0).truth is not None and (store.scan(0).truth != 255).sum() == 50
    spoil(path, labels)
    with pytest.raises(BagError, match=message) as error:
        write_frames([bag], tmp_path / "again", CONFIG, labels=tmp_path / "labels")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.fixture
def two_lidars(tmp_path: Path, typestore: Any, room_walk: Any) -> Path:
    """A recording of /front/points and /back/points with equal stamps and equal numbers of points."""
    with BagWriter(tmp_path / "two") as writer:
        for number in range(4):
            for seed, name in ((0, "front"), (100, "back")):
                scan = replace(room_walk.scan(seed + number), stamp_ns=room_walk.scan(number).stamp_ns, frame_id=name)
                writer.write(f"/{name}/points", make_cloud(scan, typestore.types), scan.stamp_ns)
    return tmp_path / "two"


BOTH = CONFIG.model_copy(update={"points": ("/front/points", "/back/points"), "keep_unpaired": True})


def test_labels_of_one_lidar_are_not_given_to_another(tmp_path: Path, two_lidars: Path, room_walk: Any) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    np.savez(labels / f"{room_walk.start_ns}.npz", indoor12=np.zeros(1200, np.uint8))
    with pytest.raises(BagError, match=r"of /front/points and of /back/points: .* a folder of its own, front_points and back_points"):
        write_frames([two_lidars], tmp_path / "frames", BOTH, labels=labels)
    (labels / "back_points").mkdir()
    np.savez(labels / "back_points" / f"{room_walk.start_ns}.npz", indoor12=np.full(1200, 3, np.uint8))
    store = write_frames([two_lidars], tmp_path / "frames", BOTH, labels=labels)
    assert [(source.points_topic, source.truth_frames) for source in store.manifest.sources] == [("/front/points", 0), ("/back/points", 1)]
    found = [frame.truth for frame in map(store.scan, range(len(store))) if frame.truth is not None]
    assert [set(truth.tolist()) for truth in found] == [{3}]


def test_a_single_rig_file_counts_whatever_its_topic(tmp_path: Path, two_lidars: Path, room_walk: Any) -> None:
    walks = [room_walk.write(tmp_path / "walk", scans=4), two_lidars]
    rig = calib(walks[0], tmp_path / "rig.yaml")
    rig.name, rig.lidar.topic, rig.lidar.rpy_deg = "mine", "/before_remapping", (1.0, 2.0, 0.0)
    save_rig(rig, tmp_path / "rig.yaml")
    chosen = prepare(walks[0], CONFIG.model_copy(update={"points": ("/points",)}), tmp_path / "rig.yaml").surveys[0].source
    assert (chosen.rig.name, chosen.rig.lidar.topic, chosen.rig.lidar.rpy_deg) == ("mine", "/points", (1.0, 2.0, 0.0))
    # Whose mounting it would be of two lidars, nothing tells.
    for survey in prepare(two_lidars, BOTH, tmp_path / "rig.yaml").surveys:
        assert survey.source.rig.lidar.rpy_deg is None
        assert f"no rig file is of {survey.source.rig.lidar.topic}: mine not used" in survey.source.notes


def test_one_rig_file_for_recordings_of_other_topics(tmp_path: Path, typestore: Any, room_walk: Any) -> None:
    bags = [tmp_path / "a", tmp_path / "b"]
    for bag in bags:
        with BagWriter(bag) as writer:
            for scan in map(room_walk.scan, range(4)):
                writer.write(f"/{bag.name}/points", make_cloud(scan, typestore.types), scan.stamp_ns)
    save_rig(RigConfig(name="mine", lidar=LidarConfig(topic="/points")), tmp_path / "rig.yaml")
    job = prepare_job(bags, CONFIG.model_copy(update={"keep_unpaired": True}), tmp_path / "rig.yaml", None, hashed=False)
    assert [survey.source.rig.lidar.topic for survey in job.surveys] == ["/a/points", "/b/points"]


def test_no_recording_at_all(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="no recording was given"):
        write_frames([], tmp_path / "frames", CONFIG)
