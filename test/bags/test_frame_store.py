"""The frame store: what went in comes out, interrupted writes go on, and nothing half-written or damaged is taken for whole."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xkd_ros.bags import frame_store
from xkd_ros.bags.array_file import open_array
from xkd_ros.bags.frame import View
from xkd_ros.bags.frame_config import FrameConfig
from xkd_ros.bags.frame_store import FrameStore
from xkd_ros.bags.frame_writer import estimate_size, write_frames
from xkd_ros.bags.writer import BagWriter
from xkd_ros.core.errors import BagError, CalibrationError
from xkd_ros.core.rig import LidarConfig, RigConfig, save_rig
from xkd_ros.core.se3 import apply, invert, rotation_from_rpy
from xkd_ros.core.types import Scan
from xkd_ros.msgs.build import make_cloud

CONFIG = FrameConfig(shard_frames=5, gap_s=0.15, learn_body_m=0.0)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, room_walk: Any) -> Path:
    return room_walk.write(tmp_path_factory.mktemp("walks") / "walk", scans=16)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, walk: Path) -> FrameStore:
    return write_frames([walk], tmp_path_factory.mktemp("stores") / "frames", CONFIG)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_points_come_back_to_the_millimetre_and_deskewed(store: FrameStore, room_walk: Any) -> None:
    """Every point lies where it was in the room when seen from the pose at the stamp."""
    assert len(store) == 15 or len(store) == 14
    for number in (0, 7):
        frame = store[number]
        index = (frame.stamp_ns - room_walk.start_ns) // 100_000_000
        scan = room_walk.scan(index)
        valid = np.isfinite(scan.points_m).all(1) & scan.points_m.any(1)
        assert len(frame) == valid.sum() == 1198 and frame.points_m.dtype == np.float32
        np.testing.assert_array_equal(frame.intensity, scan.intensity[valid])
        world = apply(room_walk.pose(0.1 * index), frame.points_m[:-20].astype(float))
        np.testing.assert_allclose(world, room_walk.points(index, 1200)[valid][:-20], atol=1.5e-3)
        assert frame.world_from_lidar is not None
        np.testing.assert_allclose(frame.world_from_lidar, room_walk.pose(0.1 * index), atol=1e-4)
        assert frame.turn_rate_radps == pytest.approx(0.6, abs=0.05)
        np.testing.assert_allclose(frame.levelled_from_lidar[2], [0, 0, 1], atol=0.05)
        assert frame.truth is None and frame.rig == frame.source == "walk"


def test_views_hold_the_motion_until_the_picture(store: FrameStore, room_walk: Any) -> None:
    frame = store[3]
    index = (frame.stamp_ns - room_walk.start_ns) // 100_000_000
    (view,) = frame.views
    assert view.dt_ns == 20_000_000 and view.camera_name == "cam" and view.camera.width == 32
    expected = room_walk.cam_from_lidar @ invert(room_walk.pose(0.1 * index + 0.02)) @ room_walk.pose(0.1 * index)
    np.testing.assert_allclose(view.cam_from_lidar, expected, atol=2e-4)
    assert view.rgb().shape == (24, 32, 3) and view.rgb().dtype == np.uint8
    uv_px, visible = view.see(frame.points_m)
    assert 20 < visible.sum() < len(frame) / 2 and (uv_px[visible] >= -0.5).all()
    assert store.scan(3).views == () and (store.scan(3).points_m == frame.points_m).all()


def test_what_is_too_near_for_a_camera_still_hides_what_is_behind_it(room_walk: Any) -> None:
    view = View("cam", room_walk.camera, np.eye(4), 0, b"")
    points = np.array([[0.01, 0, 0.2], [0.2, 0, 4.0], [1.5, 0.5, 4.0]], np.float32)
    assert view.see(points, min_depth_m=0.3)[1].tolist() == [False, False, True]
    assert view.see(points, min_depth_m=0.1)[1].tolist() == [True, False, True]


def test_gravity_is_found_on_top_of_the_mounting(tmp_path: Path, typestore: Any, room_walk: Any) -> None:
    """A lidar on its side, on a robot that leans."""
    mounting, lean = rotation_from_rpy(*np.radians([80.0, 10.0, 0.0])), rotation_from_rpy(0.1, -0.08, 0.0)
    with BagWriter(tmp_path / "leaning") as writer:
        for number in range(3):
            level = room_walk.points(number, 6000) - [0, 0, 1]
            scan = Scan((level @ lean.T @ mounting).astype(np.float32), None, room_walk.start_ns + number * 100_000_000, "lidar")
            writer.write("/points", make_cloud(scan, typestore.types), scan.stamp_ns)
    save_rig(RigConfig(name="lying", lidar=LidarConfig(topic="/points", rpy_deg=(80.0, 10.0, 0.0))), tmp_path / "rig.yaml")
    config = CONFIG.model_copy(update={"keep_unpaired": True})
    store = write_frames([tmp_path / "leaning"], tmp_path / "frames", config, rig=tmp_path / "rig.yaml")
    for number in range(len(store)):
        np.testing.assert_allclose(store.scan(number).levelled_from_lidar @ mounting.T @ lean @ [0, 0, 1], [0, 0, 1], atol=0.01)


def test_numbers_by_split_and_rig(store: FrameStore) -> None:
    splits = [store.numbers(split) for split in ("train", "val", "test")]
    assert sorted(np.concatenate(splits).tolist()) == list(range(len(store)))
    assert all(len(numbers) for numbers in splits) and len(splits[0]) > len(splits[1])
    stamps = [[store.scan(int(n)).stamp_ns for n in numbers] for numbers in splits]
    assert min(stamps[1]) - max(stamps[0]) >= 150_000_000, "the gap"
    assert all(store[int(n)].split == "val" for n in splits[1])
    assert len(store.numbers(rig="walk")) == len(store)
    with pytest.raises(BagError, match="no rig 'other'; it has walk"):
        store.numbers(rig="other")
    for wrong in (-1, len(store)):
        with pytest.raises(IndexError):
            store[wrong]


def test_manifest_tells_where_it_is_from(store: FrameStore) -> None:
    (source,) = store.manifest.sources
    assert source.poses == "/odom (base_link)" and source.scans == source.pairs == 16 and source.deskewed == source.frames == len(store)
    assert set(store.manifest.rigs) == set(store.manifest.intensity) == {"walk"}
    assert 100 < store.manifest.intensity["walk"].mean < 155
    assert store.manifest.count("train") == len(store.numbers("train"))
    store.verify()


def test_a_copy_in_another_process_reads_the_same(store: FrameStore) -> None:
    again = pickle.loads(pickle.dumps(store))  # noqa: S301 - what a data loader does with its own objects
    assert again.hash == store.hash and (again.scan(2).points_m == store.scan(2).points_m).all()


def test_an_interrupted_write_goes_on_and_ends_the_same(tmp_path: Path, walk: Path, store: FrameStore) -> None:
    def stop(done: int, total: int, facts: dict[str, float]) -> None:
        if done >= 10:
            raise KeyboardInterrupt

    out, work = tmp_path / "frames", tmp_path / ".frames.part"
    with pytest.raises(KeyboardInterrupt):
        write_frames([walk], out, CONFIG, progress=stop)
    assert not out.exists() and len(list((work / "shards").iterdir())) == 2
    with pytest.raises(BagError, match="not finished"):
        FrameStore(work)
    shutil.rmtree(work / "shards" / "00000")
    kept = (work / "shards" / "00001" / "frames.npy").stat().st_mtime_ns
    steps: list[tuple[int, int]] = []
    said: list[str] = []
    again = write_frames([walk], out, CONFIG, progress=lambda done, total, facts: steps.append((done, total)), announce=said.extend)
    assert said[0] == estimate_size([walk], CONFIG).lines[0] and "GB free" in said[1]
    assert (out / "shards" / "00001" / "frames.npy").stat().st_mtime_ns == kept, "what was there is not written again"
    assert again.hash == store.hash and digest(out) == digest(store.folder) and not work.exists()
    assert steps[-1][0] == steps[-1][1] == len(store)


def test_what_is_whole_is_returned_and_what_is_stale_is_refused(tmp_path: Path, walk: Path, store: FrameStore) -> None:
    before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")}
    assert write_frames([walk], store.folder, CONFIG).hash == store.hash
    assert before == {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")}
    with pytest.raises(BagError, match="other recordings, labels, calibration or settings"):
        write_frames([walk], store.folder, CONFIG.model_copy(update={"every": 2}))
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(BagError, match="is no frame store"):
        write_frames([walk], tmp_path / "letters", CONFIG)


@pytest.mark.parametrize("name", ["points_mm.npy", "frames.npy", "views.npy", "pictures.npy", "intensity.npy"])
def test_damage_is_found(tmp_path: Path, store: FrameStore, name: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(store.folder, folder)
    path = folder / "shards" / "00001" / name
    content = path.read_bytes()
    path.write_bytes(content[:-3])
    with pytest.raises(BagError, match="were written"):
        FrameStore(folder)
    path.unlink()
    with pytest.raises(BagError, match="is missing"):
        FrameStore(folder)
    # Of the right size, but promising more than it holds.
    path.write_bytes(content.replace(b"'shape': (", b"'shape': (9", 1)[: len(content)])
    damaged = FrameStore(folder)
    with pytest.raises(BagError, match="damaged"):
        damaged[6]
    with pytest.raises(BagError, match="changed since"):
        damaged.verify()


def test_offsets_beyond_the_file_are_refused(tmp_path: Path, store: FrameStore) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(store.folder, folder)
    for name, field in (("frames.npy", "count"), ("views.npy", "size")):
        path = folder / "shards" / "00000" / name
        table = np.load(path)
        good = table.copy()
        table[field][1] = 1 << 50
        np.save(path, table)
        with pytest.raises(BagError, match="outside of its own files"):
            FrameStore(folder).scan(0)
        np.save(path, good)
    FrameStore(folder).verify()


def test_manifest_that_was_touched_is_refused(tmp_path: Path, store: FrameStore) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(store.folder, folder)
    content = json.loads((folder / "manifest.json").read_text())
    for change in ({"frames": content["frames"][1:]}, {"rigs": {}}, {"format": 2}, {"extra": 1}):
        (folder / "manifest.json").write_text(json.dumps(content | change))
        with pytest.raises(BagError, match=r"manifest\.json"):
            FrameStore(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(BagError, match="is damaged"):
        FrameStore(folder)
    with pytest.raises(BagError, match="does not exist"):
        FrameStore(tmp_path / "nowhere")


def test_several_recordings_and_rigs_are_merged(tmp_path: Path, walk: Path, room_walk: Any) -> None:
    """Two drives of one rig share its name and statistics; another mounting is another rig."""
    turned = room_walk.cam_from_lidar.copy()
    turned[0, 3] += 0.05
    (tmp_path / "b").mkdir()
    bags = [walk, room_walk.write(tmp_path / "second", scans=12, count=900, jpeg=True)]
    bags.append(room_walk.write(tmp_path / "b" / "walk", scans=12, count=900, cam_from_lidar=turned))
    bags.append(room_walk.write(tmp_path / "walk_2", scans=12, count=900))
    store = write_frames(bags, tmp_path / "frames", CONFIG)
    assert [source.name for source in store.manifest.sources] == ["walk", "second", "walk_3", "walk_2"]
    assert [source.rig for source in store.manifest.sources] == ["walk", "walk", "walk_2", "walk"]
    assert len(store.numbers(rig="walk_2")) == store.manifest.sources[2].frames
    jpeg = next(store[int(n)] for n in store.numbers(rig="walk") if store.scan(int(n)).source == "second")
    assert jpeg.views[0].encoded.startswith(b"\xff\xd8")
    assert {store.scan(n).source for n in range(len(store))} == {"walk", "second", "walk_3", "walk_2"}


def test_a_recording_and_its_copy_are_refused(tmp_path: Path, walk: Path) -> None:
    copy = shutil.copytree(walk, tmp_path / "copy")
    with pytest.raises(BagError, match=r"walk and .*copy are the same recording: give it once"):
        write_frames([walk, copy], tmp_path / "frames", CONFIG)


def test_jpeg_pictures_stay_as_they_came(tmp_path: Path, room_walk: Any) -> None:
    from xkd_ros.bags.reader import Bag

    path = room_walk.write(tmp_path / "jpegs", scans=4, jpeg=True)
    with Bag(path) as bag:
        originals = [bytes(message.data) for _, _, message in bag.messages(["/cam/image_raw"])]
    store = write_frames([path], tmp_path / "frames", CONFIG)
    assert [store[n].views[0].encoded for n in range(len(store))] == originals


def test_poses_from_moving_transforms_and_without_any(tmp_path: Path, room_walk: Any) -> None:
    moving = write_frames([room_walk.write(tmp_path / "tf", scans=4, poses="tf")], tmp_path / "a", CONFIG)
    assert moving.manifest.sources[0].poses == "transform odom -> base_link" and moving.manifest.sources[0].deskewed == len(moving)
    still = write_frames([room_walk.write(tmp_path / "none", scans=4, poses="")], tmp_path / "b", CONFIG)
    assert still[0].world_from_lidar is None and still[0].turn_rate_radps is None
    assert "no poses" in still.manifest.sources[0].notes[0]
    np.testing.assert_allclose(still[0].views[0].cam_from_lidar, room_walk.cam_from_lidar, atol=1e-6)
    skewed = write_frames([tmp_path / "tf"], tmp_path / "c", CONFIG.model_copy(update={"deskew": False}))
    scan = room_walk.scan(0).points_m
    np.testing.assert_allclose(skewed.scan(0).points_m[:5], scan[:5], atol=6e-4)
    assert skewed.manifest.sources[0].deskewed == 0 and skewed.scan(0).world_from_lidar is not None


def test_the_body_is_left_out(tmp_path: Path, walk: Path) -> None:
    learnt = write_frames([walk], tmp_path / "learnt", CONFIG.model_copy(update={"learn_body_m": 1.5}))
    assert len(learnt.scan(0)) <= 1198 - 18, "the mast of 20 points"
    assert learnt.manifest.sources[0].body_points >= 18 * len(learnt)
    boxed = write_frames([walk], tmp_path / "boxed", CONFIG.model_copy(update={"body_box_m": (-0.4, 0.1, 0.1, -0.3, 0.2, 0.2)}))
    assert len(boxed.scan(0)) == 1178
    near = write_frames([walk], tmp_path / "near", CONFIG.model_copy(update={"body_radius_m": 0.6}))
    assert len(near.scan(0)) <= 1178 and np.linalg.norm(near.scan(0).points_m, axis=1).min() > 0.5


def test_every_and_unpaired_scans(tmp_path: Path, walk: Path, room_walk: Any) -> None:
    third = write_frames([walk], tmp_path / "third", CONFIG.model_copy(update={"every": 3}))
    assert len(third) == 6
    blind = room_walk.write(tmp_path / "blind", scans=4, camera=False)
    with pytest.raises(CalibrationError, match="no calibrated camera"):
        write_frames([blind], tmp_path / "x", CONFIG)
    scans = write_frames([blind], tmp_path / "scans", CONFIG.model_copy(update={"keep_unpaired": True}))
    assert len(scans) == 4 and scans[0].views == ()


def test_the_estimate_is_near(walk: Path, store: FrameStore, tmp_path: Path) -> None:
    estimate = estimate_size([walk], CONFIG, out=tmp_path / "new")
    size = sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file())
    assert estimate.frames == len(store) and estimate.pairs == 16
    assert 0.7 * size < estimate.bytes < 1.5 * size
    assert "train" in estimate.lines[0] and "GB free" in estimate.lines[1]
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, walk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(BagError, match=r"needs about .* MB, 0 MB are free"):
        write_frames([walk], tmp_path / "frames", CONFIG)


def test_names_in_a_manifest_cannot_leave_the_folder(tmp_path: Path, store: FrameStore) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(store.folder, folder)
    content = json.loads((folder / "manifest.json").read_text())
    content["shards"][0]["files"]["../../manifest.json"] = [(folder / "manifest.json").stat().st_size, "0"]
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(BagError, match="damaged"):
        FrameStore(folder)


def test_a_note_that_concerns_many_recordings_is_said_once(tmp_path: Path, room_walk: Any) -> None:
    still = [room_walk.write(tmp_path / name, scans=4, poses="") for name in ("a", "b", "c")]
    lines = estimate_size(still, CONFIG).lines
    assert [line.split(":")[0] for line in lines if "no poses" in line] == ["a and 2 more"]


def test_a_large_store_keeps_few_files_open(tmp_path: Path, walk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_store, "_KEPT_OPEN", 2)
    store = write_frames([walk], tmp_path / "frames", FrameConfig(shard_frames=1))
    assert len(store.manifest.shards) > 6

    def handles() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = handles()
    kept = [store[number].points_m for number in range(len(store))]
    assert handles() <= before + 2 * 4
    again = [store[number].points_m for number in reversed(range(len(store)))]
    assert all(np.array_equal(one, other) for one, other in zip(kept, reversed(again)))


def test_too_many_open_files_are_not_called_damage(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The lowest free handle: what other tests left open is not without gaps.
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(BagError, match="raise the limit of this shell"):
            open_array(tmp_path / "a.npy", ("<f8",), (3,))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
