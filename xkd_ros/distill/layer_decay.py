"""Layer-wise learning rates: the nearer a layer is to the input, the less fine-tuning moves it."""

from __future__ import annotations

from collections import defaultdict

from torch import nn

from xkd_ros.train.optimizer import ParameterGroup, split_by_shape


def layer_groups(model: nn.Module, depth: int, decay: float, decay_vectors: bool) -> list[ParameterGroup]:
    """Group the weights that learn by layer; everything that is no part of the backbone of `depth` layers counts as head.

    The scale of a layer is decay^(L + 1 - id): embedding id 0, block d id d + 1 (both mixes), head id L + 1.

    Source: METHODS 2.6.
    """
    layers: dict[int, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        layers[_layer(name, depth)].append(parameter)
    groups: list[ParameterGroup] = []
    for layer, parameters in sorted(layers.items()):
        groups += split_by_shape(parameters, decay_vectors, decay ** (depth + 1 - layer))
    return groups


def _layer(name: str, depth: int) -> int:
    part, *rest = name.rpartition("backbone.")[2].split(".")
    if part == "embedding":
        return 0
    return int(rest[0]) + 1 if part in ("spatial", "channel") else depth + 1
