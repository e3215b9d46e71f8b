"""Units from a teacher that draws boxes: the points in a box that stand in its foreground."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xkd_ros.distill.partdistill.config import BoxUnitConfig
from xkd_ros.distill.partdistill.sight import Sight
from xkd_ros.distill.partdistill.units import Origin, Unit
from xkd_ros.teacher.boxes import Box

_NEAR_QUANTILE = 0.1


def make_box_units(boxes: Sequence[Box], sight: Sight, classes: int, config: BoxUnitConfig) -> list[Unit]:
    """Turn boxes into units.

    Members are the visible points in the box whose depth lies between the tenth percentile of the depths there, less `before_m`, and
    their median, plus `behind_m` or the height of the box at that depth: without this rule boxes leak onto the wall behind. Y is the
    score on the class of the box and the rest shared evenly among the others; a box whose class is not the likeliest is left out.

    Args:
        boxes: Of the picture.
        sight: Points of the picture.
        classes: C.
        config: Limits.
    Source: METHODS 5.4 [DES].
    """
    units = []
    u, v = sight.uv_px.T
    for box in boxes:
        left, top, right, bottom = box.uv_px
        inside = np.flatnonzero((u >= left) & (u <= right) & (v >= top) & (v <= bottom))
        if box.score < max(config.least_score, 1 / classes) or len(inside) < config.least_points:
            continue
        depth_m = sight.depth_m[inside]
        median = float(np.median(depth_m))
        first = float(np.quantile(depth_m, _NEAR_QUANTILE)) - config.before_m
        last = median + max(config.behind_m, config.behind_heights * box_height_m(box, sight, median))
        members = inside[(depth_m >= first) & (depth_m <= last)]
        if len(members) >= config.least_points:
            confidence = np.full(len(members), box.score, np.float32)
            units.append(Unit(box.label, box.score, Origin.BOX, sight.view, sight.point[members], confidence))
    return units


def box_height_m(box: Box, sight: Sight, depth_m: float) -> float:
    """Measure a box at a depth: metres between the rays through the middle of its upper and its lower edge; 0 where no ray is."""
    left, top, right, bottom = box.uv_px
    middle = (left + right) / 2
    rays = sight.camera.unproject(np.array([[middle, top], [middle, bottom]]))
    return float(np.nan_to_num(depth_m * np.linalg.norm(rays[1] - rays[0])))
