"""What a real lidar might have seen instead: turned, mirrored, tilted, thinned, noisy, dimmed, half blind.

Everything happens on the raw scan, before voxels, so that training and robot share one preprocessing.
Source: BENCH E (what made simulated training transfer) and METHODS 7.2 (sensor adaptation).
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from xkd_ros.core.se3 import rotation_from_rpy

_FEW = 0.5
_TOP_PERCENT = 99.5


class AugmentConfig(BaseModel):
    """Strength of every augmentation; 0 switches one off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scale: float = Field(0.08, ge=0, lt=0.5, description="isotropic scale within 1 +- this")
    stretch: float = Field(0.05, ge=0, lt=0.5, description="independent scale of each axis within 1 +- this")
    tilt_deg: float = Field(1.0, ge=0, description="standard deviation of the error of levelling")
    big_tilt: float = Field(0.1, ge=0, le=1, description="share of scans tilted uniformly up to big_tilt_deg, as if levelling had failed")
    big_tilt_deg: float = Field(12.0, ge=0, le=45)
    lift_m: float = Field(0.15, ge=0, description="standard deviation of a height offset")
    noise_m: float = Field(0.02, ge=0, description="largest standard deviation of extra range noise")
    thin: float = Field(0.35, ge=0, le=1, description="share of scans that lose points at random")
    sector: float = Field(0.25, ge=0, le=1, description="share of scans that lose an azimuth sector")
    shorten: float = Field(0.15, ge=0, le=1, description="share of scans cut at a shorter range")
    no_intensity: float = Field(0.3, ge=0, le=1, description="share of scans without intensity")
    gamma: float = Field(0.4, ge=0, description="standard deviation of the logarithm of an exponent on intensity")
    falloff_per_m: float = Field(0.1, ge=0, description="largest extra loss of intensity with range (exponential)")


def augment(
    points_m: np.ndarray, intensity: np.ndarray, labels: np.ndarray, config: AugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Change a levelled scan as another sensor, mounting or building would.

    Args:
        points_m: (N, 3) float32, levelled frame.
        intensity: (N,) float32, raw, any unit, not negative; NaN stays NaN.
        labels: (N,) uint8, or anything else that goes with the points.
        config: Strengths.
        rng: The only source of randomness.
    Returns:
        Points, intensity (None when dropped) and labels of the surviving points, in random order (so that the voxel filter, which
        keeps the first point of a voxel, keeps a random one).
    """
    keep = _survivors(points_m, config, rng)
    order = rng.permutation(np.flatnonzero(keep))
    points, labels = points_m[order], labels[order]
    points = points @ _pose(config, rng).astype(np.float32).T
    points[:, 2] += np.float32(rng.normal(0, config.lift_m))
    if config.noise_m:
        reach = np.linalg.norm(points, axis=1, keepdims=True) + np.float32(1e-6)
        sigma = rng.uniform(0, config.noise_m)
        points += points / reach * rng.normal(0, sigma, (len(points), 1)).astype(np.float32)
    if rng.random() < config.no_intensity:
        return points, None, labels
    return points, _dim(intensity[order], points, config, rng), labels


def top_intensity(intensity: np.ndarray) -> float:
    """Return what nearly all of (N,) intensities stay below, whatever single ones that are no numbers say; 0 without any."""
    finite = intensity[np.isfinite(intensity)]
    return float(np.percentile(finite, _TOP_PERCENT)) if len(finite) else 0.0


def _dim(intensity: np.ndarray, points: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Bend the response curve and the loss with range; unit and offset do not matter, preprocessing removes them."""
    unit = np.clip(intensity / max(top_intensity(intensity), 1e-9), 0, 1)
    reach = np.linalg.norm(points, axis=1)
    dimmed = unit ** np.exp(rng.normal(0, config.gamma)) * np.exp(-rng.uniform(0, config.falloff_per_m) * reach)
    return dimmed.astype(np.float32)


def _survivors(points: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    keep = np.ones(len(points), bool)
    if rng.random() < config.thin:
        keep &= rng.random(len(points)) < rng.uniform(0.3, 0.9)
    if rng.random() < config.sector:
        azimuth = np.arctan2(points[:, 1], points[:, 0])
        away = np.abs((azimuth - rng.uniform(-np.pi, np.pi) + np.pi) % (2 * np.pi) - np.pi)
        keep &= away > np.radians(rng.uniform(15, 120))
    if rng.random() < config.shorten:
        keep &= np.linalg.norm(points, axis=1) < rng.uniform(5, 20)
    # A scan that lost nearly everything teaches nothing: keep the original instead.
    return keep if keep.sum() > 200 else np.ones(len(points), bool)


def _pose(config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Draw tilt, yaw, mirror and scale as one (3, 3) matrix; the tilt axis is random, the tilt comes after the stretch."""
    big = rng.random() < config.big_tilt
    tilt = np.radians(rng.uniform(0, config.big_tilt_deg) if big else abs(rng.normal(0, config.tilt_deg)))
    axis = rng.uniform(-np.pi, np.pi)
    lean = rotation_from_rpy(0, 0, axis) @ rotation_from_rpy(tilt, 0, 0) @ rotation_from_rpy(0, 0, -axis)
    yaw = rotation_from_rpy(0, 0, rng.uniform(-np.pi, np.pi))
    mirror = np.diag([1.0, rng.choice([-1.0, 1.0]), 1.0])
    size = rng.uniform(1 - config.scale, 1 + config.scale) * rng.uniform(1 - config.stretch, 1 + config.stretch, 3)
    return lean @ yaw @ mirror @ np.diag(size)


def paper_pose(rng: np.random.Generator, scale: float) -> np.ndarray:
    """Draw what ScaLR does to coordinates: any yaw, x or y mirrored for two scans in three, isotropic scale; as one (3, 3) matrix.

    Source: METHODS 2.1 step 6 (distillation, scale 0.1) and 1.7 (supervised, coordinates not scaled).
    """
    mirror = np.ones(3)
    if rng.random() < 2 / 3:
        mirror[rng.integers(2)] = -1.0
    size = 1 + rng.uniform(-scale, scale)
    return size * mirror[:, None] * rotation_from_rpy(0, 0, rng.uniform(-np.pi, np.pi))


def nearest_to_one(points_m: np.ndarray, count: int, rng: np.random.Generator, among: np.ndarray | None = None) -> np.ndarray:
    """Choose the `count` points nearest to a random one, of (n,) `among`: a spatial crop (METHODS 1.2, LimitNumPoints)."""
    one = rng.integers(len(points_m)) if among is None else rng.choice(among)
    distance = np.linalg.norm(points_m - points_m[one], axis=1)
    return np.argpartition(distance, count)[:count]


def limit_points(points_m: np.ndarray, count: int, rng: np.random.Generator, wanted: np.ndarray | None = None) -> np.ndarray:
    """Choose `count` points, where there are more: a spatial crop, or as often a random thinning of the whole scan.

    Args:
        points_m: (N, 3).
        count: How many.
        rng: The only source of randomness.
        wanted: (N,) bool; where they are few, a crop is around one of them, and thinning keeps them, to half of all that stay.
            None: all alike.
    Returns:
        (min(N, count),) int64.
    """
    if len(points_m) <= count:
        return np.arange(len(points_m))
    few = None if wanted is None or not 0 < wanted.mean() < _FEW else np.flatnonzero(wanted)
    if rng.random() >= 0.5:
        return nearest_to_one(points_m, count, rng, few)
    order = rng.permutation(len(points_m))
    if few is not None:
        first = rng.permutation(few)[: count // 2]
        order = np.concatenate([first, order[~np.isin(order, first)]])
    return order[:count]
