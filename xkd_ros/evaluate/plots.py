"""Diagrams of a report as PNG bytes: training curves, confusion, reliability, entropy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xkd_ros.evaluate.canvas import plain_text, png, pyplot
from xkd_ros.evaluate.scores import EntropyTable, ReliabilityTable
from xkd_ros.evaluate.training_log import TrainingLog
from xkd_ros.metrics.confusion import Confusion
from xkd_ros.metrics.unit_quality import UnitReport

_INK, _GRID = "#1f2933", "#d8dee6"
_BLUE, _ORANGE, _GREY = "#2563a8", "#d9822b", "#8a97a6"
_LINES = (_BLUE, _ORANGE, "#2e8b57", "#a23b72", "#5f4bb6", "#8a6d1f", "#0f8b8d", "#c0392b")
_FEW_POINTS = 30
_MOST_LINES = len(_LINES)
# The shares of points fill the lower third at most.
_SHARES_SCALE = 3.0
# Figures that are no score of the model and would squeeze the others.
_NOT_SCORES = ("loss", "lr", "samples_per_s", "waiting")


def draw_curves(log: TrainingLog) -> bytes | None:
    """Draw loss, scores and learning rate over the steps; None without any of them."""
    losses = {name: curve for name, curve in log.curves.items() if name == "loss" or name.endswith("_loss")}
    scores = {name: curve for name, curve in log.curves.items() if name not in losses and name not in _NOT_SCORES}
    panels = [("loss", losses), ("scores", scores), ("learning rate", {n: c for n, c in log.curves.items() if n == "lr"})]
    panels = [(title, curves) for title, curves in panels if curves]
    if not panels:
        return None
    figure, axes = pyplot().subplots(1, len(panels), figsize=(4.2 * len(panels), 3.0), squeeze=False, layout="constrained")
    for axis, (title, curves) in zip(axes[0], panels):
        for colour, (name, curve) in zip(_LINES, curves.items()):
            dense = name == "loss" and len(curve) > _FEW_POINTS
            marker = "" if len(curve) > _FEW_POINTS else "o"
            label = plain_text(name)
            axis.plot(*curve.T, color=colour, alpha=0.3 if dense else 1.0, lw=1.0 if dense else 1.6, marker=marker, ms=3, label=label)
            if dense:
                axis.plot(curve[:, 0], _smooth(curve[:, 1]), color=colour, lw=1.8)
        left_out = len(curves) - _MOST_LINES
        _axis(axis, title + (f" ({left_out} more not drawn)" if left_out > 0 else ""), "step", "")
        if title == "scores" or len(curves) > 1:
            axis.legend(fontsize=7, frameon=False)
    return png(figure)


def draw_confusion(confusion: Confusion, names: Sequence[str]) -> bytes:
    """Draw where the points of each labelled class went, in percent of the row; the last column is "no class"."""
    total = confusion.counts.sum(1, keepdims=True)
    share = 100 * np.divide(confusion.counts, total, out=np.full(confusion.counts.shape, np.nan), where=total > 0)
    # A column that nothing went to is left out, as it nearly always is.
    columns = [*map(plain_text, names), "no class"]
    if not confusion.counts[:, -1].any():
        share, columns = share[:, :-1], columns[:-1]
    size = 0.46 * len(names)
    figure, axis = pyplot().subplots(figsize=(2.4 + 0.46 * len(columns), 1.6 + size), layout="constrained")
    axis.imshow(np.nan_to_num(share), cmap="Blues", vmin=0, vmax=100)
    for row, column in np.argwhere(share >= 0.5):
        value = share[row, column]
        axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color="white" if value > 55 else _INK)
    axis.set_xticks(range(len(columns)), columns, rotation=50, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set_yticks(
        range(len(names)), [plain_text(name) + ("" if rows else " (none)") for name, rows in zip(names, total[:, 0])], fontsize=8
    )
    axis.set_xlabel("predicted", color=_INK)
    axis.set_ylabel("labelled", color=_INK)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_color(_GRID)
    return png(figure)


def draw_reliability(tables: Mapping[str, ReliabilityTable]) -> bytes:
    """Draw accuracy against confidence, one panel per table: on the diagonal 0.8 is right eight times in ten."""
    figure, axes = pyplot().subplots(1, len(tables), figsize=(3.6 * len(tables), 3.6), squeeze=False, layout="constrained")
    for axis, (title, table) in zip(axes[0], tables.items()):
        bins = len(table.points)
        filled = [index for index in range(bins) if table.accuracy[index] is not None]
        middles = (np.array(filled) + 0.5) / bins
        accuracy = np.array([table.accuracy[index] for index in filled], float)
        confidence = np.array([table.confidence[index] for index in filled], float)
        axis.plot([0, 1], [0, 1], color=_GREY, lw=1, ls="--")
        axis.bar(middles, accuracy, width=0.94 / bins, color=_BLUE, alpha=0.75)
        axis.vlines(confidence, np.minimum(accuracy, confidence), np.maximum(accuracy, confidence), color=_ORANGE, lw=3)
        points = np.array(table.points, float) / max(sum(table.points), 1)
        axis.step(np.linspace(0, 1, bins + 1), np.append(points, points[-1]) / _SHARES_SCALE, where="post", color=_GREY, lw=1)
        ece = "no points" if table.ece is None else f"ECE {100 * table.ece:.1f} %"
        _axis(axis, f"{plain_text(title)}: {ece}", "probability said", "share that is right")
        axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    return png(figure)


def draw_entropy(table: EntropyTable) -> bytes:
    """Draw the share of points per entropy and the mean."""
    figure, axis = pyplot().subplots(figsize=(4.6, 3.0), layout="constrained")
    edges, counts = np.array(table.edges), np.array(table.counts, float)
    axis.bar((edges[:-1] + edges[1:]) / 2, 100 * counts / max(counts.sum(), 1), width=0.94 * np.diff(edges), color=_BLUE, alpha=0.8)
    if table.mean is not None:
        axis.axvline(table.mean, color=_ORANGE, lw=1.6)
    _axis(axis, "no points" if table.mean is None else f"mean {table.mean:.3f}", "entropy (0 certain, 1 clueless)", "% of points")
    axis.set_xlim(0, 1)
    return png(figure)


def draw_units(report: UnitReport, names: Sequence[str]) -> bytes:
    """Draw how far the student agrees with the units of each class, and the share of them that it drops; one panel per teacher."""
    most = max(map(len, report.origins.values()), default=0)
    size = (4.4 * max(len(report.origins), 1), 1.2 + 0.3 * most)
    figure, axes = pyplot().subplots(1, max(len(report.origins), 1), figsize=size, squeeze=False, layout="constrained")
    for axis, (origin, rows) in zip(axes[0], report.origins.items()):
        places = np.arange(len(rows))[::-1]
        axis.barh(places + 0.18, [100 * row.score for row in rows], height=0.36, color=_BLUE, label="agreement")
        axis.barh(places - 0.18, [100 * row.dropped / row.units for row in rows], height=0.36, color=_ORANGE, label="dropped")
        _axis(axis, f"units from {plain_text(origin)}", "%", "")
        axis.set_yticks(places, [plain_text(names[row.label]) for row in rows], fontsize=8)
        axis.set_xlim(0, 100)
        axis.legend(fontsize=7, frameon=False)
    return png(figure)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Running median, which a single bad step does not bend."""
    window = 2 * max(2, min(25, len(values) // 24)) + 1
    padded = np.pad(values, window // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)


def _axis(axis: Any, title: str, x: str, y: str) -> None:
    axis.set_title(title, fontsize=9, color=_INK)
    axis.set_xlabel(x, fontsize=8, color=_INK)
    axis.set_ylabel(y, fontsize=8, color=_INK)
    axis.tick_params(labelsize=7, colors=_INK, length=2)
    axis.grid(color=_GRID, lw=0.6)
    axis.set_axisbelow(True)
    for name, spine in axis.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(_GRID)
