"""What another camera in another building might have shown: warped, recoloured, dimmed, blurred, noisy, partly covered.

The pictures that teach the 2D network know few colours and materials; where it is used everything looks different, so colours are
turned all the way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field

from xkd_ros.core.types import UNKNOWN

_GREY = np.full((3, 3), 1 / 3)


class PictureAugmentConfig(BaseModel):
    """Strength of every augmentation; 0 switches one off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window_px: tuple[Annotated[int, Field(ge=32, le=4096)], Annotated[int, Field(ge=32, le=4096)]] = Field(
        (240, 320), description="height and width of what the network sees of a picture, before zoom; less trains faster, with less context"
    )
    zoom: float = Field(0.6, ge=0, le=3, description="pictures are enlarged up to 1 + this; small zooms are more frequent")
    shrink: float = Field(0.25, ge=0, lt=0.5, description="or shrunk down to 1 - this; what lies beyond the picture has no label")
    stretch: float = Field(0.1, ge=0, lt=0.5, description="standard deviation of the logarithm of width over height")
    rotate_deg: float = Field(5.0, ge=0, le=45, description="standard deviation")
    flip: float = Field(0.5, ge=0, le=1, description="share of mirrored pictures")
    hue: float = Field(0.8, ge=0, le=1, description="share of pictures whose hues are turned by any angle")
    saturation: float = Field(0.9, ge=0, description="saturation within 1 +- this")
    tint: float = Field(0.12, ge=0, description="standard deviation of the logarithm of each channel's gain")
    brightness: float = Field(0.2, ge=0, description="standard deviation of the logarithm of the gain")
    gamma: float = Field(0.3, ge=0, description="standard deviation of the logarithm of the exponent")
    uneven: float = Field(0.25, ge=0, description="standard deviation of the logarithm of light that varies over the picture")
    grey: float = Field(0.15, ge=0, le=1, description="share of pictures without colour")
    blur: float = Field(0.25, ge=0, le=1, description="share of blurred pictures")
    noise: float = Field(0.05, ge=0, description="largest standard deviation of added noise, 1 = white")
    cover: float = Field(0.3, ge=0, le=1, description="share of pictures with covered rectangles, whose labels are not counted")


@dataclass(frozen=True, eq=False)
class _Warp:
    """Where each place of the new picture comes from: source = matrix @ (u, v, 1), both from -1 to 1."""

    matrix: np.ndarray  # (2, 3)

    def __call__(self, uv: np.ndarray) -> np.ndarray:
        return uv @ self.matrix[:, :2].T + self.matrix[:, 2]


def augment_picture(
    rgb: np.ndarray, labels: np.ndarray, points: int, config: PictureAugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Change a picture, and choose random places in it that will be asked for their class.

    Args:
        rgb: (H, W, 3) uint8.
        labels: (H, W) uint8.
        points: Number of places P.
        config: Strengths.
        rng: The only source of randomness.
    Returns:
        rgb (3, h, w) float32 in 0..1, the size of the window.
        uv (P, 2) float32, places in it as `nets.image_input.sample_at` takes them.
        labels (P,) uint8 of the places.
    """
    height, width = config.window_px
    warp = _draw_warp(labels.shape, config, rng)
    picture = _recolour(_apply(rgb, warp, config.window_px), config, rng)
    cells = rng.integers(0, height * width, points)
    uv = (2 * np.stack([cells % width, cells // width], 1) + 1) / (width, height) - 1
    source = np.floor((warp(uv) + 1) / 2 * labels.shape[::-1]).astype(int)
    inside = np.all((source >= 0) & (source < labels.shape[::-1]), axis=1)
    column, row = np.where(inside[:, None], source, 0).T
    names = np.where(inside, labels[row, column], UNKNOWN).astype(np.uint8)
    if rng.random() < config.cover:
        for left, top, right, bottom in _rectangles(height, width, rng):
            shade = rng.random((3, 1, 1)) + rng.normal(0, rng.choice([0.0, 0.2]), (3, bottom - top, right - left))
            picture[:, top:bottom, left:right] = np.clip(shade, 0, 1)
            names[(cells % width >= left) & (cells % width < right) & (cells // width >= top) & (cells // width < bottom)] = UNKNOWN
    return picture, uv.astype(np.float32), names


def _draw_warp(shape: tuple[int, ...], config: PictureAugmentConfig, rng: np.random.Generator) -> _Warp:
    shrinks = rng.random() < 0.25
    zoom = 1 - config.shrink * rng.random() if shrinks else 1 + config.zoom * rng.random() ** 2
    stretch = np.exp(rng.normal(0, config.stretch) / 2)
    angle = np.radians(rng.normal(0, config.rotate_deg))
    mirror = -1.0 if rng.random() < config.flip else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # In pixels, where angles keep their size, and from there to halves of the picture.
    pixels = turn @ np.diag([mirror * stretch, 1 / stretch]) / zoom * config.window_px[::-1]
    matrix = pixels / np.array(shape[::-1])[:, None]
    # The window moves only as far as the picture reaches.
    room = np.maximum(0, 1 - np.abs(matrix).sum(1))
    return _Warp(np.column_stack([matrix, room * rng.uniform(-1, 1, 2)]))


def _apply(rgb: np.ndarray, warp: _Warp, window: tuple[int, int]) -> np.ndarray:
    """Warp (H, W, 3) uint8 to (3, h, w) float32 in 0..1; borders repeat the edge."""
    picture = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float() / 255
    matrix = torch.from_numpy(warp.matrix.astype(np.float32))[None]
    grid = F.affine_grid(matrix, [1, 3, *window], align_corners=False)
    return np.asarray(F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)[0].numpy())


def _recolour(rgb: np.ndarray, config: PictureAugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Change colours, light, sharpness and noise of (3, H, W) in 0..1."""
    mix = np.eye(3)
    if rng.random() < config.hue:
        mix = _turn_hues(rng.uniform(-np.pi, np.pi))
    saturation = 0.0 if rng.random() < config.grey else max(0.0, 1 + config.saturation * rng.uniform(-1, 1))
    mix = (_GREY + saturation * (np.eye(3) - _GREY)) @ mix
    gain = np.exp(rng.normal(0, config.brightness)) * np.exp(rng.normal(0, config.tint if saturation else 0.0, 3))
    picture = np.tensordot((gain[:, None] * mix).astype(np.float32), rgb, 1)
    if config.uneven:
        coarse = torch.from_numpy(np.exp(rng.normal(0, config.uneven, (1, 1, 3, 4))).astype(np.float32))
        picture *= F.interpolate(coarse, size=rgb.shape[1:], mode="bicubic", align_corners=False)[0].clamp(min=0.2).numpy()
    picture = np.clip(picture, 0, 1) ** np.float32(np.exp(rng.normal(0, config.gamma)))
    if rng.random() < config.blur:
        from scipy.ndimage import gaussian_filter

        sigma = rng.uniform(0.4, 1.6)
        picture = gaussian_filter(picture, (0, sigma, sigma), truncate=2.5)
    sigma = rng.uniform(0, config.noise)
    grain = rng.standard_normal((3 if rng.random() < 0.5 else 1, *rgb.shape[1:]), dtype=np.float32)
    return np.clip(picture + np.float32(sigma) * grain, 0, 1)


def _turn_hues(angle_rad: float) -> np.ndarray:
    """Rotate colours about the grey axis; (3, 3)."""
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad) / np.sqrt(3)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    return cosine * np.eye(3) + (1 - cosine) * _GREY + sine * cross


def _rectangles(height: int, width: int, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Draw one to three rectangles: left, top, right, bottom."""
    boxes = []
    for _ in range(int(rng.integers(1, 4))):
        w, h = (int(side * rng.uniform(0.08, 0.3)) for side in (width, height))
        left, top = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
        boxes.append((left, top, left + w, top + h))
    return boxes
