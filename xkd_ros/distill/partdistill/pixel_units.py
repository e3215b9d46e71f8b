"""Units from a teacher that names the class of every pixel: connected regions of its label map, one unit per surface."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from xkd_ros.core.types import UNKNOWN
from xkd_ros.distill.partdistill.config import PixelUnitConfig
from xkd_ros.distill.partdistill.sight import Sight
from xkd_ros.distill.partdistill.units import Origin, Unit

_EIGHT = np.ones((3, 3), bool)


def grid_pixels(width: int, height: int, grid_px: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Lay a grid over an image.

    Returns:
        (h * w, 2) float32 pixels (column, row) at the middle of each cell, row by row, and (h, w).
    """
    column, row = (np.arange((grid_px - 1) / 2, size - 0.5, grid_px, dtype=np.float32) for size in (width, height))
    return np.stack(np.meshgrid(column, row), -1).reshape(-1, 2), (len(row), len(column))


def make_pixel_units(scores: np.ndarray, sight: Sight, config: PixelUnitConfig) -> list[Unit]:
    """Cut a score map into units.

    Regions are 8-connected cells of one best class, large enough, without their rim. A region falls into several units where the
    depths of its points leave a gap, so that one unit is one surface. Y is the scores of a pixel over their sum; a member's
    confidence is that of the region's class.

    Args:
        scores: (h, w, C) float32 on the grid of `grid_pixels`; rows of zeros are of no class.
        sight: Points of the picture.
        config: Sizes.
    Source: METHODS 5.4 [DES].
    """
    grid = config.grid_px
    total = scores.sum(2)
    best = np.where(total > 0, scores.argmax(2), UNKNOWN)
    sure = np.divide(scores.max(2), total, out=np.zeros_like(total), where=total > 0)
    cell = np.clip(np.rint((sight.uv_px - (grid - 1) / 2) / grid).astype(np.int64), 0, np.array(best.shape[::-1]) - 1)
    column, row = cell.T
    units = []
    for label in np.unique(best[best != UNKNOWN]).tolist():
        region, count = ndimage.label(best == label, _EIGHT)
        kept = np.bincount(region.ravel(), minlength=count + 1) * grid**2 >= config.least_area_px
        kept[0] = False
        inner = best == label
        if config.erode_px:
            # The border of the image is no border between things.
            inner = ndimage.binary_erosion(inner, _EIGHT, -(-config.erode_px // grid), border_value=1)
        # Regions of one class do not touch, so eroding all of them at once is eroding each.
        found = np.where(inner & kept[region], region, 0)[row, column]
        for number in np.unique(found[found > 0]).tolist():
            for place in _surfaces(np.flatnonzero(found == number), sight.depth_m, config.gap_m):
                if len(place) >= config.least_points:
                    confidence = sure[row[place], column[place]]
                    units.append(Unit(label, float(confidence.mean()), Origin.PIXELS, sight.view, sight.point[place], confidence))
    return units


def _surfaces(place: np.ndarray, depth_m: np.ndarray, gap_m: float) -> list[np.ndarray]:
    """Part points where their sorted depths leave a gap."""
    order = place[np.argsort(depth_m[place], kind="stable")]
    return [np.sort(part) for part in np.split(order, np.flatnonzero(np.diff(depth_m[order]) > gap_m) + 1)]
