"""The direction to which the surfaces of a building are either parallel or perpendicular.

In: flat patches. Out: the vertical axis, and how sure it is. Next room: `levelling`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xkd_ros.points.surfels import Surfels

MAX_PATCHES = 400
MAX_PATCH_AREA_M2 = 1.0
GOOD_NORMAL_RAD = np.deg2rad(2.0)

MAX_TILT_DEG = 36.0
SEARCH_STEP_DEG = 2.5
SEARCH_SIGMA_DEG = 3.0
REFINE_SIGMA_DEG = (3.0, 3.0, 2.0, 2.0, 1.2, 1.2)
# Logarithm of how much likelier than chance a patch is in the middle of its kernel: to be level by chance is rarer than
# to be upright by chance.
LEVEL_VOTE, UPRIGHT_VOTE = 4.1, 1.8
TILT_COST = 0.25  # at MAX_TILT_DEG, growing with the square: lidars are held and mounted roughly level
REACH = 3.0  # kernels end at this many standard deviations
ELSEWHERE_DEG = 9.0


@dataclass(frozen=True, eq=False)
class Vertical:
    """The winner of the vote.

    Attributes:
        axis: (3,) float64 unit vector, z positive.
        score: Mean vote, at most 4.1 (all surfaces level) or 1.8 (all upright).
        lead: Score over the best score more than nine degrees away.
        support: Share of the flat area that is level or upright.
        sigma_deg: Standard deviation of the tilt in its less certain direction.
        area_m2: Flat area that voted.
    """

    axis: np.ndarray
    score: float
    lead: float
    support: float
    sigma_deg: float
    area_m2: float


@dataclass(frozen=True, eq=False)
class Patches:
    """Votes: (S, 3) normals, their weights (m² of good normals) and uncertainties in radians, all float64."""

    normals: np.ndarray
    weight: np.ndarray
    sigma_rad: np.ndarray

    @classmethod
    def choose(cls, surfels: list[Surfels]) -> Patches:
        """Take the most informative flat patches of all cell sizes."""
        normals = np.concatenate([surfel.normals[surfel.flat] for surfel in surfels])
        sigma = np.concatenate([surfel.sigma_rad[surfel.flat] for surfel in surfels])
        area = np.concatenate([surfel.area_m2[surfel.flat] for surfel in surfels])
        weight = np.minimum(area, MAX_PATCH_AREA_M2) / (1.0 + (sigma / GOOD_NORMAL_RAD) ** 2)
        if len(weight) > MAX_PATCHES:
            strongest = np.argpartition(-weight, MAX_PATCHES)[:MAX_PATCHES]
            normals, sigma, weight = normals[strongest], sigma[strongest], weight[strongest]
        return cls(normals, weight, sigma)

    def __len__(self) -> int:
        return len(self.weight)


def find_vertical(patches: Patches) -> Vertical:
    """Search all directions within 36 degrees of z, then refine the best one.

    Args:
        patches: At least one.
    """
    share = patches.weight / patches.weight.sum()
    score = _scores(DIRECTIONS, patches, share)
    score -= TILT_COST * (np.arccos(DIRECTIONS[:, 2]) / np.deg2rad(MAX_TILT_DEG)) ** 2
    best = int(np.argmax(score))
    elsewhere = DIRECTIONS @ DIRECTIONS[best] < np.cos(np.deg2rad(ELSEWHERE_DEG))
    axis, support, sigma_deg = _refine(DIRECTIONS[best].astype(np.float64), patches, share)
    lead = float(score[best]) / max(float(score[elsewhere].max()), 1e-6)
    return Vertical(axis, float(score[best]), lead, support, sigma_deg, float(patches.weight.sum()))


def _directions() -> np.ndarray:
    """(D, 3) float32 unit vectors, about evenly spread over the cap around z."""
    rings = [np.array([[0.0, 0.0, 1.0]])]
    for angle_deg in np.arange(SEARCH_STEP_DEG, MAX_TILT_DEG, SEARCH_STEP_DEG):
        angle = np.deg2rad(angle_deg)
        count = round(2 * np.pi * np.sin(angle) / np.deg2rad(SEARCH_STEP_DEG))
        azimuth = np.arange(count) * (2 * np.pi / count) + angle_deg
        across = np.sin(angle)
        ring = [across * np.cos(azimuth), across * np.sin(azimuth), np.full(count, np.cos(angle))]
        rings.append(np.stack(ring, axis=1))
    return np.concatenate(rings).astype(np.float32)


DIRECTIONS = _directions()


def _scores(directions: np.ndarray, patches: Patches, share: np.ndarray) -> np.ndarray:
    """Mean vote (D,) for each direction."""
    spread = REACH**2 * (np.deg2rad(SEARCH_SIGMA_DEG) ** 2 + patches.sigma_rad**2)
    inverse = (1.0 / spread).astype(np.float32)[:, None]
    cosine = np.abs(patches.normals.astype(np.float32) @ directions.T)
    level = np.maximum(1.0 - (2.0 - 2.0 * cosine) * inverse, 0.0)
    upright = np.maximum(1.0 - cosine * cosine * inverse, 0.0)
    share = share.astype(np.float32)
    return np.float32(LEVEL_VOTE) * (share @ level) + np.float32(UPRIGHT_VOTE) * (share @ upright)


def _refine(axis: np.ndarray, patches: Patches, share: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Weighted least squares of all patches that agree, with shrinking kernels: axis, support, sigma in degrees.

    A level patch wants the axis along its normal, an upright one across it: the axis is the smallest eigenvector of
    the weighted sum of upright minus level outer products.
    """
    normals = patches.normals
    for sigma_deg in REFINE_SIGMA_DEG:
        spread = np.deg2rad(sigma_deg) ** 2 + patches.sigma_rad**2
        cosine = np.abs(normals @ axis)
        upright = np.maximum(1.0 - cosine**2 / (REACH**2 * spread), 0.0) ** 2
        level = np.maximum(1.0 - (2.0 - 2.0 * cosine) / (REACH**2 * spread), 0.0) ** 2
        information = patches.weight / spread
        outer = (normals * (information * (upright - level))[:, None]).T @ normals
        axis = np.linalg.eigh(outer)[1][:, 0]
        axis = axis * np.sign(axis[2])
    across = np.linalg.svd(axis[None, :])[2][1:]
    projected = normals @ across.T
    fisher = (projected * (information * upright)[:, None]).T @ projected + np.eye(2) * (information @ level)
    # Patches of one surface share its errors, so information grows with area only: about one independent vote per m².
    weakest = max(float(np.linalg.eigvalsh(fisher)[0]), 1e-9)
    return axis, float(share @ np.maximum(level, upright)), float(np.rad2deg(1.0 / np.sqrt(weakest)))
