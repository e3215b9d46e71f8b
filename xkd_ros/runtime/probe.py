"""Scans of an invented room: for choosing a backend, checking an export or an engine, and timing, where no recording is at hand.

Out: points and intensities as a lidar would send them. Only numpy, so that a robot can do it.
"""

from __future__ import annotations

import numpy as np

from xkd_ros.core.card import ModelCard
from xkd_ros.core.types import NetInput
from xkd_ros.points.preprocessor import Preprocessor

_HEIGHT_M = 1.1  # sensor above the floor
_NOISE_M = 0.01
_DROPPED = 0.02  # share of beams that come back empty
_BOXES = 14
_PROBES = ((16, 400, 8.0), (16, 900, 12.0), (32, 900, 16.0))  # beams, columns, length of the room


def make_room_scan(seed: int, beams: int, columns: int, length_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Scan a box-shaped room with boxes in it from its middle.

    Args:
        seed: Places the boxes, the noise and the dropped beams.
        beams: Elevations, spread over 45 degrees.
        columns: Azimuths of one revolution.
        length_m: Of the room; its width is two thirds of that.
    Returns:
        points_m (beams * columns, 3) float32 in the lidar frame, z up, (0, 0, 0) where nothing came back; intensity 0..255.
    """
    rng = np.random.default_rng(seed)
    elevation, azimuth = np.meshgrid(
        np.radians(np.linspace(-22.5, 22.5, beams)), np.linspace(0, 2 * np.pi, columns, endpoint=False), indexing="ij"
    )
    ray = np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1).reshape(-1, 3)
    half = np.array([length_m / 2, length_m / 3])
    low, high = np.array([-half[0], -half[1], -_HEIGHT_M]), np.array([half[0], half[1], 2.9 - _HEIGHT_M])
    with np.errstate(divide="ignore"):
        distance = np.maximum((low / ray), (high / ray)).min(axis=1)  # leaving the room
        surface = np.zeros(len(ray))
        for number in range(_BOXES):
            centre = rng.uniform(0.25, 0.9, 2) * half * rng.choice([-1, 1], 2)
            size = rng.uniform([0.2, 0.2, 0.4], [0.9, 0.9, 2.2])
            corners = np.append(centre, -_HEIGHT_M) + np.array([-size * [1, 1, 0], size])
            near, far = np.sort(corners[:, None] / ray, axis=0)
            entry = near.max(axis=1)
            hit = (entry > 0) & (entry < far.min(axis=1)) & (entry < distance)
            distance[hit], surface[hit] = entry[hit], number + 1
    distance = distance + rng.normal(0, _NOISE_M, len(ray))
    points = (ray * distance[:, None]).astype(np.float32)
    points[rng.random(len(points)) < _DROPPED] = 0
    intensity = (20 + 9 * (surface * 7 % 13) + rng.normal(0, 4, len(ray))).clip(0, 255)
    return points, intensity.astype(np.float32)


def probe_scans() -> list[tuple[np.ndarray, np.ndarray]]:
    """Scan three rooms, small to large; see `make_room_scan`."""
    return [make_room_scan(seed, *room) for seed, room in enumerate(_PROBES)]


def probe_inputs(card: ModelCard, count: int = len(_PROBES)) -> list[NetInput]:
    """Preprocess the first of these scans as the card says."""
    preprocess = Preprocessor(card.geometry, card.intensity, threads=1)
    return [preprocess(*make_room_scan(seed, *room)) for seed, room in enumerate(_PROBES[:count])]
