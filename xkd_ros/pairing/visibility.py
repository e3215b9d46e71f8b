"""Which projected points the camera really sees: a z-buffer of small cells, so that near things hide what is behind them."""

from __future__ import annotations

import numpy as np

# METHODS 2.9 splats 2 to 4 pixels.
_NARROWEST_PX = 4
# A cover larger than this share of the image height would hide whole objects.
_SMALLEST_SHARE = 40
# Points this close in height belong to one beam, in strips this wide.
_SAME_ROW_PX, _STRIP_PX, _ENOUGH_GAPS = 3.0, 8, 50


def visible_points(
    uv_px: np.ndarray,
    depth_m: np.ndarray,
    inside: np.ndarray,
    width: int,
    height: int,
    cell_px: int = 2,
    splat_px: tuple[int, int] | None = None,
    tolerance_m: float = 0.1,
    tolerance_share: float = 0.03,
) -> np.ndarray:
    """Reject points that lie behind another point of nearly the same pixel.

    Each point covers the cells within `splat_px` of its own; a point is hidden when it is deeper than the nearest cover of
    its cell by more than the tolerance. Lidar and camera stand apart, so without this the wall behind a chair gets the
    chair's pixels.

    Args:
        uv_px: (N, 2) as (column, row), from `Camera.project`.
        depth_m: (N,) metres along the ray (range) or along the optical axis.
        inside: (N,) bool, the point is in the image.
        width, height: Image size in pixels.
        cell_px: Size of a cell.
        splat_px: How far a point covers to the left and right, and up and down. None covers half the gap between beams, so that
            near rows of a lidar with few beams close up and hide what shines through between them.
        tolerance_m, tolerance_share: The larger of the fixed and the relative tolerance counts.
    Returns:
        (N,) bool: inside and not hidden.

    Source: METHODS 2.9; the taller cover for lidars of few beams is ours.
    """
    visible = np.zeros(len(uv_px), bool)
    index = np.flatnonzero(inside & np.isfinite(depth_m))
    if not len(index):
        return visible
    if splat_px is None:
        splat_px = (
            _NARROWEST_PX,
            max(_NARROWEST_PX, min(height // _SMALLEST_SHARE, round(row_gap_px(uv_px[index]) / 2))),
        )
    columns, rows = -(-width // cell_px), -(-height // cell_px)
    # Pixel (0, 0) covers [-0.5, 0.5).
    u = np.clip((uv_px[index, 0] + 0.5) // cell_px, 0, columns - 1).astype(np.int64)
    v = np.clip((uv_px[index, 1] + 0.5) // cell_px, 0, rows - 1).astype(np.int64)
    depth = depth_m[index].astype(np.float32, copy=False)
    nearest = np.full(rows * columns, np.inf, np.float32)
    # Far to near, so that the last write of each cell is its nearest point.
    order = np.argsort(-depth, kind="stable")
    nearest[(v * columns + u)[order]] = depth[order]
    cover = nearest.reshape(rows, columns)
    cover = _widen(_widen(cover, splat_px[0] // cell_px, axis=1), splat_px[1] // cell_px, axis=0)
    front = cover[v, u]
    visible[index] = depth <= front + np.maximum(tolerance_m, tolerance_share * front)
    return visible


def row_gap_px(uv_px: np.ndarray) -> float:
    """Measure the vertical distance of neighbouring beams in the image.

    Args:
        uv_px: (N, 2) points in the image.
    Returns:
        Median gap in pixels; 0 when there are too few points to tell.
    """
    strip = uv_px[:, 0] // _STRIP_PX
    order = np.lexsort((uv_px[:, 1], strip))
    gaps = np.diff(uv_px[order, 1])
    gaps = gaps[(np.diff(strip[order]) == 0) & (gaps > _SAME_ROW_PX)]
    return float(np.median(gaps)) if len(gaps) >= _ENOUGH_GAPS else 0.0


def _widen(cover: np.ndarray, radius: int, axis: int) -> np.ndarray:
    """Take the minimum over `radius` cells to both sides along one axis."""
    widened = cover.copy()
    size = cover.shape[axis]
    for shift in range(1, min(radius, size - 1) + 1):
        low, high = [slice(None)] * 2, [slice(None)] * 2
        low[axis], high[axis] = slice(0, size - shift), slice(shift, size)
        np.minimum(widened[tuple(low)], cover[tuple(high)], out=widened[tuple(low)])
        np.minimum(widened[tuple(high)], cover[tuple(low)], out=widened[tuple(high)])
    return widened
