"""The public WaffleIron implementation, imported from a checkout and given our weights; only its results and times are used."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xkd_ros.core.card import GeometryConfig
from xkd_ros.core.errors import ModelError
from xkd_ros.core.types import NetInput
from xkd_ros.nets.student import Student
from xkd_ros.points.grid import plane_cells

# Our names → theirs; the inverse of what `nets.checkpoint` does for their checkpoints.
_NAMES = (
    (r"^backbone\.embedding\.norm\.", "embed.norm."),
    (r"^backbone\.embedding\.point\.", "embed.conv1."),
    (r"^backbone\.embedding\.difference_norm\.", "embed.conv2.0."),
    (r"^backbone\.embedding\.difference\.", "embed.conv2.1."),
    (r"^backbone\.embedding\.hidden_norm\.", "embed.conv2.2."),
    (r"^backbone\.embedding\.neighbour\.", "embed.conv2.4."),
    (r"^backbone\.embedding\.merge\.", "embed.final."),
    (r"^backbone\.(spatial|channel)\.(\d+)\.norm\.", r"waffleiron.\1_mix.\2.norm."),
    (r"^backbone\.spatial\.(\d+)\.conv1\.", r"waffleiron.spatial_mix.\1.ffn.0."),
    (r"^backbone\.spatial\.(\d+)\.conv2\.", r"waffleiron.spatial_mix.\1.ffn.2."),
    (r"^backbone\.channel\.(\d+)\.linear1\.", r"waffleiron.channel_mix.\1.mlp.0."),
    (r"^backbone\.channel\.(\d+)\.linear2\.", r"waffleiron.channel_mix.\1.mlp.2."),
    (r"^backbone\.(spatial|channel)\.(\d+)\.scale$", r"waffleiron.\1_mix.\2.scale.weight"),
    (r"^head\.", "classif."),
)


class Reference:
    """The public network with a student's weights, on grids of a given size."""

    def __init__(self, checkout: Path, student: Student, grids: tuple[tuple[int, int], ...]) -> None:
        """Import and fill it.

        Args:
            checkout: Folder that holds the package `waffleiron` (github.com/valeoai/WaffleIron).
            student: Source of sizes and weights.
            grids: (H, W) of each plane.
        Raises:
            ModelError: no such package there, or one of another version.
        """
        network = student.network
        try:
            package = _import(checkout)
            norm = "layernorm" if network.norm == "layer" else "batchnorm"
            sizes = (5, network.width, network.classes, network.depth, [list(grid) for grid in grids])
            self._module = package.Segmenter(*sizes, which_norm=norm, layer_norm=network.norm == "layer").eval()
            own = self._module.state_dict()
            weights = {_rename(key): value for key, value in student.state_dict().items()}
            self._module.load_state_dict({key: value.reshape(own[key].shape) for key, value in weights.items()})
        except (ImportError, AttributeError, TypeError, KeyError, RuntimeError) as error:
            raise ModelError(f"{checkout} is no usable checkout of the public WaffleIron ({error}); clone valeoai/WaffleIron") from error
        if network.norm == "batch":
            self._module.compress()

    def prepare(
        self, net_input: NetInput, cells: np.ndarray, device: str = "cpu", precision: torch.dtype = torch.float32
    ) -> Callable[[], np.ndarray]:
        """Lay out one scan as that code wants it, and return what computes its (N, C) logits.

        Args:
            net_input: The scan.
            cells: (3, N) int64 flat index into this network's grids.
            device: Where the scan lies and the network runs.
            precision: Of the matrix products, by autocast.
        """
        inputs, module = [part.to(device) for part in _inputs(net_input, cells)], self._module.to(device)

        def run() -> np.ndarray:
            with torch.inference_mode(), torch.autocast(device, precision, enabled=precision != torch.float32):
                logits: torch.Tensor = module(*inputs)
            return logits[0].T.float().cpu().numpy()

        return run

    def prepare_training(
        self, net_input: NetInput, cells: np.ndarray, scans: int = 1, device: str = "cpu", precision: torch.dtype = torch.float32
    ) -> Callable[[], torch.Tensor]:
        """As `prepare`, but what is returned runs forward and backward in training mode, on a scan repeated to a batch.

        Returns:
            Gives the (N, C) logits of the first scan.
        """
        module = self._module.to(device).train()
        inputs = [part.to(device).expand(scans, *part.shape[1:]).contiguous() for part in _inputs(net_input, cells)]

        def run() -> torch.Tensor:
            module.zero_grad()
            with torch.autocast(device, precision, enabled=precision != torch.float32):
                logits: torch.Tensor = module(*inputs)
            logits.float().square().mean().backward()
            return logits[0].T.detach()

        return run


def full_cells(net_input: NetInput, geometry: GeometryConfig) -> np.ndarray:
    """Return (3, N) int64 cells in the uncropped grids."""
    return plane_cells(net_input.features[:, 1:4], geometry, crop=False)[0]


def _inputs(net_input: NetInput, cells: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Lay out features, cells, occupancy and neighbours, the point itself first (METHODS 1.1)."""
    neighbours = torch.cat([torch.arange(len(net_input))[None], torch.from_numpy(net_input.neighbours).T])[None]
    features = torch.from_numpy(net_input.features).T[None].contiguous()
    return features, torch.from_numpy(cells)[None], torch.ones(1, len(net_input)), neighbours


def _import(checkout: Path) -> Any:
    sys.path.insert(0, str(checkout))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return importlib.import_module("waffleiron")
    finally:
        sys.path.remove(str(checkout))


def _rename(key: str) -> str:
    for pattern, name in _NAMES:
        renamed, count = re.subn(pattern, name, key)
        if count:
            return renamed
    raise KeyError(key)
