"""All textures of one building in one array, with smaller copies for far surfaces, looked up for many pixels at once.

Comes in: a seed and a texture family. Goes out: a `TextureAtlas`, read by `surfaces` (which picture) and `shading` (its colours).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from xkd_ros.core.errors import ConfigError
from xkd_ros.worlds.motifs import MOTIFS
from xkd_ros.worlds.patterns import FAMILIES, PATTERNS, SIZE

_LEVELS = SIZE.bit_length()
_VARIANTS = 2
"""Draws of every endless pattern per building, so that two rooms with the same kind of floor still differ."""


def family_index(family: str) -> int:
    """Return the position of a texture family.

    Raises:
        ConfigError: unknown family.
    """
    if family not in FAMILIES:
        raise ConfigError(f"texture family '{family}' is unknown; use one of {', '.join(FAMILIES)}")
    return FAMILIES.index(family)


class TextureAtlas:
    """Pictures of all kinds for one building.

    Args:
        seed: Of the building.
        family: Texture family; no pattern or motif of one family appears in another.

    Attributes:
        layers: Kind to the numbers of its pictures.
        edge_m: (L,) float32 size of each picture on the wall; 1 for motifs, whose coordinates run from 0 to 1.
        mean_rgb: (L, 3) float32 mean of each picture.
    """

    def __init__(self, seed: int, family: str) -> None:
        which = family_index(family)
        # The family enters the seed: the same building in another family has other noise too.
        rng = np.random.default_rng([seed, which, 0x7E87])
        self.layers: dict[str, tuple[int, ...]] = {}
        pictures: list[np.ndarray] = []
        edges: list[float] = []
        for kind, (edge, patterns) in PATTERNS.items():
            self.layers[kind] = tuple(range(len(pictures), len(pictures) + _VARIANTS))
            pictures += [patterns[which](rng) for _ in range(_VARIANTS)]
            edges += [edge] * _VARIANTS
        for kind, (count, motif) in MOTIFS.items():
            self.layers[kind] = tuple(range(len(pictures), len(pictures) + count))
            pictures += [motif(rng, which) for _ in range(count)]
            edges += [1.0] * count
        self.edge_m = np.array(edges, np.float32)
        self.mean_rgb = np.array([p.mean((0, 1)) for p in pictures], np.float32)
        self._texels, self._starts = _pack(np.array(pictures, np.float32))

    def look_up(self, layer: np.ndarray, u: np.ndarray, v: np.ndarray, footprint: np.ndarray) -> tuple[np.ndarray, ...]:
        """Read one texel per pixel.

        Args:
            layer: (M,) int32 picture of each pixel.
            u: (M,) float32, in pictures; the fraction counts from the left.
            v: (M,) float32, in pictures; the fraction counts from the bottom.
            footprint: (M,) float32 size of the pixel on the surface, in pictures.
        Returns:
            Red, green and blue, each (M,) float32 about 0..1.1.
        """
        level = np.clip(np.frexp(footprint * np.float32(SIZE))[1], 0, _LEVELS - 1)
        column = np.floor(u * np.float32(SIZE)).astype(np.int32) & (SIZE - 1)
        row = np.floor(v * np.float32(-SIZE)).astype(np.int32) & (SIZE - 1)
        shift = _LEVELS - 1 - level
        index = self._starts[level] + ((layer << shift) + (row >> level) << shift) + (column >> level)
        packed = self._texels[index]
        scale = np.float32(1.15 / 1023)
        return tuple((packed >> s & 1023).astype(np.float32) * scale for s in (0, 10, 20))


@lru_cache(maxsize=3)
def atlas_of(seed: int, family: str) -> TextureAtlas:
    """Return the atlas of a building, drawn once for all its cameras; it is never changed."""
    return TextureAtlas(seed, family)


def _pack(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pack (L, SIZE, SIZE, 3) pictures and their halved copies, ten bits per colour, into one (T,) int32 array.

    Returns:
        The texels, and (levels,) int32 where each level begins.
    """
    texels, starts, at = [], [], 0
    level = pictures
    for _ in range(_LEVELS):
        bits = np.clip(np.rint(level * (1023 / 1.15)), 0, 1023).astype(np.int32)
        packed = (bits[..., 0] | bits[..., 1] << 10 | bits[..., 2] << 20).reshape(-1)
        texels.append(packed)
        starts.append(at)
        at += len(packed)
        if level.shape[1] > 1:
            level = (level[:, ::2, ::2] + level[:, 1::2, ::2] + level[:, ::2, 1::2] + level[:, 1::2, 1::2]) / 4
    return np.concatenate(texels), np.array(starts, np.int32)
