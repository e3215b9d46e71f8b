"""Pictures of labelled scans: panorama, bird's-eye and side view, and labels over the camera image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xkd_ros.core.errors import require
from xkd_ros.core.files import atomic_path
from xkd_ros.core.labels import LabelSet
from xkd_ros.core.types import UNKNOWN
from xkd_ros.evaluate.canvas import HINT, plain_text, pyplot

_CEILING_ID = 2
_DARK = "#101418"
_LEGEND_IN, _LONGEST_TITLE = 1.2, 100


def draw_scan(path: str | Path, points_m: np.ndarray, columns: Mapping[str, np.ndarray], label_set: LabelSet, title: str = "") -> None:
    """Draw one scan, one column of three views per set of labels.

    Args:
        path: PNG to write.
        points_m: (N, 3) metres, levelled, z up.
        columns: Heading → (N,) uint8 labels, for example true and predicted.
        label_set: Names and colours.
        title: Above everything.
    """
    plt = pyplot()
    finite = np.isfinite(points_m).all(axis=1) & (points_m != 0).any(axis=1)
    points = points_m[finite]
    reach = float(np.percentile(np.abs(points[:, :2]), 99.5)) + 0.5 if len(points) else 5.0
    low, high = (np.percentile(points[:, 2], [0.2, 99.8]) + [-0.3, 0.3]) if len(points) else (-2.0, 3.0)
    figure, axes = plt.subplots(
        3,
        len(columns),
        figsize=(7.5 * len(columns), 11),
        squeeze=False,
        height_ratios=[1.6, 4.2, 1.4],
        layout="constrained",
        facecolor=_DARK,
    )
    for column, (name, labels) in enumerate(columns.items()):
        chosen = labels[finite]
        panorama, above, side = axes[:, column]
        azimuth = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
        elevation = np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
        _dots(panorama, -azimuth, elevation, chosen, label_set, 3.0)
        panorama.set(title=f"{plain_text(name)}: panorama, seen from the sensor", xlim=(-180, 180))
        # From above the ceiling hides everything, so it is lifted off.
        open_top = (chosen != _CEILING_ID) if label_set.names[_CEILING_ID : _CEILING_ID + 1] == ("ceiling",) else np.ones(len(chosen), bool)
        order = np.argsort(points[open_top, 2])
        _dots(above, points[open_top][order, 0], points[open_top][order, 1], chosen[open_top][order], label_set, 1.5)
        above.plot(0, 0, "+", color="white")
        above.set(title="from above, without ceiling (m)", xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        _dots(side, points[:, 0], points[:, 2], chosen, label_set, 1.0)
        side.set(title="from the side (m)", xlim=(-reach, reach), ylim=(low, high), aspect="equal")
    for axis in axes.flat:
        _dark(axis)
    _finish(figure, path, columns, label_set, title)


def draw_overlay(
    path: str | Path, rgb: np.ndarray, uv_px: np.ndarray, columns: Mapping[str, np.ndarray], label_set: LabelSet, title: str = ""
) -> None:
    """Draw labels of the visible points over the camera image, one panel per set of labels.

    Args:
        path: PNG to write, or a JPEG if it ends in .jpg.
        rgb: (H, W, 3) uint8.
        uv_px: (N, 2) float32 pixels (column, row) of the points seen.
        columns: Heading → (N,) uint8 labels of those points.
        label_set: Names and colours.
        title: Above everything.
    """
    plt = pyplot()
    height, width = rgb.shape[:2]
    figure, axes = plt.subplots(
        1,
        1 + len(columns),
        figsize=(5.6 * (1 + len(columns)), 5.6 * height / width + 1.2),
        squeeze=False,
        layout="constrained",
        facecolor=_DARK,
    )
    for axis in axes.flat:
        axis.imshow(rgb)
        axis.set(xlim=(0, width), ylim=(height, 0))
        _dark(axis)
        axis.axis("off")
    axes[0, 0].set_title("camera", color="white")
    for axis, (name, labels) in zip(axes[0, 1:], columns.items()):
        _dots(axis, uv_px[:, 0], uv_px[:, 1], labels, label_set, 7.0)
        axis.set_title(plain_text(name), color="white")
    _finish(figure, path, columns, label_set, title)


def _dots(axis: Any, x: np.ndarray, y: np.ndarray, labels: np.ndarray, label_set: LabelSet, size: float) -> None:
    axis.scatter(x, y, c=label_set.palette[labels] / 255.0, s=size, linewidths=0, rasterized=True)


def _dark(axis: Any) -> None:
    axis.set_facecolor(_DARK)
    axis.tick_params(colors="#8a949e", labelsize=7)
    axis.title.set_color("white")
    axis.title.set_fontsize(9)
    for spine in axis.spines.values():
        spine.set_color("#39424c")


def _legend(label_set: LabelSet, columns: Mapping[str, np.ndarray]) -> list[Any]:
    patches = require("matplotlib.patches", "drawing pictures", HINT)
    used = np.unique(np.concatenate([np.zeros(0, np.uint8), *columns.values()]))
    names = [*label_set.names, *["unknown"] * (UNKNOWN + 1 - len(label_set))]
    return [patches.Patch(color=label_set.palette[i] / 255.0, label=plain_text(names[i])) for i in used]


def _finish(figure: Any, path: str | Path, columns: Mapping[str, np.ndarray], label_set: LabelSet, title: str) -> None:
    """Add legend and title, and write the picture."""
    plt = pyplot()
    figure.legend(
        handles=_legend(label_set, columns),
        loc="outside lower center",
        ncols=max(3, int(figure.get_figwidth() / _LEGEND_IN)),
        facecolor=_DARK,
        edgecolor=_DARK,
        labelcolor="white",
        fontsize=8,
    )
    figure.suptitle(plain_text(title, _LONGEST_TITLE), color="white", fontsize=10)
    try:
        with atomic_path(path) as temporary:
            photo = Path(path).suffix == ".jpg"
            options = {"format": "jpg", "pil_kwargs": {"quality": 88}} if photo else {"format": "png"}
            figure.savefig(temporary, dpi=90, facecolor=figure.get_facecolor(), **options)
    finally:
        plt.close(figure)
