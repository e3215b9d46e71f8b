"""Camera image in, what the network wants out: resized whole and normalised, never cropped.

The image processors of transformers crop or squeeze, after which no pixel is where the lidar point is (METHODS 8.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from xkd_ros.core.errors import ConfigError, ModelError

_LARGEST_SIDE_PX = 8192


@dataclass(frozen=True)
class ImageInput:
    """How images become network input.

    Attributes:
        multiple_px: Sides are multiples of this: the patch, or the coarsest stride.
        short_side_px: Shorter side, before rounding.
        mean, std: Normalisation of red, green, blue in 0..1.
    """

    multiple_px: int
    short_side_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """Choose (height, width) of the network input for a camera image: whole multiples nearest to its aspect.

        Raises:
            ModelError: the image is so long that the input would be huge.
        """
        short = max(1, round(self.short_side_px / self.multiple_px)) * self.multiple_px
        scale = short / min(height, width)
        long = max(1, round(max(height, width) * scale / self.multiple_px)) * self.multiple_px
        if long > _LARGEST_SIDE_PX:
            raise ModelError(f"an image of {width}x{height} would be {long} pixels long for the teacher: crop it, or lower short_side_px")
        return (short, long) if height <= width else (long, short)

    def __call__(self, rgb: np.ndarray, device: torch.device | str) -> Tensor:
        """Resize and normalise.

        Args:
            rgb: (H, W, 3) uint8.
            device: Where the result lies.
        Returns:
            (1, 3, h, w) float32.
        """
        image = torch.from_numpy(np.require(rgb, requirements=["C", "W"])).to(device).permute(2, 0, 1)[None].float() / 255  # (1, 3, H, W)
        image = functional.interpolate(image, self.size_for(*rgb.shape[:2]), mode="bilinear", align_corners=False, antialias=True)
        mean, std = (torch.tensor(values, device=image.device).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (image - mean) / std

    def describe(self) -> dict[str, Any]:
        """Say what decides the result, for fingerprints."""
        return {"multiple_px": self.multiple_px, "short_side_px": self.short_side_px, "mean": self.mean, "std": self.std, "resize": "whole"}


def choose_precision(precision: str, device: str) -> torch.dtype:
    """Turn a setting into the type that the network computes in.

    Raises:
        ConfigError: there is no such device.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ConfigError(f"'{device}' is no device; use cpu, cuda or cuda:1") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device '{device}' was asked and this machine has no usable GPU; use cpu")
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    if kind != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
