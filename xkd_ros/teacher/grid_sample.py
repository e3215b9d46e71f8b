"""Values of a coarse map at pixels of the camera image, computed only where they are needed.

A dense map of 1024 features at 448x896 pixels is 1.6 GB; the points of a scan need a few thousand of its pixels.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Sampling = Literal["corners", "patch_centres"]


def sample_map(values: Tensor, uv_px: np.ndarray, image_size: tuple[int, int], sampling: Sampling) -> Tensor:
    """Interpolate a map bilinearly at image pixels.

    Args:
        values: (C, h, w) map that covers the whole image.
        uv_px: (V, 2) as (column, row) of the image, pixel centres at integers.
        image_size: (H, W) of the image.
        sampling: "corners": the centres of the outer cells lie on the centres of the outer pixels (align_corners=True), as in ScaLR;
            "patch_centres": cell (0, 0) covers the pixels that it was computed from.
    Returns:
        (V, C) float32.

    Source: METHODS 2.2; equals upsampling to (H, W) with the same align_corners and indexing there.
    """
    height, width = image_size
    uv = torch.tensor(uv_px, dtype=torch.float32, device=values.device)
    size = uv.new_tensor([width, height])
    corners = sampling == "corners"
    grid = 2 * uv / (size - 1).clamp(min=1) - 1 if corners else (2 * uv + 1) / size - 1  # (V, 2) in -1..1
    sampled = functional.grid_sample(
        values[None].float(), grid[None, None], mode="bilinear", padding_mode="border", align_corners=corners
    )  # (1, C, 1, V)
    return sampled[0, :, 0].T


def nearest_cell(uv_px: np.ndarray, image_size: tuple[int, int], map_size: tuple[int, int]) -> np.ndarray:
    """Find the cell of a coarse map that covers each pixel.

    Args:
        uv_px: (V, 2) as (column, row).
        image_size, map_size: (H, W) and (h, w).
    Returns:
        (V,) int64 index into the flattened map.
    """
    (height, width), (rows, columns) = image_size, map_size
    column = np.clip(((uv_px[:, 0] + 0.5) * columns / width).astype(np.int64), 0, columns - 1)
    row = np.clip(((uv_px[:, 1] + 0.5) * rows / height).astype(np.int64), 0, rows - 1)
    return row * columns + column


def uniform_around(labels: Tensor, radius: int) -> Tensor:
    """Tell where all cells within `radius` (a square) carry the same label.

    Args:
        labels: (h, w) integers.
        radius: In cells; 0 gives True everywhere.
    Returns:
        (h, w) bool.
    """
    if radius == 0:
        return torch.ones_like(labels, dtype=torch.bool)
    planes = labels.float()[None, None]
    highest = functional.max_pool2d(planes, 2 * radius + 1, 1, radius)
    lowest = -functional.max_pool2d(-planes, 2 * radius + 1, 1, radius)
    return (highest == lowest)[0, 0]
