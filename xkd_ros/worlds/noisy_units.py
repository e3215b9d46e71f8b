"""Boxes and masks as an image model might draw them over true labels, with its mistakes: for the benchmark of `partdistill`.

In: the points that a picture shows, with their true labels. Out: sets of points with a class, and what is wrong with each. Next: studies.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from xkd_ros.core.types import UNKNOWN

_CELL_M = 0.2
_STRUCTURE = 3
"""Wall, floor and ceiling of indoor-12 come first; nobody draws boxes around those."""


class Fault(IntEnum):
    """What was done to a unit."""

    NONE = 0
    SHIFTED = 1
    WRONG_CLASS = 2
    MERGED = 3
    LEAKING = 4


class NoisyUnitConfig(BaseModel):
    """Shares of units by what is wrong with them; a unit has one fault at most."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    missed: float = Field(0.1, ge=0, le=1, description="not drawn at all")
    shifted: float = Field(0.15, ge=0, le=1, description="by a quarter to all of its size")
    wrong_class: float = Field(0.25, ge=0, le=1)
    merged: float = Field(0.1, ge=0, le=1, description="with its neighbour in the picture")
    leaking: float = Field(0.1, ge=0, le=1, description="the whole box, what is seen beside and behind the thing included")
    reach_m: float = Field(0.6, gt=0, description="points of one class this near belong to one thing")
    least_points: int = Field(5, ge=1)
    score: float = Field(0.6, ge=0, le=1, description="mean score of sound units")
    false_score: float = Field(0.5, ge=0, le=1, description="mean score of units with a fault")
    score_spread: float = Field(0.15, ge=0)

    @model_validator(mode="after")
    def _shares(self) -> NoisyUnitConfig:
        if self.shifted + self.wrong_class + self.merged + self.leaking > 1:
            raise ValueError("the shares of faults add up to more than 1")
        return self


@dataclass(frozen=True, eq=False)
class NoisyUnit:
    """One unit of a picture.

    Attributes:
        label: Claimed class.
        score: Of the image model, 0.05 to 1.
        box: Whether a box was drawn, or a mask.
        member: (M,) int64 into the points given.
        fault: What was done to it.
        right: Share of its members that are truly of the claimed class.
    """

    label: int
    score: float
    box: bool
    member: np.ndarray
    fault: Fault
    right: float

    @property
    def false(self) -> bool:
        """Whether most of what it says is wrong."""
        return self.right < 0.5


def make_noisy_units(
    points_m: np.ndarray, uv_px: np.ndarray, truth: np.ndarray, classes: int, config: NoisyUnitConfig, seed: tuple[int, ...]
) -> list[NoisyUnit]:
    """Draw units around the things that a picture shows.

    Args:
        points_m: (V, 3) metres: the points that the picture shows.
        uv_px: (V, 2) as (column, row).
        truth: (V,) uint8 true labels, 255 unknown.
        classes: Number of classes.
        config: Faults.
        seed: Everything follows from it: same seed, same units.
    Returns:
        A mask of each thing, and a box too where it is no structure; those with too few points left out.
    """
    rng = np.random.default_rng(seed)
    things = find_things(points_m, truth, config)
    centres = np.array([uv_px[members].mean(0) for _, members in things]).reshape(-1, 2)
    units = []
    for place, (label, members) in enumerate(things):
        for box in (False, True)[: 1 + (label >= _STRUCTURE)]:
            missed, kind, wrong, score = rng.random(), rng.random(), rng.integers(1, classes), rng.normal(0, config.score_spread)
            direction, far = rng.uniform(-np.pi, np.pi), rng.uniform(0.25, 1.0)
            if missed < config.missed:
                continue
            fault = Fault(int(np.searchsorted(_edges(config), kind, side="right") + 1) % len(Fault))
            said, shown = label, members
            if fault is Fault.SHIFTED:
                shown = _shifted(members, uv_px, np.array([np.cos(direction), np.sin(direction)]) * far, box)
            elif fault is Fault.WRONG_CLASS:
                said = (label + int(wrong)) % classes
            elif fault is Fault.MERGED and len(things) > 1:
                away = np.linalg.norm(centres - centres[place], axis=1)
                away[place] = np.inf
                shown = np.union1d(members, things[int(away.argmin())][1])
            elif fault is Fault.LEAKING:
                shown = _inside(uv_px, uv_px[members].min(0), uv_px[members].max(0))
            if len(shown) >= config.least_points:
                right = float((truth[shown] == said).mean())
                mean = config.score if fault is Fault.NONE else config.false_score
                units.append(NoisyUnit(said, float(np.clip(mean + score, 0.05, 1)), box, shown, fault, right))
    return units


def find_things(points_m: np.ndarray, truth: np.ndarray, config: NoisyUnitConfig) -> list[tuple[int, np.ndarray]]:
    """Group points of one class that hang together.

    Args:
        points_m: (V, 3) metres.
        truth: (V,) uint8, 255 unknown.
        config: How near, how many.
    Returns:
        (class, (M,) int64 ascending members) of each group.
    """
    things = []
    for label in np.unique(truth[truth != UNKNOWN]).tolist():
        of_class = np.flatnonzero(truth == label)
        # Cells instead of points: near the lidar points are dense, and pairs of them many.
        cells, cell_of = np.unique(np.floor(points_m[of_class] / _CELL_M).astype(np.int64), axis=0, return_inverse=True)
        pairs = cKDTree(cells * _CELL_M).query_pairs(config.reach_m, output_type="ndarray")
        graph = coo_matrix((np.ones(len(pairs), bool), pairs.T), shape=(len(cells), len(cells)))
        group = connected_components(graph, directed=False)[1][cell_of.reshape(-1)]
        order = np.argsort(group, kind="stable")
        parts = np.split(of_class[order], np.flatnonzero(np.diff(group[order])) + 1)
        things += [(label, part) for part in parts if len(part) >= config.least_points]
    return things


def _edges(config: NoisyUnitConfig) -> np.ndarray:
    """Cumulated shares of the faults in the order of `Fault`; what is above all of them has none."""
    return np.cumsum([config.shifted, config.wrong_class, config.merged, config.leaking])


def _inside(uv_px: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.flatnonzero(((uv_px >= low) & (uv_px <= high)).all(1))


def _shifted(members: np.ndarray, uv_px: np.ndarray, by: np.ndarray, box: bool) -> np.ndarray:
    """Move a unit in the picture by a share of its size: a box shows what is inside it then, a mask what its points come to lie on."""
    low, high = uv_px[members].min(0), uv_px[members].max(0)
    step = by * (high - low)
    if box:
        return _inside(uv_px, low + step, high + step)
    moved = uv_px[members] + step
    away, met = cKDTree(uv_px).query(moved)
    spacing = np.median(cKDTree(uv_px[members]).query(uv_px[members], k=2)[0][:, 1])
    return np.unique(met[away <= 2 * spacing])
