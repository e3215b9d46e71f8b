"""The training stream and its shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xkd_ros.core.errors import XkdError
from xkd_ros.worlds.scan_shards import ScanShard, ScanStore, write_scan_shard
from xkd_ros.worlds.shards import ShardJob, write_shards
from xkd_ros.worlds.stream import sample_scan


def test_same_seed_same_scan() -> None:
    first, again = sample_scan(17), sample_scan(17)
    for a, b in zip(first[:3], again[:3]):
        assert np.array_equal(a, b)


def test_scans_are_plausible_and_cover_the_classes() -> None:
    histogram, tilts, sensors = np.zeros(256, int), [], set()
    for seed in range(0, 96, 4):
        points, intensity, labels, meta = sample_scan(seed)
        assert points.dtype == np.float32 and points.shape == (len(labels), 3)
        assert intensity.shape == labels.shape and labels.dtype == np.uint8
        assert np.isfinite(points).all() and np.isfinite(intensity).all() and len(points) > 800
        assert np.allclose(meta["rotation"] @ meta["rotation"].T, np.eye(3), atol=1e-9)
        histogram += np.bincount(labels, minlength=256)
        tilts.append(np.degrees(np.arccos(np.clip(meta["rotation"][2, 2], -1, 1))))
        sensors.add(meta["sensor"])
    share = histogram / histogram.sum()
    assert (histogram[:12] > 0).all() and share[0] > 0.3 and share[1] > 0.03 and share[2] > 0.02 and share[255] < 0.15
    assert np.median(tilts) < 8 and max(tilts) > 5 and len(sensors) > 6


def test_rotation_levels_the_floor() -> None:
    """Floor points lie at the floor height once the scan is turned by the rotation that the meta data give."""
    errors = []
    for seed in range(0, 48, 4):
        points, _, labels, meta = sample_scan(seed)
        floor = (points @ meta["rotation"].T)[labels == 1]
        near = np.abs(floor[:, 2] - meta["floor_height_m"]) < 0.15
        if len(floor) > 200:
            errors.append(1 - near.mean())
    assert len(errors) > 5 and np.median(errors) < 0.1


def test_shifted_split_is_another_family() -> None:
    *_, meta = sample_scan(0, "shifted")
    assert meta["style"].startswith("shifted-")
    assert not sample_scan(0)[3]["style"].startswith("shifted")


def write_scan_shards(out: Path, first: int, count: int, scans_per_building: int = 4, shard_size: int = 256, **options: Any) -> list[Path]:
    return write_shards(out, ShardJob("train", first, count, scans_per_building), shard_size, write_scan_shard, **options)


def test_shards_hold_what_the_stream_gave_and_are_not_made_twice(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    paths = write_scan_shards(tmp_path, 0, 6, shard_size=4, processes=1, progress=lambda done, total, facts: calls.append((done, total)))
    assert [len(ScanShard(path)) for path in paths] == [4, 2] and calls[0] == (0, 6) and calls[-1] == (6, 6)
    before = [path.stat().st_mtime_ns for path in paths]
    assert write_scan_shards(tmp_path, 0, 6, shard_size=4, processes=1) == paths
    assert [path.stat().st_mtime_ns for path in paths] == before
    points, intensity, labels, rotation = ScanShard(paths[0])[3]
    truth = sample_scan(3)
    near = np.abs(truth[0]).max(axis=1) < 32.767
    assert np.allclose(points, truth[0][near], atol=6e-4) and np.array_equal(labels, truth[2][near])
    assert np.allclose(intensity, truth[1][near], rtol=1e-3) and np.allclose(rotation, truth[3]["rotation"])
    # A shard that a killed process left half-written, and one of another size, are not taken for examples.
    (tmp_path / f".{paths[0].name}.part").mkdir()
    more = write_scan_shards(tmp_path, 0, 5, shard_size=4, processes=1)
    assert len(ScanStore(paths)) == 6 and len(ScanStore(more)) == 5 and len(ScanStore(paths, 3)) == 3
    assert not set(write_scan_shards(tmp_path, 0, 1, scans_per_building=1, processes=1)) & set(paths)


def test_a_damaged_shard_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "train-0000000000-4").mkdir()
    with pytest.raises(XkdError, match="not a whole shard"):
        ScanShard(tmp_path / "train-0000000000-4")
