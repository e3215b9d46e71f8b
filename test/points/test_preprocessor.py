from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xkd_ros.core.card import GeometryConfig, IntensityConfig
from xkd_ros.core.se3 import rotation_from_rpy
from xkd_ros.core.types import NetInput
from xkd_ros.points.preprocessor import Preprocessor

# A turned scan is another selection of points: the tests of exactness keep the heading as it is.
FIXED = {"align_heading": False} if "align_heading" in GeometryConfig.model_fields else {}
GEOMETRY = GeometryConfig(**FIXED)
INTENSITY = IntensityConfig(low=0, high=100, mean=50, std=25)


def plainly(points: np.ndarray, intensity: np.ndarray, geometry: GeometryConfig) -> dict[str, np.ndarray]:
    """The slow reference of METHODS 1.2: row-wise unique, crop, brute-force neighbours and nearest points."""
    index = ((points - points.min(axis=0)) / np.float32(geometry.voxel_m)).astype(int)
    kept = np.unique(index, axis=0, return_index=True)[1]
    low, high = np.array(geometry.fov_min_m) + 1e-4, np.array(geometry.fov_max_m) - 1e-4
    kept = kept[((points[kept] > low) & (points[kept] < high)).all(axis=1)]
    xyz = points[kept].astype(float)
    distance = np.linalg.norm(xyz[:, None] - xyz[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    scaled = (intensity[kept].clip(0, 100) - 50) / 25
    return {
        "kept": kept,
        "features": np.c_[scaled, xyz, np.linalg.norm(xyz, axis=1)],
        "reach": np.sort(distance, axis=1)[:, : geometry.neighbours],
        "nearest": np.linalg.norm(xyz[None] - points[:, None], axis=2).min(axis=1),
    }


def check(net_input: NetInput, raw: np.ndarray, geometry: GeometryConfig = GEOMETRY) -> None:
    """What must hold for any input at all."""
    count = len(net_input)
    valid = np.isfinite(raw).all(axis=1) & (raw != 0).any(axis=1)
    assert np.isfinite(net_input.features).all() and net_input.features.dtype == np.float32
    assert net_input.neighbours.shape == (count, geometry.neighbours) and net_input.undo.shape == (len(raw),)
    assert (net_input.undo[~valid] == -1).all()
    assert (net_input.undo[valid] >= 0).all() if count else (net_input.undo == -1).all()
    assert valid[net_input.kept].all() and len(np.unique(net_input.kept)) == count
    np.testing.assert_array_equal(net_input.undo[net_input.kept], np.arange(count))
    for cells, (height, width) in zip(net_input.cells, net_input.grids):
        assert ((cells >= 0) & (cells < height * width)).all()
    if count:
        assert net_input.neighbours.min() >= 0 and net_input.neighbours.max() < count


@pytest.mark.parametrize("spread", [3.0, 25.0])
def test_everything_matches_the_plain_reference(spread):
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(1500, 3)) * [spread, spread, 1.5]).astype(np.float32)
    intensity = rng.uniform(-20, 130, 1500).astype(np.float32)
    expected = plainly(points, intensity, GEOMETRY)
    got = Preprocessor(GEOMETRY, INTENSITY, threads=1)(points, intensity)
    check(got, points)
    np.testing.assert_array_equal(got.kept, expected["kept"])
    np.testing.assert_allclose(got.features, expected["features"], rtol=1e-5, atol=1e-5)
    xyz = got.features[:, 1:4].astype(float)
    np.testing.assert_allclose(np.linalg.norm(xyz[got.neighbours] - xyz[:, None], axis=2), expected["reach"], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(xyz[got.undo] - points, axis=1), expected["nearest"], atol=1e-5)


def test_features_are_of_the_levelled_points(office_scan):
    rotation = rotation_from_rpy(0.1, -0.05, 0.0)
    net_input = Preprocessor(GEOMETRY, INTENSITY)(office_scan, None, rotation)
    check(net_input, office_scan)
    levelled = office_scan[net_input.kept] @ rotation.T
    np.testing.assert_allclose(net_input.features[:, 1:4], levelled, atol=1e-5)
    np.testing.assert_allclose(net_input.features[:, 4], np.linalg.norm(levelled, axis=1), rtol=1e-5)
    assert (net_input.features[:, 0] == 0).all()
    np.testing.assert_array_equal(net_input.rotation, rotation)


def test_non_returns_among_the_points_change_nothing_else(office_scan):
    rng = np.random.default_rng(0)
    points = office_scan[np.abs(office_scan).sum(axis=1) > 0]
    clean = Preprocessor(GEOMETRY, INTENSITY)(points)
    holes = np.array([[0, 0, 0], [np.nan, 1, 1], [1, np.inf, 1], [np.nan] * 3], np.float32)[rng.integers(0, 4, len(points))]
    mixed = np.stack([points, holes], axis=1).reshape(-1, 3)
    dirty = Preprocessor(GEOMETRY, INTENSITY)(mixed)
    check(dirty, mixed)
    np.testing.assert_array_equal(dirty.kept, 2 * clean.kept)
    np.testing.assert_array_equal(dirty.features, clean.features)
    np.testing.assert_array_equal(dirty.undo[::2], clean.undo)


def test_points_outside_the_field_of_view_take_the_nearest_inside():
    points = np.array([[1, 0, 0], [31, 0, 0], [40, 0, 0], [-50, 0, 0], [1, 0, 7], [1e6, 0, 0], [-1e6, 0, 1], [3e38, 0, 1]], np.float32)
    net_input = Preprocessor(GEOMETRY, INTENSITY)(points)
    check(net_input, points)
    assert sorted(net_input.kept.tolist()) == [0, 1]
    assert net_input.kept[net_input.undo[:-1]].tolist() == [0, 1, 1, 0, 0, 1, 0]  # to the last one all are equally far


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_order_of_the_points_only_chooses_among_the_points_of_a_voxel(seed):
    rng = np.random.default_rng(seed)
    geometry = GeometryConfig(voxel_m=0.125, **FIXED)
    points = (rng.integers(-20, 20, (600, 3)) / 8).astype(np.float32)
    points = np.unique(points[(points != 0).any(axis=1)], axis=0)  # one point in each voxel: then the order cannot matter
    order = rng.permutation(len(points))
    one, other = (Preprocessor(geometry, INTENSITY, threads=1)(cloud) for cloud in (points, points[order]))
    np.testing.assert_array_equal(one.features, other.features)
    np.testing.assert_array_equal(one.cells, other.cells)
    np.testing.assert_array_equal(one.kept, order[other.kept])
    np.testing.assert_array_equal(one.undo[order], other.undo)


def test_a_random_order_keeps_other_points_of_the_same_voxels(office_scan):
    preprocessor = Preprocessor(GEOMETRY, INTENSITY)
    order = np.random.default_rng(0).permutation(len(office_scan))
    plain, random = preprocessor(office_scan), preprocessor(office_scan, order=order)
    check(random, office_scan)
    assert abs(len(plain) - len(random)) <= 3
    assert len(np.intersect1d(plain.kept, random.kept)) < 0.9 * len(plain)


DEGENERATE = {
    "empty": np.empty((0, 3)),
    "one": np.ones((1, 3)),
    "five": np.arange(15).reshape(5, 3) / 3,
    "all equal": np.full((100, 3), 2.0),
    "all NaN": np.full((20, 3), np.nan),
    "all zero": np.zeros((20, 3)),
    "collinear": np.outer(np.arange(1, 60), [0.2, 0.1, 0.0]),
    "all outside": np.full((30, 3), 100.0),
    "giant": np.full((30, 3), 1e30),
    "giant among others": np.concatenate([np.random.default_rng(0).normal(size=(100, 3)), np.full((2, 3), -1e30), np.full((1, 3), 3e38)]),
    "duplicates": np.repeat(np.random.default_rng(1).normal(size=(40, 3)), 5, axis=0),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("geometry", [GEOMETRY, GeometryConfig()], ids=["as recorded", "default"])
def test_degenerate_clouds(name, geometry):
    points = DEGENERATE[name].astype(np.float32)
    rng = np.random.default_rng(0)
    for intensity in (None, np.arange(len(points))):
        for rotation in (None, rotation_from_rpy(0.2, 0.1, 0.0)):
            for order in (None, rng.permutation(len(points))):
                check(Preprocessor(geometry, INTENSITY, threads=1)(points, intensity, rotation, order), points, geometry)


def test_stage_times_are_reported(office_scan):
    stage_ms: dict[str, float] = {}
    Preprocessor(GEOMETRY, INTENSITY)(office_scan, stage_ms=stage_ms)
    assert set(stage_ms) == {"level", "voxels", "cells", "neighbours", "undo"} and min(stage_ms.values()) >= 0


def test_training_needs_no_way_back(office_scan):
    assert (Preprocessor(GEOMETRY, INTENSITY)(office_scan, undo=False).undo == -1).all()
