"""A small 2D segmentation network: convolutional encoder, additive decoder, features at a quarter of the picture's size.

Normalised RGB in; class logits and the features behind them out. Taught on rendered pictures it is the teacher `sim2d`.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from xkd_ros.core.errors import ConfigError
from xkd_ros.nets.efficientnet import EfficientNetLite0

STRIDE = 4
"""Pixels of the picture per cell of features and logits."""
_GROUPS = 8


class ImageNetworkConfig(BaseModel):
    """Sizes of the network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: Literal["residual", "efficientnet_lite0"] = Field(
        "residual", description="residual: of any size, learns from nothing; efficientnet_lite0: can start from ImageNet"
    )
    widths: tuple[int, int, int, int] = Field((32, 64, 128, 192), description="residual: channels at 1/4, 1/8, 1/16, 1/32 of the picture")
    blocks: tuple[int, int, int, int] = Field((1, 2, 2, 2), description="residual: blocks at each of them")
    feature_width: int = Field(64, ge=8, le=1024, multiple_of=_GROUPS, description="channels of the features that a student imitates")
    classes: int = Field(12, ge=2, le=254)

    @model_validator(mode="after")
    def _groups_fit(self) -> ImageNetworkConfig:
        if any(not 16 <= width <= 512 or width % 16 for width in self.widths) or any(not 1 <= count <= 8 for count in self.blocks):
            raise ValueError(f"widths {self.widths} must be multiples of 16 up to 512, blocks {self.blocks} from 1 to 8")
        return self


class ImageStudent(nn.Module):
    """Picture in, features and class logits out, at any size.

    The classifier is linear in the features: what they tell apart, a linear probe of a student that imitates them can tell apart too.
    """

    def __init__(self, network: ImageNetworkConfig) -> None:
        super().__init__()
        self.network = network
        self.encoder = EfficientNetLite0() if network.encoder == "efficientnet_lite0" else ResidualEncoder(network.widths, network.blocks)
        widths, coarsest = self.encoder.widths, self.encoder.widths[3]
        self.surroundings = nn.Sequential(nn.Linear(coarsest, coarsest), nn.SiLU(), nn.Linear(coarsest, coarsest))
        self.laterals = nn.ModuleList(
            nn.Sequential(_Norm(width), nn.SiLU(), nn.Conv2d(width, network.feature_width, 1)) for width in widths
        )
        self.refine = nn.ModuleList(_Block(network.feature_width) for _ in widths[:3])
        self.head = nn.Conv2d(network.feature_width, network.classes, 1)
        # Convolutions are about a quarter faster in this layout, on CPUs as on GPUs.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def start_from_imagenet(self) -> None:
        """Load published weights into the encoder.

        Raises:
            ConfigError: the encoder has none, or the package that brings them is not installed.
        """
        if not isinstance(self.encoder, EfficientNetLite0):
            raise ConfigError(f"no ImageNet weights are published for encoder '{self.network.encoder}'; use efficientnet_lite0")
        self.encoder.load_imagenet()

    def features(self, rgb: Tensor) -> Tensor:
        """Compute (B, D, ceil(H / 4), ceil(W / 4)) features of normalised pictures (B, 3, H, W)."""
        levels = self.encoder(rgb.contiguous(memory_format=torch.channels_last))
        # What kind of room it is helps to name what is in it, farther than convolutions reach.
        levels[3] = levels[3] + self.surroundings(levels[3].mean((2, 3)))[..., None, None]
        merged = self.laterals[3](levels[3])  # (B, D, H / 32, W / 32)
        for lateral, refine, level in zip(self.laterals[2::-1], self.refine, levels[2::-1], strict=True):
            finer = lateral(level)
            merged = refine(finer + F.interpolate(merged, size=finer.shape[-2:], mode="bilinear", align_corners=False))
        return merged

    def forward(self, rgb: Tensor) -> Tensor:
        """Compute logits.

        Args:
            rgb: (B, 3, H, W) float32, normalised.
        Returns:
            (B, C, ceil(H / 4), ceil(W / 4)) logits; cell i covers pixels 4 i to 4 i + 3.
        """
        return self.head(self.features(rgb))


class ResidualEncoder(nn.Module):
    """Pre-activation residual blocks; no weights but its own."""

    def __init__(self, widths: tuple[int, int, int, int], blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.widths = widths
        self.stem = nn.Sequential(_conv(3, widths[0] // 2, stride=2), _Norm(widths[0] // 2), nn.SiLU())
        befores = (widths[0] // 2, *widths[:3])
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(before, width, stride=2), _Norm(width), *(_Block(width) for _ in range(count)))
            for before, width, count in zip(befores, widths, blocks, strict=True)
        )

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """Compute maps at 1/4, 1/8, 1/16 and 1/32 of normalised pictures (B, 3, H, W)."""
        x, levels = self.stem(rgb), []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels


class _Norm(nn.GroupNorm):
    """Group norm: works at batch size 1 and keeps no statistics that pictures of another look would falsify."""

    def __init__(self, width: int) -> None:
        super().__init__(_GROUPS, width)


class _Block(nn.Module):
    """Two 3x3 convolutions with norm before each, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _Norm(width), _conv(width, width)
        self.norm2, self.conv2 = _Norm(width), _conv(width, width)
        # Starts as the identity.
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, C, H, W)."""
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


def seeded_image_student(network: ImageNetworkConfig, seed: int) -> ImageStudent:
    """Build a randomly initialised network that depends on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ImageStudent(network)
