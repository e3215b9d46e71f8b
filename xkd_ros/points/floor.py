"""Floor, ceiling, and which of the two is which.

In: flat patches and the vertical axis. Out: the axis pointing up, and the height of the floor. Next room: `levelling`.
"""

from __future__ import annotations

import numpy as np

from xkd_ros.points.surfels import Surfels

LEVEL_COSINE = np.cos(np.deg2rad(7.0))
UPRIGHT_SINE = np.sin(np.deg2rad(8.0))
BIN_M = 0.05
REACH_M = 12.0
MIN_BELOW_SENSOR_M = 0.1
SURFACE_BINS = 2  # a surface may spread over this many bins to either side
MIN_AREA_M2 = 0.4
MIN_AREA_SHARE = 0.3  # of the largest level surface on that side
NEAR_M = 5.0
UNDER_M, MAX_UNDER_SHARE = 0.25, 0.1
BAND_M = (0.25, 1.25)  # where things stand on a floor
MIN_BAND_CELLS = 20
# Odds in natural logarithms. Lidars are mounted upright; to believe the opposite takes furniture hanging from the floor.
UPRIGHT_ODDS = 8.0
CLUTTER_ODDS = 8.0
USUAL_HEIGHT_M = (0.15, 2.2)
MAX_HEIGHT_ODDS = 4.0


def find_floor(axis: np.ndarray, surfels: list[Surfels]) -> tuple[np.ndarray, float | None]:
    """Decide which end of the vertical axis is up, and find the floor.

    Args:
        axis: (3,) unit vector, vertical, z positive.
        surfels: Patches, flat and other, of each cell size, the smallest first.
    Returns:
        up (3,), and the height of the floor along it in metres (negative below the lidar), None when it is not seen.
    """
    below, above = _Side(axis, surfels), _Side(-axis, surfels)
    if below.distance_m is None or above.distance_m is None:
        return axis, None if below.distance_m is None else -below.distance_m
    odds = UPRIGHT_ODDS + CLUTTER_ODDS * (below.clutter - above.clutter)
    odds += _height_odds(below.distance_m) - _height_odds(above.distance_m)
    if odds < 0.0:
        return -axis, -above.distance_m
    return axis, -below.distance_m


class _Side:
    """The floor, if `up` is up, and what stands on it."""

    def __init__(self, up: np.ndarray, surfels: list[Surfels]) -> None:
        self.distance_m: float | None = None
        self.clutter = 0.0
        heights, areas = [], []
        for patches in surfels:
            level = patches.flat & (np.abs(patches.normals @ up) > LEVEL_COSINE)
            heights.append(patches.centres_m[level] @ up)
            areas.append(np.minimum(patches.area_m2[level], 1.0) * _nearness(patches.centres_m[level]))
        floor_m = _lowest_surface(np.concatenate(heights), np.concatenate(areas))
        if floor_m is None:
            return
        near = _nearness(surfels[0].centres_m)
        under = surfels[0].centres_m @ up < floor_m - UNDER_M
        if near[under].sum() > MAX_UNDER_SHARE * near.sum():
            return  # a table top: walls go on below it
        self.distance_m = -floor_m
        self.clutter = _clutter(up, surfels[0], floor_m)


def _nearness(centres_m: np.ndarray) -> np.ndarray:
    """Weight (S,) of patches: a robot stands on a floor near to it, the ground seen through a window is another."""
    return 1.0 / (1.0 + np.einsum("ij,ij->i", centres_m, centres_m) / NEAR_M**2)


def _lowest_surface(height: np.ndarray, area: np.ndarray) -> float | None:
    """Height of the lowest level surface of a fair size below the lidar, from patches (S,)."""
    below = (height < -MIN_BELOW_SENSOR_M) & (height > -REACH_M)
    height, area = height[below], area[below]
    bins = ((height + REACH_M) / BIN_M).astype(int)
    histogram = np.bincount(bins, area, int(REACH_M / BIN_M) + 1)
    surface = np.convolve(histogram, np.ones(2 * SURFACE_BINS + 1), mode="same")
    # Nothing lies under a floor but reflections and the foot of a stair: take the lowest surface of a fair size.
    large_enough = surface >= max(MIN_AREA_M2, MIN_AREA_SHARE * float(surface.max()))
    if not large_enough.any():
        return None
    first = int(np.argmax(large_enough))
    centre = first + int(np.argmax(surface[first : first + 2 * SURFACE_BINS + 1]))
    member = np.abs(bins - centre) <= SURFACE_BINS
    return float(np.average(height[member], weights=area[member]))


def _clutter(up: np.ndarray, small: Surfels, floor_m: float) -> float:
    """Share of the cells just above a floor that are neither level nor upright surfaces; furniture is, walls are not."""
    height = small.centres_m @ up - floor_m
    band = (height > BAND_M[0]) & (height < BAND_M[1])
    if np.count_nonzero(band) < MIN_BAND_CELLS:
        return 0.0
    cosine = np.abs(small.normals[band] @ up)
    surface = small.flat[band] & ((cosine > LEVEL_COSINE) | (cosine < UPRIGHT_SINE))
    return float(1.0 - surface.mean())


def _height_odds(distance_m: float) -> float:
    """How usual it is to carry a lidar this far above a floor."""
    low, high = USUAL_HEIGHT_M
    miss = max(low - distance_m, 0.0) / 0.1 + max(distance_m - high, 0.0) / 0.5
    return -min(0.5 * miss**2, MAX_HEIGHT_ODDS)
