"""Which points lie near a jump in depth, where a small calibration or time error takes the class of the other side."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

# Rays are neighbours up to this many typical distances to the next ray: at an edge some are lost, and a moving lidar leaves gaps.
_REACH = 3.0
# A partner this far from the mirrored place, relative to the distance, still tells how the surface goes on.
_MIRROR_TOLERANCE = 0.5


def near_depth_edge(points_m: np.ndarray, uv_px: np.ndarray, visible: np.ndarray, edge_px: float, edge_m: float) -> np.ndarray:
    """Mark points that the camera sees near a jump in depth.

    Jumps are looked for as the lidar sees them, between neighbouring rays: in the image lidar and camera look past an edge
    differently, so the two sides may lie far apart there, or one hides the other. The outline of the near side is what the image
    shows: points within `edge_px` of it are marked, and the far side where it is as near.

    Rays whose ranges differ by more than `edge_m` stand at a jump when neither side explains it: a floor seen flat also changes by
    metres from ray to ray, but on a plane one over the range is linear in the direction, so the ray behind predicts the one in front.

    Args:
        points_m: (N, 3) metres, lidar frame; those that fall into the image, hidden ones too.
        uv_px: (N, 2) as (column, row).
        visible: (N,) bool, not hidden behind another point.
        edge_px: Largest distance in the image.
        edge_m: Smallest jump.
    Returns:
        (N,) bool; False where not visible.
    """
    edge = np.zeros(len(points_m), bool)
    range_m = np.linalg.norm(points_m, axis=1)
    usable = np.flatnonzero(range_m > 0)
    if len(usable) < 2 or edge_px <= 0:
        return edge
    ray, range_m = points_m[usable] / range_m[usable, None], range_m[usable]
    jumps = usable[_jumps(ray, range_m, edge_m)]  # (J, 2), the near side first
    jumps = jumps[visible[jumps[:, 0]]]
    if not len(jumps):
        return edge
    seen = np.flatnonzero(visible)
    outline = cKDTree(uv_px[np.unique(jumps[:, 0])])
    away, _ = outline.query(uv_px[seen], distance_upper_bound=edge_px + 1e-6)
    edge[seen[np.isfinite(away)]] = True
    # The outline lies somewhere between the two rays: half way, for the far side.
    gap = np.linalg.norm(uv_px[jumps[:, 0]] - uv_px[jumps[:, 1]], axis=1)
    edge[jumps[gap <= 2 * edge_px, 1]] = True
    return edge & visible


def _jumps(ray: np.ndarray, range_m: np.ndarray, edge_m: float) -> np.ndarray:
    """Find neighbouring rays (J, 2) at a jump, the nearer end of each first; one row per ray of a far side."""
    tree = cKDTree(ray)
    spacing = float(np.median(tree.query(ray, k=2)[0][:, 1]))
    pairs = tree.query_pairs(_REACH * spacing, output_type="ndarray")
    pairs = pairs[np.abs(range_m[pairs[:, 0]] - range_m[pairs[:, 1]]) > edge_m]
    if len(pairs):
        explained = _continues(tree, ray, range_m, pairs, edge_m) | _continues(tree, ray, range_m, pairs[:, ::-1], edge_m)
        pairs = pairs[~explained]
    far_first = range_m[pairs[:, 0]] > range_m[pairs[:, 1]]
    pairs = np.where(far_first[:, None], pairs[:, ::-1], pairs)
    # Only the near ray that is next to a far one lies on the outline, not all within reach.
    pairs = pairs[np.argsort(np.linalg.norm(ray[pairs[:, 0]] - ray[pairs[:, 1]], axis=1), kind="stable")]
    return pairs[np.unique(pairs[:, 1], return_index=True)[1]]


def _continues(tree: cKDTree, ray: np.ndarray, range_m: np.ndarray, pairs: np.ndarray, edge_m: float) -> np.ndarray:
    """Tell for pairs (from, to) whether the surface behind `from`, followed in a straight line, reaches `to`."""
    start, end = pairs[:, 0], pairs[:, 1]
    step = ray[end] - ray[start]
    length = np.linalg.norm(step, axis=1)
    away, behind = tree.query(ray[start] - step)
    back = np.linalg.norm(ray[behind] - ray[start], axis=1)
    near = (away <= _MIRROR_TOLERANCE * length) & (back > 0)
    slope = (1 / range_m[start] - 1 / range_m[behind]) / np.where(back > 0, back, 1)
    predicted = 1 / np.maximum(1 / range_m[start] + slope * length, 1e-4)
    return near & (np.abs(predicted - range_m[end]) <= edge_m)
