"""A scan labelled in several headings, and the answers averaged: the network sees the world through cells along x and y, and a door in a
wall along x looks to it a little different from one in a wall along y.

In: a scan. Out: logits that know all headings, at the sampled points of the first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xkd_ros.core.card import GeometryConfig
from xkd_ros.core.errors import ConfigError
from xkd_ros.core.se3 import rotation_from_rpy
from xkd_ros.core.types import NetInput

HEADINGS = (1, 2, 4)
_LEAST = np.float32(1e-30)
"""Probability whose logarithm is still a number."""


def check_headings(headings: int, geometry: GeometryConfig) -> None:
    """Refuse what cannot be.

    Raises:
        ConfigError: a number that is none of `HEADINGS`, or several headings of a field of view that is not the same after a quarter turn.
    """
    if headings not in HEADINGS:
        raise ConfigError(f"headings {headings} is none of {', '.join(map(str, HEADINGS))}")
    edges = {*geometry.fov_max_m[:2], *(-low for low in geometry.fov_min_m[:2])}
    if headings > 1 and len(edges) > 1:
        raise ConfigError(
            f"several headings need a field of view that is square around the sensor; here it is {geometry.fov_min_m} to "
            f"{geometry.fov_max_m} m"
        )


def average_headings(
    prepare: Callable[[np.ndarray], NetInput],
    infer: Callable[[NetInput], np.ndarray],
    first: NetInput,
    rotation: np.ndarray,
    temperature: float,
    headings: int,
) -> np.ndarray:
    """Average the probabilities of some headings at the sampled points of the first.

    Args:
        prepare: Rotation (3, 3) levelled_from_lidar → the scan prepared so.
        infer: Prepared scan → (N, C) logits.
        first: The scan prepared with `rotation`, with at least one point.
        rotation: (3, 3) levelled_from_lidar.
        temperature: That logits are divided by.
        headings: 2: as it is and turned by half; 4: by every quarter.
    Returns:
        (N, C) float32 logits whose probabilities, at that temperature, are the averaged ones.
    """
    total, seen = _probabilities(infer(first), temperature), 1
    for number in range(1, headings):
        turned = prepare(rotation_from_rpy(0.0, 0.0, 2 * np.pi * number / headings) @ rotation)
        if len(turned):
            # Every heading samples other points of its voxels, from which half of the gain comes.
            total += _probabilities(infer(turned), temperature)[turned.undo[first.kept]]
            seen += 1
    return np.log(np.maximum(total / seen, _LEAST)) * np.float32(temperature)


def _probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    """(N, C) float32; rows that are not finite stay so."""
    with np.errstate(invalid="ignore"):
        share = np.exp((logits - logits.max(axis=1, keepdims=True)) / np.float32(temperature))
        return share / share.sum(axis=1, keepdims=True)
