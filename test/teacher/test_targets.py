"""Targets: which points get them, stored equal to live, resumed, refused when stale."""

from __future__ import annotations

import copy
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Lock
from types import SimpleNamespace

import numpy as np
import pytest

from xkd_ros.core.errors import CalibrationError, ConfigError, ModelError, XkdError
from xkd_ros.core.se3 import invert
from xkd_ros.teacher.class_map import load_class_map
from xkd_ros.teacher.config import TargetConfig, TeacherConfig
from xkd_ros.teacher.live_targets import LiveTargets
from xkd_ros.teacher.target_store import TargetStore
from xkd_ros.teacher.target_writer import estimate_target_bytes, write_targets
from xkd_ros.teacher.targets import TeacherPair, seen_points
from xkd_ros.teacher.teacher import load_teacher

SHARDS_OF_2 = TargetConfig(frames_per_shard=2)
ARRAYS = ("point", "uv_px", "features", "scores", "interior", "edge")


@pytest.fixture(scope="module")
def features(model_folder):
    return load_teacher(str(model_folder("dinov2")), config=TeacherConfig(short_side_px=56))


@pytest.fixture(scope="module")
def scores(model_folder):
    return load_teacher(str(model_folder("segformer")), load_class_map("indoor12"), config=TeacherConfig(short_side_px=64))


def same(left, right) -> bool:
    return len(left) == len(right) and all(
        one.view == other.view and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ARRAYS)
        for one, other in zip(left, right)
    )


def test_stored_and_live_targets_are_equal(tmp_path, make_frames, features, scores):
    frames = make_frames(5, dt_ns=(1, -2))
    calls = []
    store = write_targets(frames, [features, scores], tmp_path / "targets", SHARDS_OF_2, lambda *call: calls.append(call))
    live = LiveTargets(frames, [features, scores], SHARDS_OF_2)
    assert [call[:2] for call in calls] == [(done, 5) for done in range(1, 6)] and calls[-1][2]["samples_per_s"] > 0
    assert len(store) == len(live) == 5 and store.hash == live.hash
    assert all(same(store[number], live[number]) for number in range(5))
    assert store.manifest.points == sum(len(view) for number in range(5) for view in store[number]) == calls[-1][2]["points"]
    first = store[3][1]
    count = len(first.point)
    assert first.view == 1 and count > 50
    assert (first.features.shape, first.features.dtype) == ((count, 32), np.float16)
    assert (first.scores.shape, first.scores.dtype) == ((count, 12), np.float32)
    assert first.interior.dtype == first.edge.dtype == bool and first.point.dtype == np.int32
    np.testing.assert_allclose(first.scores[first.scores.any(1)].sum(1), 1, atol=5e-3)
    again = features.look(frames[3].views[1].rgb(), first.uv_px)
    assert (again.features == first.features).all()


def test_the_manifest_says_what_it_was_made_from(tmp_path, make_frames, features, scores):
    store = write_targets(make_frames(), [scores, features], tmp_path / "targets")
    manifest = TargetStore(tmp_path / "targets").manifest
    assert manifest == store.manifest
    assert [(record.name, record.gives) for record in manifest.teachers] == [(scores.name, ("scores",)), (features.name, ("features",))]
    assert manifest.feature_width == 32 and manifest.class_hash == load_class_map("indoor12").hash
    assert manifest.label_set == load_class_map("indoor12").label_set
    with pytest.raises(IndexError):
        store[3]


@pytest.mark.parametrize("which", ["features", "scores"])
def test_one_teacher_alone(tmp_path, make_frames, features, scores, which):
    store = write_targets(make_frames(), [features if which == "features" else scores], tmp_path / "targets")
    target = store[0][0]
    assert (target.features is None, target.scores is None, target.interior is None) == (
        (False, True, True) if which == "features" else (True, False, False)
    )


def test_two_processes_share_the_shards(tmp_path, make_frames, features):
    frames, out, looks = make_frames(7), tmp_path / "targets", {0: 0, 1: 0}
    one_at_a_time = Lock()  # threads stand for processes, which have a network each

    def work(rank: int):
        def look(rgb, uv_px):
            looks[rank] += 1
            with one_at_a_time:
                return features.look(rgb, uv_px)

        names = ("name", "feature_width", "label_set", "class_hash", "fingerprint")
        teacher = SimpleNamespace(look=look, **{name: getattr(features, name) for name in names})
        return write_targets(frames, [teacher], out, SHARDS_OF_2, rank=rank, world=2)

    with ThreadPoolExecutor(2) as pool:
        stores = list(pool.map(work, (1, 0)))
    # Four shards: the second and the fourth, which holds one frame, belong to the other process.
    assert looks == {0: 4, 1: 3}
    live = LiveTargets(frames, [features], SHARDS_OF_2)
    assert all(same(store[number], live[number]) for store in stores for number in range(7))


def test_an_interrupted_write_goes_on(tmp_path, make_frames, features):
    frames = make_frames(5)
    looks = []

    def counted(stop_at: int):
        def look(rgb, uv_px):
            looks.append(len(uv_px))
            if len(looks) == stop_at:
                raise KeyboardInterrupt
            return features.look(rgb, uv_px)

        names = ("name", "feature_width", "label_set", "class_hash", "fingerprint")
        return SimpleNamespace(look=look, **{name: getattr(features, name) for name in names})

    out = tmp_path / "targets"
    with pytest.raises(KeyboardInterrupt):
        write_targets(frames, [counted(4)], out, SHARDS_OF_2)
    assert [path.name for path in (out / "shards").iterdir()] == ["00000"]
    with pytest.raises(ModelError, match="holds no whole targets"):
        TargetStore(out)
    looks.clear()
    store = write_targets(frames, [counted(-1)], out, SHARDS_OF_2)
    assert len(looks) == 3
    live = LiveTargets(frames, [features], SHARDS_OF_2)
    assert all(same(store[number], live[number]) for number in range(5))
    looks.clear()
    write_targets(frames, [counted(1)], out, SHARDS_OF_2)
    assert not looks


def test_stale_targets_are_refused(tmp_path, make_frames, features, scores):
    frames, out = make_frames(), tmp_path / "targets"
    write_targets(frames, [features], out)
    other_frames = replace(frames, hash="frames-2")
    with pytest.raises(ConfigError, match="made from other frames"):
        TargetStore(out, other_frames)
    for arguments, said in (
        ((other_frames, [features]), "other frames"),
        ((frames, [scores]), "another teacher or preprocessing"),
        ((frames, [features], TargetConfig(edge_px=9)), "other settings"),
    ):
        given = [*arguments, *([TargetConfig()] if len(arguments) == 2 else [])]
        with pytest.raises(ConfigError, match=said):
            write_targets(given[0], given[1], out, given[2])
    (out / "manifest.json").unlink()  # the plan alone refuses too
    with pytest.raises(ConfigError, match="another teacher or preprocessing"):
        write_targets(frames, [scores], out)


def test_another_class_map_is_stale(tmp_path, make_frames, model_folder, scores):
    out = tmp_path / "targets"
    write_targets(make_frames(), [scores], out)
    coarse = load_teacher(str(model_folder("segformer")), load_class_map("struct4_aligned"), config=TeacherConfig(short_side_px=64))
    with pytest.raises(ConfigError, match="another teacher"):
        write_targets(make_frames(), [coarse], out)


def test_damage_is_found(tmp_path, make_frames, features):
    out = tmp_path / "targets"
    write_targets(make_frames(), [features], out)
    shard = out / "shards" / "00000"
    np.save(shard / "edge.npy", np.zeros(3, bool))
    with pytest.raises(ModelError, match="different lengths"):
        TargetStore(out)[0]
    index = np.load(shard / "index.npy")
    np.save(shard / "index.npy", index[:, :3])
    with pytest.raises(ModelError, match="is damaged"):
        TargetStore(out)[0]
    np.save(shard / "index.npy", index)
    (shard / "edge.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ModelError, match="is damaged"):
        TargetStore(out)[0]
    shutil.rmtree(shard)
    with pytest.raises(ModelError, match="is damaged"):
        TargetStore(out)[0]
    (out / "manifest.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        TargetStore(out)


def test_a_store_travels_to_worker_processes(tmp_path, make_frames, features):
    store = write_targets(make_frames(), [features], tmp_path / "targets")
    store[0]
    assert same(copy.deepcopy(store)[0], store[0])


def test_the_size_is_known_before(tmp_path, make_frames, features, scores, monkeypatch):
    frames = make_frames(4)
    expected = estimate_target_bytes(frames, [features, scores])
    write_targets(frames, [features, scores], tmp_path / "targets")
    written = sum(path.stat().st_size for path in (tmp_path / "targets" / "shards").rglob("*.npy"))
    assert abs(written - expected) < 0.05 * expected
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=expected // 2))
    with pytest.raises(XkdError, match=r"need about .* free: choose another disk"):
        write_targets(frames, [features, scores], tmp_path / "more")
    assert not (tmp_path / "more").exists()


def test_teachers_must_be_of_use(tmp_path, make_frames, features):
    with pytest.raises(ConfigError, match="no teacher gives nothing"):
        write_targets(make_frames(), [], tmp_path / "targets")
    with pytest.raises(ConfigError, match="take one teacher for features and one for classes"):
        write_targets(make_frames(), [features, replace_name(features)], tmp_path / "targets")


def test_a_teacher_of_labels_speaks_for_one_that_gives_both(features, scores):
    both = SimpleNamespace(
        name="both", feature_width=8, label_set=scores.label_set, class_hash=scores.class_hash, fingerprint="b", look=features.look
    )
    pair = TeacherPair([both, scores])
    assert pair.features is both and pair.scores is scores and pair.distinct == [both, scores]


def replace_name(teacher):
    return SimpleNamespace(
        name="second", feature_width=teacher.feature_width, label_set=None, class_hash="", fingerprint="2", look=teacher.look
    )


def test_which_points_are_seen(make_frames):
    frame = make_frames(1, dt_ns=(1, 30_000_000))[0]
    seen = seen_points(frame, 0, TargetConfig())
    cam = frame.points_m @ frame.views[0].cam_from_lidar[:3, :3].T + frame.views[0].cam_from_lidar[:3, 3]
    assert (cam[seen.point, 2] > 0).all() and (np.diff(seen.point) > 0).all()
    expected = np.stack([60 * cam[:, 0] / cam[:, 2] + 47.5, 60 * cam[:, 1] / cam[:, 2] + 35.5], 1)[seen.point]
    np.testing.assert_allclose(seen.uv_px, expected, atol=1e-3)
    far = seen_points(frame, 0, TargetConfig(min_depth_m=3.5))
    # Points too near to count hide nothing either.
    distance = np.linalg.norm(cam, axis=1)
    assert len(far.point) and (distance[far.point] >= 3.5).all()
    assert set(seen.point[distance[seen.point] >= 3.5]) <= set(far.point)
    assert seen_points(frame, 1, TargetConfig(max_dt_ms=20)) is None
    assert seen_points(frame, 1, TargetConfig(max_dt_ms=40)) is not None


def test_a_subset_is_repeatable_and_spread(make_frames):
    frame = make_frames(1)[0]
    everything = seen_points(frame, 0, TargetConfig())
    some = seen_points(frame, 0, TargetConfig(max_points_per_view=40))
    assert len(some.point) == 40 and (np.diff(some.point) > 0).all() and set(some.point) < set(everything.point)
    assert (seen_points(frame, 0, TargetConfig(max_points_per_view=40)).point == some.point).all()
    assert (seen_points(frame, 0, TargetConfig(max_points_per_view=40, seed=1)).point != some.point).any()
    keep = np.isin(everything.point, some.point)
    assert (everything.edge[keep] == some.edge).all() and (everything.uv_px[keep] == some.uv_px).all()


def test_no_point_in_view_says_why(tmp_path, make_frames, features):
    front = make_frames(2)[0].views[0].cam_from_lidar
    down = np.diag([1.0, -1, -1, 1])  # looks at the floor of a sky of points above
    above = make_frames(2, cam_from_lidar=down)
    above.items = [replace(frame, points_m=frame.points_m + np.float32([0, 0, 9])) for frame in above.items]
    with pytest.raises(CalibrationError, match="none of 1800 points falls into an image in 2 views"):
        write_targets(above, [features], tmp_path / "targets")
    inverted = make_frames(2, cam_from_lidar=invert(front))
    inverted.items = [replace(frame, points_m=frame.points_m[frame.points_m[:, 0] > 2]) for frame in inverted.items]
    with pytest.raises(CalibrationError, match="cam_from_lidar is inverted"):
        LiveTargets(inverted, [features])
    with pytest.raises(CalibrationError, match="no frame has an image"):
        write_targets(make_frames(2, dt_ns=()), [features], tmp_path / "targets")
    with pytest.raises(CalibrationError, match="more than 20 ms from its scan"):
        write_targets(make_frames(2, dt_ns=(40_000_000,)), [features], tmp_path / "targets", TargetConfig(max_dt_ms=20))
    assert not (tmp_path / "targets").exists()


def test_frames_without_a_seen_point_are_empty(tmp_path, make_frames, features):
    frames = make_frames(3)
    behind = frames[1].points_m[frames[1].points_m[:, 0] < -1]
    frames.items[1] = replace(frames[1], points_m=behind)
    frames.items[2] = replace(frames[2], views=())
    store = write_targets(frames, [features], tmp_path / "targets", TargetConfig(frames_per_shard=1))
    assert [len(store[number]) for number in range(3)] == [1, 0, 0]


def test_a_picture_of_another_size_is_refused(make_frames, features):
    frames = make_frames(1)
    view = frames[0].views[0]
    frames.items[0] = replace(frames[0], views=(replace(view, camera=view.camera.scaled(192, 144)),))
    with pytest.raises(CalibrationError, match="has 96x72 pixels, its calibration 192x144"):
        LiveTargets(frames, [features])[0]
