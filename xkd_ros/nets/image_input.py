"""Camera pictures as a 2D network sees them: resized, normalised. Training and teacher share this file."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor


class ImageInputConfig(BaseModel):
    """Size and colours of what the network sees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    long_side_px: int = Field(320, ge=64, le=4096, multiple_of=16, description="longer side of the resized picture")
    mean: tuple[float, float, float] = Field((0.485, 0.456, 0.406), description="of red, green, blue in 0..1")
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @model_validator(mode="after")
    def _positive(self) -> ImageInputConfig:
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std} must be positive")
        return self

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Choose the size (height, width) for a picture: the camera's aspect, rounded to what the network's steps divide well."""
        scale = self.long_side_px / max(height, width)
        return tuple(max(16, 16 * round(side * scale / 16)) for side in (height, width))  # type: ignore[return-value]


def normalise(rgb: Tensor, config: ImageInputConfig) -> Tensor:
    """Shift and scale (B, 3, H, W) colours in 0..1."""
    mean, std = (torch.tensor(values, device=rgb.device).view(3, 1, 1) for values in (config.mean, config.std))
    return (rgb - mean) / std


def prepare(rgb: np.ndarray, config: ImageInputConfig, device: torch.device | str = "cpu") -> Tensor:
    """Turn a camera picture (H, W, 3) uint8 into the network's input (1, 3, h, w) float32."""
    picture = torch.from_numpy(np.ascontiguousarray(rgb)).to(device).permute(2, 0, 1)[None].float() / 255
    size = config.size(*rgb.shape[:2])
    if size != rgb.shape[:2]:
        picture = F.interpolate(picture, size=size, mode="bilinear", align_corners=False, antialias=True)
    return normalise(picture, config)


def sample_at(cells: Tensor, uv: Tensor) -> Tensor:
    """Read maps between their cells.

    Args:
        cells: (B, C, h, w) features or logits that cover the whole picture.
        uv: (B, P, 2) as (column, row), from -1 at the left or upper edge of the picture to 1 at the right or lower one.
    Returns:
        (B, P, C), bilinear between cell centres, the nearest cell beyond the outermost ones.
    """
    read = F.grid_sample(cells, uv[:, None].to(cells.dtype), mode="bilinear", padding_mode="border", align_corners=False)
    return read[:, :, 0].transpose(1, 2)  # (B, P, C)


def relative(uv_px: np.ndarray, height: int, width: int) -> np.ndarray:
    """Express pixels (P, 2), centres at integers, as `sample_at` wants them; float32."""
    return np.asarray((2 * uv_px + 1) / (width, height) - 1, np.float32)
