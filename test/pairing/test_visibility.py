from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xkd_ros.core.camera import Camera
from xkd_ros.pairing.visibility import row_gap_px, visible_points


def slow_visible(
    uv: np.ndarray,
    depth: np.ndarray,
    inside: np.ndarray,
    width: int,
    height: int,
    cell: int,
    splat: tuple[int, int],
    fixed: float,
    share: float,
) -> list[bool]:
    """Compare every point with every other one."""
    columns, rows = -(-width // cell), -(-height // cell)
    cells = [(min(columns - 1, max(0, int((u + 0.5) // cell))), min(rows - 1, max(0, int((v + 0.5) // cell)))) for u, v in uv.tolist()]
    result = []
    for i in range(len(uv)):
        front = min(
            (
                float(depth[j])
                for j in range(len(uv))
                if inside[j] and abs(cells[i][0] - cells[j][0]) <= splat[0] // cell and abs(cells[i][1] - cells[j][1]) <= splat[1] // cell
            ),
            default=np.inf,
        )
        result.append(bool(inside[i]) and depth[i] <= np.float32(front) + max(fixed, share * front))
    return result


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 40),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    cell=st.integers(1, 5),
    splat=st.tuples(st.integers(0, 12), st.integers(0, 12)),
)
def test_the_z_buffer_is_the_slow_loop(seed: int, count: int, size: tuple[int, int], cell: int, splat: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    width, height = size
    uv = (rng.random((count, 2)) * [width, height] - 0.5).astype(np.float32)
    depth = rng.integers(1, 20, count).astype(np.float32) / 2
    inside = rng.random(count) < 0.8
    got = visible_points(uv, depth, inside, width, height, cell, splat, 0.3, 0.1)
    assert got.tolist() == slow_visible(uv, depth, inside, width, height, cell, splat, 0.3, 0.1)


def make_scene(beams: int) -> tuple[np.ndarray, np.ndarray, Camera]:
    """A wall at 6 m behind a board at 2 m, as a lidar above the camera sees them.

    Returns:
        Points in the optical frame, whether the camera can see each one, and the camera.
    """
    camera = Camera(640, 480, np.array([[400.0, 0, 319.5], [0, 400, 239.5], [0, 0, 1]]))
    lidar = np.array([0.0, -0.4, 0.0])
    azimuth, elevation = np.meshgrid(np.radians(np.arange(-30, 30, 0.2)), np.radians(np.linspace(-20, 20, beams)))
    rays = np.stack([np.tan(azimuth), -np.tan(elevation) / np.cos(azimuth), np.ones_like(azimuth)], axis=-1).reshape(-1, 3)
    board = lidar + 2 * rays
    on_board = (np.abs(board[:, 0]) < 0.4) & (np.abs(board[:, 1]) < 0.4)
    points = np.where(on_board[:, None], board, lidar + 6 * rays)
    seen_through = points * (2 / points[:, 2:3])
    hidden = ~on_board & (np.abs(seen_through[:, 0]) < 0.4) & (np.abs(seen_through[:, 1]) < 0.4)
    return points, ~hidden, camera


@pytest.mark.parametrize("beams", [16, 32, 64])
def test_what_the_lidar_sees_over_a_board_is_hidden_from_the_camera(beams: int) -> None:
    points, truly_visible, camera = make_scene(beams)
    uv, inside = camera.project(points)
    visible = visible_points(uv, points[:, 2], inside, camera.width, camera.height)
    hidden = inside & ~truly_visible
    assert hidden.sum() > 50  # the scene has something to hide
    assert (hidden & visible).sum() <= 0.08 * hidden.sum()
    kept = inside & truly_visible
    assert (kept & visible).sum() >= 0.93 * kept.sum()


def test_the_gap_between_beams_is_measured() -> None:
    rng = np.random.default_rng(0)
    rows = np.arange(10, 470, 23.0)
    u, v = np.meshgrid(np.arange(0, 640, 2.0), rows)
    uv = np.stack([u.ravel(), v.ravel() + rng.normal(scale=0.3, size=u.size)], axis=1)
    assert row_gap_px(uv) == pytest.approx(23, abs=1)
    assert row_gap_px(uv[:20]) == 0.0


def test_points_outside_and_behind_neither_hide_nor_show() -> None:
    uv = np.array([[5.0, 5.0], [5.0, 5.0], [5.0, 5.0]])
    depth = np.array([1.0, 3.0, np.nan])
    assert visible_points(uv, depth, np.array([False, True, True]), 10, 10).tolist() == [False, True, False]
    assert visible_points(uv[:0], depth[:0], np.zeros(0, bool), 10, 10).tolist() == []
