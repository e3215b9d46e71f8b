"""Pseudo-labels on disk: whole or not there, the same by every access, and counts that add up."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest

from xkd_ros.core.errors import ConfigError, XkdError
from xkd_ros.core.labels import INDOOR12, STRUCT4
from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill import part_files
from xkd_ros.distill.consolidation import FrameLabels
from xkd_ros.distill.label_statistics import LabelStatistics
from xkd_ros.distill.label_store import LabelPlan, LabelStore, LabelWriter
from xkd_ros.distill.pseudo_config import LABELLED, PseudoConfig, Reason

PLAN = LabelPlan(frames_hash="f", targets_hash="t", class_hash="c", label_set=STRUCT4, config=PseudoConfig(frames_per_part=3))
NUMBERS = [4, 5, 6, 7, 0, 1, 2, 3]


def frame_labels(number: int) -> FrameLabels:
    rng = np.random.default_rng(number)
    count = 0 if number == 6 else 50 + number
    reason = rng.integers(0, len(Reason), count).astype(np.uint8)
    known = reason >= LABELLED
    own_reason = np.where(reason == Reason.PROPAGATED, Reason.UNSEEN, np.where(reason == Reason.GAINED, Reason.EDGE, reason))
    own_label = np.where(np.isin(own_reason, (Reason.UNSEEN, Reason.IGNORED)), UNKNOWN, rng.integers(0, 4, count))
    labels = np.where(known, np.where(reason == Reason.KEPT, own_label, rng.integers(0, 4, count)), UNKNOWN)
    confidence = np.where(known, rng.uniform(0.5, 1, count), 0).astype(np.float32)
    return FrameLabels(labels.astype(np.uint8), confidence, reason, own_label.astype(np.uint8), own_reason.astype(np.uint8))


def split_of(number: int) -> str:
    return "train" if number < 5 else "val"


def write(folder, numbers=NUMBERS, finish: bool = True) -> LabelWriter:
    writer = LabelWriter(folder, PLAN)
    if not writer.plan.thresholds:
        writer.start(np.array([0.9, 0.8, 0.7, 1e-5]))
    for number in numbers[writer.done :]:
        writer.add(number, split_of(number), frame_labels(number))
    if finish:
        writer.finish()
    return writer


def test_what_is_written_is_read(tmp_path) -> None:
    write(tmp_path / "labels")
    store = LabelStore(tmp_path / "labels", "f")
    assert len(store) == 8 and store.label_set == STRUCT4 and store.class_hash == "c" and len(store.hash) == 16
    assert store.manifest.thresholds == (0.9, 0.8, 0.7, 1e-5) and [part.frames for part in store.manifest.parts] == [3, 3, 2]
    for number in NUMBERS:
        wanted = frame_labels(number)
        labels, confidence = store[number]
        assert labels.dtype == np.uint8 and np.array_equal(labels, wanted.labels)
        assert confidence.dtype == np.float32 and np.abs(confidence - wanted.confidence).max(initial=0) <= 0.5 / 255 + 1e-6
        assert (confidence[labels == UNKNOWN] == 0).all() and np.array_equal(store.reasons(number), wanted.reason)
    with pytest.raises(IndexError, match="frame 8 has no"):
        store[8]
    store[0][0][:] = 7  # a copy
    again = pickle.loads(pickle.dumps(store))  # noqa: S301
    assert len(pickle.dumps(store)) < 20_000 and np.array_equal(again[0][0], frame_labels(0).labels)


def test_counts_add_up(tmp_path) -> None:
    write(tmp_path / "labels")
    store = LabelStore(tmp_path / "labels")
    frames = [frame_labels(number) for number in NUMBERS]
    total = store.statistics()
    assert total.points == sum(len(frame.labels) for frame in frames)
    assert total.unseen == sum(np.count_nonzero(frame.own_reason == Reason.UNSEEN) for frame in frames)
    for place, row in enumerate(total.rows()):
        assert row.labelled == sum(np.count_nonzero(frame.labels == place) for frame in frames)
        assert row.seen == sum(np.count_nonzero(frame.own_label == place) for frame in frames) == row.kept + sum(row.dropped.values())
        assert row.propagated == sum(np.count_nonzero((frame.labels == place) & (frame.reason == Reason.PROPAGATED)) for frame in frames)
    parts = store.statistics("train").counts + store.statistics("val").counts
    assert np.array_equal(parts, total.counts) and store.statistics("test").points == 0
    lines = total.lines()
    assert len(lines) == 6 and lines[1].startswith("wall") and len({len(line) for line in lines[:5]}) == 1
    assert all(line.startswith(name) for line, name in zip(LabelStatistics(INDOOR12.names).lines()[1:], INDOOR12.names))


def test_an_unfinished_folder_is_not_taken_for_whole_and_goes_on(tmp_path) -> None:
    write(tmp_path / "whole")
    writer = write(tmp_path / "cut", NUMBERS[:7], finish=False)
    assert writer.done == 6
    with pytest.raises(XkdError, match="holds no whole set"):
        LabelStore(tmp_path / "cut")
    (tmp_path / "cut" / ".part-00002.xyz.part").mkdir()  # what a killed write leaves
    again = write(tmp_path / "cut")
    assert again.done == 8
    cut, whole = LabelStore(tmp_path / "cut"), LabelStore(tmp_path / "whole")
    assert cut.hash == whole.hash and all(np.array_equal(cut[number][1], whole[number][1]) for number in NUMBERS)
    assert write(tmp_path / "cut", finish=False).whole


def test_other_inputs_are_refused(tmp_path) -> None:
    write(tmp_path / "labels", NUMBERS[:4], finish=False)
    for change, name in (
        ({"targets_hash": "new"}, "targets"),
        ({"frames_hash": "new"}, "frames"),
        ({"class_hash": "new"}, "class map"),
        ({"config": PseudoConfig(keep_share=0.5)}, "keep_share"),
    ):
        with pytest.raises(ConfigError, match=f"holds pseudo-labels of other {name}; delete it"):
            LabelWriter(tmp_path / "labels", PLAN.model_copy(update=change))
    LabelWriter(tmp_path / "labels", PLAN.model_copy(update={"config": PseudoConfig(frames_per_part=9)}))
    write(tmp_path / "labels")
    with pytest.raises(ConfigError, match="of other targets"):
        LabelWriter(tmp_path / "labels", PLAN.model_copy(update={"targets_hash": "new"}))
    with pytest.raises(ConfigError, match="are of other frames"):
        LabelStore(tmp_path / "labels", "new")
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match="is not empty and holds no pseudo-labels"):
        LabelWriter(tmp_path / "holiday", PLAN)


def test_damage_is_one_clear_line(tmp_path) -> None:
    write(tmp_path / "labels")
    part = tmp_path / "labels" / "part-00001"
    whole = (part / "labels.npy").read_bytes()
    (part / "labels.npy").write_bytes(whole[:-5])
    with pytest.raises(XkdError, match=r"labels\.npy is damaged \(\d+ bytes"):
        LabelStore(tmp_path / "labels")[0]
    np.save(part / "labels.npy", np.zeros(3, np.uint8))
    with pytest.raises(XkdError, match=r"uint8 \(3,\), expected uint8 \(158,\)"):
        LabelStore(tmp_path / "labels")[0]
    (part / "labels.npy").write_bytes(whole)
    labels = np.load(part / "labels.npy")
    labels[7] = 4
    np.save(part / "labels.npy", labels)
    with pytest.raises(XkdError, match=r"labels\.npy has class 4 of 4"):
        LabelStore(tmp_path / "labels")[0]
    np.save(part / "labels.npy", labels.astype(np.int64))
    with pytest.raises(XkdError, match="int64"):
        LabelStore(tmp_path / "labels")[0]
    (part / "labels.npy").write_bytes(whole)
    np.save(part / "offsets.npy", np.load(part / "offsets.npy")[::-1].copy())
    with pytest.raises(XkdError, match=r"offsets\.npy does not divide 158 rows"):
        LabelStore(tmp_path / "labels")[0]
    shutil.rmtree(part)
    with pytest.raises(XkdError, match=r"cannot read .*numbers\.npy"):
        LabelStore(tmp_path / "labels")
    (tmp_path / "labels" / "manifest.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"manifest\.json"):
        LabelStore(tmp_path / "labels")


def test_more_parts_than_stay_open(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(part_files, "_KEPT_OPEN", 1)
    write(tmp_path / "labels")
    store = LabelStore(tmp_path / "labels")
    assert len(store.manifest.parts) > 1
    checked = []
    check = store._parts._check
    monkeypatch.setattr(store._parts, "_check", lambda folder, columns: (checked.append(folder), check(folder, columns)))
    first = [store[number][0] for number in NUMBERS]
    again = [store[number][0] for number in NUMBERS]
    assert all(np.array_equal(one, other) for one, other in zip(first, again))
    assert len(checked) == len(set(checked)) == len(store.manifest.parts)
    copied = pickle.loads(pickle.dumps(LabelStore(tmp_path / "labels")))  # noqa: S301
    assert all(np.array_equal(copied[number][0], one) for number, one in zip(NUMBERS, first))


def test_a_manifest_does_not_lead_out_of_its_folder(tmp_path) -> None:
    write(tmp_path / "labels")
    path = tmp_path / "labels" / "manifest.json"
    path.write_text(path.read_text().replace('"part-00001"', '"../other"'))
    with pytest.raises(XkdError, match="would leave its folder"):
        LabelStore(tmp_path / "labels")
