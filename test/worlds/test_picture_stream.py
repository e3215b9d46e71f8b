"""Rendered pictures for the 2D teacher: the seed decides, classes are there, shards are not made twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xkd_ros.core.errors import ConfigError, XkdError
from xkd_ros.worlds.picture_shards import PictureShard, PictureStore, write_picture_shard
from xkd_ros.worlds.picture_stream import HEIGHT, PICTURES_PER_BUILDING, VALIDATION_SEED, WIDTH, building_of, sample_picture
from xkd_ros.worlds.shards import ShardJob, write_shards


def test_same_seed_same_picture_and_plausible() -> None:
    histogram = np.zeros(256, int)
    for seed in (6, 7, 18):
        rgb, labels = sample_picture(seed)
        assert rgb.shape == (HEIGHT, WIDTH, 3) and labels.shape == (HEIGHT, WIDTH) and rgb.dtype == labels.dtype == np.uint8
        histogram += np.bincount(labels.reshape(-1), minlength=256)
        assert rgb[labels != 255].std() > 5
    assert np.array_equal(rgb, sample_picture(18)[0]) and not np.array_equal(rgb, sample_picture(19)[0])
    assert (histogram[:3] > 0).all() and (histogram[:12] > 0).sum() >= 6 and histogram[12:255].sum() == 0


def test_families_show_other_buildings_and_validation_shares_none() -> None:
    train = {building_of(seed, "teach2d") for seed in range(0, 60_000, 7)}
    val = {building_of(VALIDATION_SEED + k, "teach2d") for k in range(300)}
    target = {building_of(seed, "train") for seed in range(2000)}
    assert not train & val and target == set(range(60)) and min(train | val) > 3_000_000_000
    assert {building_of(seed, "test", 1) for seed in range(2000)} == set(range(60, 100))
    assert building_of(PICTURES_PER_BUILDING - 1, "teach2d") == building_of(0, "teach2d") != building_of(PICTURES_PER_BUILDING, "teach2d")
    with pytest.raises(ConfigError, match="texture family"):
        building_of(0, "oil")


def write_picture_shards(
    out: Path, first: int, count: int, pictures_per_building: int = PICTURES_PER_BUILDING, shard_size: int = 60, **options: Any
) -> list[Path]:
    return write_shards(out, ShardJob("teach2d", first, count, pictures_per_building), shard_size, write_picture_shard, **options)


def test_shards_hold_what_the_stream_gave_and_are_not_made_twice(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    paths = write_picture_shards(tmp_path, 0, 3, shard_size=2, processes=1, progress=lambda done, total, facts: calls.append((done, total)))
    assert [len(PictureShard(path)) for path in paths] == [2, 1] and calls == [(0, 3), (2, 3), (3, 3)]
    before = [path.stat().st_mtime_ns for path in paths]
    assert write_picture_shards(tmp_path, 0, 3, shard_size=2, processes=1) == paths
    assert [path.stat().st_mtime_ns for path in paths] == before
    store = PictureStore(paths)
    assert len(store) == 3
    rgb, labels = store[2]
    true_rgb, true_labels = sample_picture(2)
    assert np.array_equal(labels, true_labels) and np.abs(rgb.astype(int) - true_rgb).mean() < 4  # JPEG
    with pytest.raises(IndexError):
        store[3]
    assert not set(write_picture_shards(tmp_path, 0, 1, pictures_per_building=1, shard_size=2, processes=1)) & set(paths)


def test_damaged_shards_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(XkdError, match="not a whole picture shard"):
        PictureShard(tmp_path / "a")
    with pytest.raises(XkdError, match="no shards"):
        PictureStore([])
    path = write_picture_shards(tmp_path, 0, 1, processes=1)[0]
    jpeg = np.load(path / "jpeg.npy")
    np.save(path / "jpeg.npy", np.zeros_like(jpeg))
    with pytest.raises(XkdError, match="damaged"):
        PictureShard(path)[0]
