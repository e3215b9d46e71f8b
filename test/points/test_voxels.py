from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xkd_ros.points.voxels import voxel_groups, voxel_sample


def rowwise_unique(points: np.ndarray, voxel_m: float) -> tuple[np.ndarray, np.ndarray]:
    """The slow reference: a unique over rows of voxel indices, first point of each."""
    index = ((points - points.min(axis=0, keepdims=True)) / np.float32(voxel_m)).astype("int")
    _, first, inverse = np.unique(index, axis=0, return_index=True, return_inverse=True)
    return first, inverse.ravel()


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 400),
    spread=st.sampled_from([0.05, 1.0, 30.0, 3000.0]),
    voxel=st.sampled_from([0.05, 0.1, 0.3]),
)
def test_selects_what_a_rowwise_unique_selects(seed, count, spread, voxel):
    points = (np.random.default_rng(seed).normal(size=(count, 3)) * spread).astype(np.float32)
    kept, voxel_of = voxel_groups(points, voxel)
    first, inverse = rowwise_unique(points, voxel)
    np.testing.assert_array_equal(kept, first)
    np.testing.assert_array_equal(voxel_of, inverse)


def test_wide_clouds_that_leave_no_room_for_the_index_are_sampled_alike():
    points = np.random.default_rng(0).uniform(0, 200_000, (5000, 3)).astype(np.float32)
    points[2500:] = points[:2500]
    np.testing.assert_array_equal(voxel_sample(points, 0.1), rowwise_unique(points, 0.1)[0])


def test_the_first_point_in_the_given_order_is_kept(office_scan):
    points = office_scan[np.abs(office_scan).sum(axis=1) > 0]
    order = np.random.default_rng(1).permutation(len(points))
    kept, voxel_of = voxel_groups(points, 0.1, order)
    np.testing.assert_array_equal(kept, order[voxel_sample(points[order], 0.1)])
    np.testing.assert_array_equal(voxel_of[kept], np.arange(len(kept)))
    np.testing.assert_array_equal(voxel_of, voxel_groups(points, 0.1)[1])
    assert not np.array_equal(kept, voxel_sample(points, 0.1))


def test_moving_the_cloud_by_whole_voxels_changes_nothing():
    # Powers of two keep the subtraction of the minimum exact in float32.
    points = (np.random.default_rng(2).integers(0, 400, (2000, 3)) / 64).astype(np.float32)
    np.testing.assert_array_equal(voxel_sample(points, 0.125), voxel_sample(points + np.float32(4), 0.125))


@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.ones((1, 3)), np.ones((50, 3)), np.full((3, 3), 1e30)])
def test_degenerate_clouds(points):
    kept, voxel_of = voxel_groups(points.astype(np.float32), 0.1)
    assert kept.tolist() == [0][: len(points)]
    assert voxel_of.tolist() == [0] * len(points)


def test_far_outliers_do_not_overflow():
    points = np.array([[0, 0, 0], [0.01, 0, 0], [1e30, 0, 0], [3e38, 0, 0]], np.float32)
    assert voxel_sample(points, 0.1).tolist() == [0, 2]
