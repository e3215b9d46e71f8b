"""Constants of a trained student multiplied together once: what every fast form of it (compiled, ONNX, TensorRT) starts from.

In: weights by the names of `nets.student`. Out: `FoldedWeights`. The function is that of evaluation mode up to float rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xkd_ros.core.card import NetworkConfig

NORM_EPS = 1e-5
"""Of torch's layer and batch norms, which the network uses with their defaults."""


@dataclass(frozen=True, eq=False)
class FoldedBlock:
    """Weights of one block (C channels), all float32.

    Attributes:
        cell_scale, cell_shift: (C,) applied to the mean of the normalised tokens of each occupied cell.
        conv1, conv2: (9, C) taps of the depthwise convolutions and conv1_bias, conv2_bias (C,); LayerScale is in the second.
        linear1, linear2: (C, C) as (out, in), with linear1_bias, linear2_bias (C,); the norm's affine part is in the first,
            LayerScale in the second.
    """

    cell_scale: np.ndarray
    cell_shift: np.ndarray
    conv1: np.ndarray
    conv1_bias: np.ndarray
    conv2: np.ndarray
    conv2_bias: np.ndarray
    linear1: np.ndarray
    linear1_bias: np.ndarray
    linear2: np.ndarray
    linear2_bias: np.ndarray


@dataclass(frozen=True, eq=False)
class FoldedWeights:
    """All weights of an evaluation-mode student.

    Attributes:
        neighbour1: (C, F) and neighbour1_bias (C,): first layer of the neighbour branch, on differences of raw features.
        neighbour2: (C, C) second layer of the neighbour branch.
        point: (C, F) and point_bias (C,): the point branch through the merging layer.
        merge: (C, C) the part of the merging layer that reads the neighbour branch.
        blocks: One per depth.
        head: (classes, C) and head_bias (classes,).
        layer_norm: True when blocks normalise each token; False when that is folded away (batch norm).
        activation: "relu" or "gelu", in the blocks; the neighbour branch always has relu.
        norm_eps: Added to the variance by the layer norm.
    """

    neighbour1: np.ndarray
    neighbour1_bias: np.ndarray
    neighbour2: np.ndarray
    point: np.ndarray
    point_bias: np.ndarray
    merge: np.ndarray
    blocks: tuple[FoldedBlock, ...]
    head: np.ndarray
    head_bias: np.ndarray
    layer_norm: bool
    activation: str
    norm_eps: float


def fold(state: Mapping[str, np.ndarray], network: NetworkConfig) -> FoldedWeights:
    """Multiply together what is constant at inference (METHODS 1.8, and layer norm's affine part).

    Args:
        state: (...) float32 arrays by the names of `Student.state_dict`; copied.
        network: Its sizes.
    """
    embedding, width = _Module(state, "backbone.embedding."), network.width
    # The first norm cancels in the differences but for its scale.
    scale, shift = embedding.affine("norm")
    first_scale, first_shift = embedding.affine("difference_norm")
    second_scale, second_shift = embedding.affine("hidden_norm")
    difference = embedding["difference.weight"]
    merge_point, merge_near = embedding["merge.weight"][:, :width], embedding["merge.weight"][:, width:]
    blocks = []
    for index in range(network.depth):
        space, channel = _Module(state, f"backbone.spatial.{index}."), _Module(state, f"backbone.channel.{index}.")
        cell_scale, cell_shift = space.affine("norm")
        token_scale, token_shift = channel.affine("norm")
        linear1, linear2 = channel["linear1.weight"], channel["linear2.weight"]
        blocks.append(
            FoldedBlock(
                cell_scale=cell_scale,
                cell_shift=cell_shift,
                conv1=space.taps("conv1"),
                conv1_bias=space["conv1.bias"].copy(),
                conv2=space.taps("conv2") * space["scale"],
                conv2_bias=space["conv2.bias"] * space["scale"],
                linear1=linear1 * token_scale,
                linear1_bias=linear1 @ token_shift + channel["linear1.bias"],
                linear2=linear2 * channel["scale"][:, None],
                linear2_bias=channel["linear2.bias"] * channel["scale"],
            )
        )
    return FoldedWeights(
        neighbour1=second_scale[:, None] * difference * (first_scale * scale),
        neighbour1_bias=second_scale * (difference @ first_shift) + second_shift,
        neighbour2=embedding["neighbour.weight"].copy(),
        point=merge_point @ (embedding["point.weight"] * scale),
        point_bias=merge_point @ (embedding["point.weight"] @ shift + embedding["point.bias"]) + embedding["merge.bias"],
        merge=merge_near.copy(),
        blocks=tuple(blocks),
        head=state["head.weight"].copy(),
        head_bias=state["head.bias"].copy(),
        layer_norm=network.norm == "layer",
        activation=network.activation,
        norm_eps=NORM_EPS,
    )


class _Module:
    """Part of the weights, by the rest of their names."""

    def __init__(self, state: Mapping[str, np.ndarray], prefix: str) -> None:
        self._state, self._prefix = state, prefix

    def __getitem__(self, name: str) -> np.ndarray:
        return self._state[self._prefix + name]

    def affine(self, norm: str) -> tuple[np.ndarray, np.ndarray]:
        """Scale and shift (C,) that a norm applies in evaluation mode, after standardising in the case of a layer norm."""
        weight, bias = self[f"{norm}.weight"], self[f"{norm}.bias"]
        if self._prefix + f"{norm}.running_var" not in self._state:
            return weight.copy(), bias.copy()
        scale = weight / np.sqrt(self[f"{norm}.running_var"] + np.float32(NORM_EPS))
        return scale, bias - scale * self[f"{norm}.running_mean"]

    def taps(self, convolution: str) -> np.ndarray:
        """Kernel of a depthwise 3x3 convolution as (9, C)."""
        weight = self[f"{convolution}.weight"]
        return np.ascontiguousarray(weight.reshape(len(weight), -1).T)
