"""Jumps in depth are found; slanted surfaces are none, however flat they are seen."""

from __future__ import annotations

import numpy as np
import pytest

from xkd_ros.teacher.depth_edges import near_depth_edge

FOCAL_PX, CENTRE_PX = 600, (150, 60)


def grid(step_px: float = 3.0) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(0, 300, step_px), np.arange(0, 120, step_px)), -1).reshape(-1, 2).astype(np.float32)


def points_at(uv: np.ndarray, depth_m: np.ndarray) -> np.ndarray:
    """Points of a lidar at the place of the camera: x right, y down, z forward."""
    return np.column_stack([(uv - CENTRE_PX) / FOCAL_PX * depth_m[:, None], depth_m])


def edges(uv: np.ndarray, depth_m: np.ndarray, edge_px: float = 3) -> np.ndarray:
    return near_depth_edge(points_at(uv, depth_m), uv, np.ones(len(uv), bool), edge_px, 0.3)


def test_both_sides_of_a_step_are_edges():
    uv = grid()
    # The outline lies between the columns 147 and 150; 144 and 153 are as near to it as 3 px allow.
    assert set(np.unique(uv[edges(uv, np.where(uv[:, 0] < 150, 2.0, 5.0)), 0])) == {144, 147, 150, 153}
    assert edges(uv, np.where(uv[:, 0] < 150, 2.0, 5.0))[(uv[:, 0] == 147) | (uv[:, 0] == 150)].all()


def test_a_small_step_is_none():
    uv = grid()
    assert not edges(uv, np.where(uv[:, 0] < 150, 2.0, 2.2)).any()


@pytest.mark.parametrize("step_px", [1.5, 3.0, 5.0])
def test_a_floor_seen_flat_is_no_edge(step_px):
    uv = grid(step_px)
    # 0.6 m above the floor, the horizon just above the picture: rows are metres apart far away.
    depth = 0.6 * FOCAL_PX / (uv[:, 1] + 12)
    assert np.abs(np.diff(np.unique(depth))).max() > 2
    # The farthest rows have nothing behind them to tell.
    assert edges(uv, depth)[uv[:, 1] > 3 * step_px].mean() < 0.01


def test_a_crease_is_no_edge():
    uv = grid()
    depth = 1 / (0.05 + 0.002 * np.abs(uv[:, 0] - 150))
    assert edges(uv, depth)[np.abs(uv[:, 0] - 150) > 9].mean() < 0.01


@pytest.mark.parametrize("side", [-1, 1])
def test_the_outline_counts_where_the_camera_looks_past_the_edge(side):
    """Lidar 0.15 m beside the camera: far points next to the edge are hidden, or a gap opens."""
    uv_lidar = grid()
    near = uv_lidar[:, 0] < 150
    points = points_at(uv_lidar, np.where(near, 2.0, 5.0))
    in_camera = points + [0.15 * side, 0, 0]
    uv = FOCAL_PX * in_camera[:, :2] / in_camera[:, 2:] + CENTRE_PX
    outline_px = uv[near, 0].max()
    visible = near | (uv[:, 0] > outline_px + 4)
    edge = near_depth_edge(points, uv, visible, 3, 0.3)
    assert edge[near & (uv[:, 0] > outline_px - 2)].all()
    assert not edge[~visible].any() and not edge[np.abs(uv[:, 0] - outline_px) > 6.5].any()


def test_order_does_not_matter_and_few_points_are_fine():
    rng = np.random.default_rng(0)
    uv = rng.uniform(0, (300, 120), (4000, 2))
    depth = np.where(uv.sum(1) < 180, 2.0, 4.0) + 0.001 * uv[:, 0]
    edge = edges(uv, depth)
    order = rng.permutation(len(uv))
    assert (edges(uv[order], depth[order]) == edge[order]).all()
    distance = np.abs(uv.sum(1) - 180) / np.sqrt(2)
    assert not edge[distance > 7].any() and edge[distance < 1].mean() > 0.5
    assert not edges(uv[:1], depth[:1]).any() and not edges(uv[:0], depth[:0]).any()
    assert not edges(uv, depth, edge_px=0).any()
