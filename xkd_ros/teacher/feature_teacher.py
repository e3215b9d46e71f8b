"""DINOv2, DINOv3 and C-RADIO: image features at lidar points.

A feature is the output of the last block before the final norm, as ScaLR distils it; next: `targets`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xkd_ros.core.errors import ModelError
from xkd_ros.core.labels import LabelSet
from xkd_ros.teacher.config import TeacherConfig
from xkd_ros.teacher.grid_sample import sample_map
from xkd_ros.teacher.image_input import ImageInput, choose_precision
from xkd_ros.teacher.model_folder import ModelFolder
from xkd_ros.teacher.teacher import Glance


@dataclass(frozen=True)
class FeatureFamily:
    """What differs between families.

    Attributes:
        class_name: Class in transformers.
        final_norm: Attribute of the norm whose input is wanted; None where the output is not normed.
        prefix: Tokens before the patches that no key of the configuration counts.
        prefix_keys: Keys of the configuration that count the others; a released DINOv3 has 4 registers, its class default is 0.
        normalises: The network normalises colours itself.
    """

    class_name: str
    final_norm: str | None
    prefix: int = 1
    prefix_keys: tuple[str, ...] = ("num_register_tokens",)
    normalises: bool = False


FEATURE_FAMILIES = {
    "dinov2": FeatureFamily("Dinov2Model", "layernorm", prefix_keys=()),
    "dinov2_with_registers": FeatureFamily("Dinov2WithRegistersModel", "layernorm"),
    "dinov3_vit": FeatureFamily("DINOv3ViTModel", "norm"),
    "radio": FeatureFamily("RadioModel", None, prefix=0, prefix_keys=("num_cls_tokens", "num_registers"), normalises=True),
}
# Shorter image side by patch size: 448 x 602 and 480 x 640 for a 4:3 camera.
_SHORT_SIDE_PX = {14: 448, 16: 480}


class FeatureTeacher:
    """One Vision Transformer, frozen.

    Source: METHODS 2.2 and 8.1.
    """

    label_set: LabelSet | None = None
    class_hash = ""

    def __init__(self, folder: ModelFolder, config: TeacherConfig, device: str) -> None:
        """Load the network.

        Raises:
            ModelError: the folder is damaged or incomplete.
            ConfigError: no such device.
        """
        family = FEATURE_FAMILIES[folder.model_type]
        self.name = folder.name
        self._sampling, self._device = config.sampling, device
        self._precision = choose_precision(config.precision, device)
        self._network: Any = folder.load(family.class_name, device)
        settings = self._network.config
        patch = settings.patch_size
        if not isinstance(patch, int):
            patch = patch[0]
        self._prefix = family.prefix + sum(getattr(settings, key) for key in family.prefix_keys)
        self.feature_width = int(settings.hidden_size)
        mean, std = ((0.0,) * 3, (1.0,) * 3) if family.normalises else folder.normalisation
        self._input = ImageInput(patch, config.short_side_px or _SHORT_SIDE_PX.get(patch, 32 * patch), mean, std)
        self._before_norm: Tensor | None = None
        if family.final_norm:
            # A hook on the norm's input holds across versions of transformers and keeps one layer, not all of them.
            getattr(self._network, family.final_norm).register_forward_pre_hook(self._keep)
        self.fingerprint = folder.fingerprint(
            {
                **self._input.describe(),
                "sampling": config.sampling,
                "precision": str(self._precision),
                "feature": "last block before the final norm",
            }
        )

    def _keep(self, module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._before_norm = inputs[0]

    def feature_map(self, rgb: np.ndarray) -> Tensor:
        """Compute the features of all patches.

        Args:
            rgb: (H, W, 3) uint8.
        Returns:
            (D, h, w) float32 on the device.
        Raises:
            ModelError: the network gives another number of tokens than its configuration says.
        """
        pixels = self._input(rgb, self._device)
        rows, columns = (side // self._input.multiple_px for side in pixels.shape[-2:])
        half = self._precision != torch.float32
        with torch.inference_mode(), torch.autocast(torch.device(self._device).type, self._precision, enabled=half):
            output = self._network(pixel_values=pixels)
        tokens = output.last_hidden_state if self._before_norm is None else self._before_norm  # (1, prefix + h w, D)
        self._before_norm = None
        if tokens.shape[1] != self._prefix + rows * columns:
            raise ModelError(f"{self.name} gives {tokens.shape[1]} tokens, not {self._prefix} and {rows}x{columns} patches: not supported")
        return tokens[0, self._prefix :].float().T.reshape(-1, rows, columns)  # (D, h, w)

    def look(self, rgb: np.ndarray, uv_px: np.ndarray) -> Glance:
        """Sample the features at pixels; see `Teacher.look`."""
        if not len(uv_px):
            return Glance(features=np.zeros((0, self.feature_width), np.float16))
        features = sample_map(self.feature_map(rgb), uv_px, (rgb.shape[0], rgb.shape[1]), self._sampling)
        if not torch.isfinite(features).all():
            raise ModelError(f"{self.name} gives features that are not finite in {self._precision}: set precision to float32")
        largest = torch.finfo(torch.float16).max
        return Glance(features=features.clamp(-largest, largest).to(torch.float16).cpu().numpy())
