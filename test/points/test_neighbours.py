from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xkd_ros.points.neighbours import NeighbourGraph
from xkd_ros.points.voxels import voxel_groups


def all_distances(points: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[None].astype(float) - queries[:, None].astype(float), axis=2)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 120), neighbours=st.integers(1, 20), copies=st.integers(1, 4))
def test_neighbours_match_brute_force_even_with_duplicates(seed, count, neighbours, copies):
    rng = np.random.default_rng(seed)
    points = np.repeat(rng.normal(size=(count, 3)), copies, axis=0).astype(np.float32)
    points = points[rng.permutation(len(points))]
    found = NeighbourGraph(points, neighbours, threads=1).indices
    assert found.shape == (len(points), neighbours) and found.dtype == np.int64
    if len(points) == 1:
        assert (found == 0).all()
        return
    distance = all_distances(points, points)
    np.fill_diagonal(distance, np.inf)
    available = min(neighbours, len(points) - 1)
    expected = np.sort(distance, axis=1)[:, :available]
    chosen = np.take_along_axis(distance, found, axis=1)
    np.testing.assert_allclose(chosen[:, :available], expected, atol=1e-6)  # never itself: that is infinite
    for row in found[:, :available]:
        assert len(set(row)) == available
    np.testing.assert_array_equal(found, found[:, np.arange(neighbours) % available])  # repeated, not invented


def test_order_of_the_points_does_not_matter(office_scan):
    points = np.unique(office_scan, axis=0)[::7]
    order = np.random.default_rng(0).permutation(len(points))
    there = NeighbourGraph(points, 16).indices
    back = NeighbourGraph(points[order], 16).indices
    np.testing.assert_allclose(
        np.linalg.norm(points[there] - points[:, None], axis=2)[order],
        np.linalg.norm(points[order][back] - points[order][:, None], axis=2),
        atol=1e-6,
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_nearest_matches_brute_force(threads):
    rng = np.random.default_rng(0)
    points, queries = rng.normal(size=(200, 3)), rng.normal(size=(300, 3)) * 2
    found = NeighbourGraph(points, 0, threads).nearest(queries)
    np.testing.assert_array_equal(found, all_distances(points, queries).argmin(axis=1))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 300), neighbours=st.integers(1, 16), spread=st.sampled_from([0.1, 1.0, 10.0]))
def test_any_guess_leads_to_the_nearest_point(seed, count, neighbours, spread):
    rng = np.random.default_rng(seed)
    points = (rng.normal(size=(count, 3)) * spread).astype(np.float32)
    queries = (rng.normal(size=(100, 3)) * spread).astype(np.float32)
    graph = NeighbourGraph(points, neighbours, threads=1)
    found = graph.nearest_from_guess(queries, rng.integers(0, count, 100))
    distance = all_distances(points, queries)
    np.testing.assert_allclose(np.take_along_axis(distance, found[:, None], 1)[:, 0], distance.min(axis=1), rtol=1e-5)


def test_the_voxel_representative_is_a_guess_that_leads_to_the_nearest_point(office_scan):
    kept, voxel_of = voxel_groups(office_scan, 0.1)
    graph = NeighbourGraph(office_scan[kept], 16)
    quick, slow = graph.nearest_from_guess(office_scan, voxel_of), graph.nearest(office_scan)
    chosen, best = (np.linalg.norm(office_scan[kept][index] - office_scan, axis=1) for index in (quick, slow))
    np.testing.assert_allclose(chosen, best, atol=1e-6)
    assert (voxel_of != slow).mean() > 0.05  # the representative alone would have been wrong


def test_collinear_and_equal_points():
    line = np.outer(np.arange(30), [1.0, 2.0, 0.0])
    assert set(NeighbourGraph(line, 2).indices[10]) == {9, 11}
    equal = NeighbourGraph(np.ones((40, 3)), 16).indices
    assert (equal != np.arange(40)[:, None]).all()


def test_no_points():
    assert NeighbourGraph(np.empty((0, 3)), 16).indices.shape == (0, 16)
    assert NeighbourGraph(np.empty((0, 3)), 0).nearest(np.ones((4, 3))).tolist() == [-1] * 4
    assert NeighbourGraph(np.empty((0, 3)), 16).nearest_from_guess(np.empty((0, 3)), np.empty(0, int)).shape == (0,)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), far=st.sampled_from([30.0, 3e3, 3e5]), bin_m=st.sampled_from([None, 0.05, 0.35, 40.0]))
def test_lonely_points_and_far_queries_have_their_neighbours_too(seed, far, bin_m):
    rng = np.random.default_rng(seed)
    dense = rng.uniform((0, 0, 0), (4, 3, 0.05), (150, 3))
    points = np.concatenate([dense, rng.uniform(-far, far, (6, 3))]).astype(np.float32)
    graph = NeighbourGraph(points, 8, threads=2, bin_m=bin_m)
    distance = all_distances(points, points)
    np.fill_diagonal(distance, np.inf)
    chosen = np.take_along_axis(distance, graph.indices, axis=1)
    np.testing.assert_allclose(chosen, np.sort(distance, axis=1)[:, :8], rtol=1e-5, atol=1e-6)
    queries = (rng.normal(size=(40, 3)) * rng.choice([0.1, 3.0, 2 * far], (40, 1))).astype(np.float32)
    distance = all_distances(points, queries)
    found = graph.nearest(queries)
    np.testing.assert_allclose(np.take_along_axis(distance, found[:, None], 1)[:, 0], distance.min(axis=1), rtol=1e-5)
