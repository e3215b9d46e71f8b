"""The preprocessing of a device against that of `points`, which is tested against the published way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xkd_ros.core.card import GeometryConfig, IntensityConfig
from xkd_ros.core.se3 import rotation_from_rpy
from xkd_ros.core.types import NetInput
from xkd_ros.device.heading import estimate_heading
from xkd_ros.device.intensity import fit, normalise, statistics_row
from xkd_ros.device.preprocessor import DeviceInput, DevicePreprocessor
from xkd_ros.points import heading, intensity
from xkd_ros.points.cell_table import make_cell_tables
from xkd_ros.points.preprocessor import Preprocessor
from xkd_ros.runtime.probe import make_room_scan

GEOMETRY = GeometryConfig(fov_min_m=(-7.0, -6.0, -1.5), fov_max_m=(7.0, 6.0, 2.5), neighbours=8)
ROOM = 3200
POINTS, RAW = make_room_scan(3, 16, 200, 12.0)


def _scan() -> tuple[np.ndarray, np.ndarray]:
    """A scan with everything that can be wrong with a point."""
    points, raw = POINTS.copy(), RAW.copy()
    points[5], points[6, 1], points[7] = np.nan, np.inf, 0.0
    points[8], points[9] = (60.0, 1.0, 0.5), (3e9, 0.0, 0.0)
    raw[10:12] = np.nan, -4.0
    return points, raw


def _on_device(points: np.ndarray, raw: np.ndarray | None, rotation: np.ndarray, geometry: GeometryConfig, **kwargs: object) -> DeviceInput:
    config = kwargs.get("statistics", IntensityConfig(per_scan=True))
    values = torch.full((len(points),), torch.nan) if raw is None else torch.from_numpy(raw)
    statistics = torch.tensor(statistics_row(config), dtype=torch.float64)
    preprocess = DevicePreprocessor(geometry, kernels=False)
    return preprocess(torch.from_numpy(points), values, torch.from_numpy(rotation), statistics, kwargs.get("room", ROOM))


def _same(ours: DeviceInput, theirs: NetInput, points: np.ndarray, geometry: GeometryConfig) -> None:
    count = len(theirs)
    assert bool(ours.fits) and int(ours.count) == count
    np.testing.assert_array_equal(ours.kept[:count], theirs.kept)
    np.testing.assert_allclose(ours.features[:count], theirs.features, rtol=1e-5, atol=1e-5)
    assert not ours.features[count:].any() and not ours.neighbours[count:].any()
    levelled = theirs.features[:, 1:4].astype(np.float64)
    for chosen, expected in zip(ours.neighbours[:count].numpy(), theirs.neighbours):
        assert set(chosen) == set(expected) or len(set(chosen)) == len(set(expected))
    reach = [
        np.sort(np.linalg.norm(levelled[which] - levelled[:, None], axis=2), 1) for which in (ours.neighbours[:count], theirs.neighbours)
    ]
    np.testing.assert_allclose(*reach, atol=1e-5)
    np.testing.assert_array_equal(ours.undo < 0, theirs.undo < 0)
    seen = theirs.undo >= 0
    raw = points[seen].astype(np.float64) @ theirs.rotation.T
    away = [np.linalg.norm(raw - levelled[which[seen]], axis=1) for which in (ours.undo.numpy(), theirs.undo)]
    np.testing.assert_allclose(*away, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("rotation", [np.eye(3), rotation_from_rpy(0.1, -0.05, 0.4)])
def test_a_scan_is_prepared_as_on_the_cpu(align: bool, rotation: np.ndarray) -> None:
    points, raw = _scan()
    geometry = GEOMETRY.model_copy(update={"align_heading": align})
    theirs = Preprocessor(geometry, IntensityConfig(per_scan=True), threads=1)(points, raw, rotation)
    ours = _on_device(points, raw, rotation, geometry)
    np.testing.assert_allclose(ours.rotation, theirs.rotation, atol=1e-7)
    _same(ours, theirs, points, geometry)


def test_cells_are_those_of_the_cpu() -> None:
    points, raw = _scan()
    theirs = Preprocessor(GEOMETRY, IntensityConfig(per_scan=True), threads=1)(points, raw)
    ours, count = _on_device(points, raw, np.eye(3), GEOMETRY), len(theirs)
    for plane, (table, expected) in enumerate(zip(ours.tables, make_cell_tables(theirs))):
        cells, halo = expected.occupied, expected.halo
        np.testing.assert_array_equal(table.cell[:count], expected.cell, err_msg=str(plane))
        assert (table.cell[count:] == len(table.taps)).all()
        np.testing.assert_array_equal(table.order[:count], expected.points_by_cell[0])
        np.testing.assert_array_equal(table.bounds[: cells + 1], expected.bounds)
        assert (table.bounds[cells:] == count).all()
        np.testing.assert_allclose(table.inverse_count[:cells], expected.inverse_count, rtol=1e-6)
        np.testing.assert_array_equal(table.taps[:cells], np.where(expected.taps < halo, expected.taps, len(table.reached)))
        assert (table.taps[cells:] == len(table.reached)).all() and (table.reached[halo:] == len(table.taps)).all()
        reached = np.where(expected.reached < cells, expected.reached, len(table.taps))
        np.testing.assert_array_equal(table.reached[:halo], reached)


def test_more_room_changes_nothing() -> None:
    points, raw = _scan()
    small, large = (_on_device(points, raw, np.eye(3), GEOMETRY, room=room) for room in (ROOM, 2 * ROOM))
    count = int(small.count)
    padded = np.concatenate([points, np.full((50, 3), np.nan, np.float32)])
    wider = _on_device(padded, np.concatenate([raw, np.full(50, np.nan, np.float32)]), np.eye(3), GEOMETRY)
    for other in (large, wider):
        assert torch.equal(small.features[:count], other.features[:count]) and torch.equal(small.undo, other.undo[: len(points)])
        assert torch.equal(small.kept[:count], other.kept[:count])


def test_too_little_room_is_said() -> None:
    points, raw = _scan()
    scan = _on_device(points, raw, np.eye(3), GEOMETRY, room=64)
    assert not bool(scan.fits) and int(scan.count) > 64


@pytest.mark.parametrize("points", [np.full((40, 3), np.nan, np.float32), np.full((40, 3), 50, np.float32), np.ones((1, 3), np.float32)])
def test_nothing_or_one_point_to_see(points: np.ndarray) -> None:
    theirs = Preprocessor(GEOMETRY, IntensityConfig(per_scan=True), threads=1)(points)
    scan = _on_device(points, None, np.eye(3), GEOMETRY, room=32)
    assert int(scan.count) == len(theirs) and bool(scan.fits)
    np.testing.assert_array_equal(scan.undo, theirs.undo)
    assert scan.features.isfinite().all() and not scan.features[:, 0].any()
    assert all(table.bounds[-1] == len(theirs) for table in scan.tables)


@pytest.mark.parametrize("scale", [1 / 255, 1.0, 300.0])
@pytest.mark.parametrize("values", [RAW, np.full(50, 7, np.float32), np.array([np.nan, -1, np.inf], np.float32), np.zeros(9, np.float32)])
def test_intensity_statistics_are_those_of_the_cpu(values: np.ndarray, scale: float) -> None:
    values = values * np.float32(scale)
    usable = np.arange(len(values)) % 3 > 0
    found = fit(torch.from_numpy(values), torch.from_numpy(usable))
    expected = intensity.fit(values[usable])
    np.testing.assert_allclose(found, statistics_row(expected), rtol=1e-9, atol=1e-9)
    given = torch.tensor(statistics_row(expected), dtype=torch.float64)
    scaled = intensity.normalise(values, expected, len(values))
    every, own = (
        torch.ones(len(values), dtype=torch.bool),
        torch.tensor(statistics_row(IntensityConfig(per_scan=True)), dtype=torch.float64),
    )
    np.testing.assert_allclose(normalise(torch.from_numpy(values), every, given), scaled, rtol=1e-5, atol=1e-5)
    scaled = intensity.normalise(values, IntensityConfig(per_scan=True), len(values))
    np.testing.assert_allclose(normalise(torch.from_numpy(values), every, own), scaled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("degrees", [0, 12, 44, 70])
def test_heading_is_that_of_the_cpu(degrees: int) -> None:
    points = POINTS @ rotation_from_rpy(0, 0, np.radians(degrees)).T.astype(np.float32)
    usable = (POINTS != 0).any(1)
    found = float(estimate_heading(torch.from_numpy(points), torch.from_numpy(usable)))
    assert found == pytest.approx(heading.estimate_heading(points[usable]), abs=1e-12)
    assert float(estimate_heading(torch.from_numpy(points), torch.arange(len(points)) < 40)) == 0.0


@pytest.mark.parametrize("first", [np.nan, np.inf, 60.0, 3e9])
def test_heading_does_not_look_at_what_is_not_usable(first: float) -> None:
    points = POINTS.copy()
    points[0] = first
    usable = np.isfinite(points).all(1) & (points != 0).any(1) & (np.abs(points) < 50).all(1)
    found = float(estimate_heading(torch.from_numpy(points), torch.from_numpy(usable)))
    assert found == pytest.approx(heading.estimate_heading(points[usable]), abs=1e-12)
    assert float(estimate_heading(torch.full((8, 3), first), torch.zeros(8, dtype=torch.bool))) == 0.0
