"""Layer-wise learning rates: the nearer a layer is to the input, the less fine-tuning moves it."""

from __future__ import annotations

from collections import defaultdict

from torch import nn

from xkd_ros.train.optimizer import ParameterGroup, split_by_shape


def layer_groups(model: nn.Module, decay: float, decay_vectors: bool) -> list[ParameterGroup]:
    """Group the weights that learn by layer.

    The scale of a layer is decay^(L + 1 - id): embedding id 0, block d id d + 1 (both mixes), heads and whatever else id L + 1.

    Args:
        model: Has one `backbone`, anywhere inside.
        decay: Rate of a layer against the one above it.
        decay_vectors: Weight decay is for 1-D weights too.

    Source: METHODS 2.6.
    """
    layers = {name: _layer(name) for name, _ in model.named_parameters()}
    top = max(layer for layer in layers.values() if layer is not None) + 1
    members: dict[int, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        layer = layers[name]
        members[top if layer is None else layer].append(parameter)
    groups: list[ParameterGroup] = []
    for layer, parameters in sorted(members.items()):
        groups += split_by_shape(parameters, decay_vectors, decay ** (top - layer))
    return groups


def _layer(name: str) -> int | None:
    """Number the layers of the backbone; None outside."""
    part, *rest = name.partition("backbone.")[2].split(".")
    if part == "embedding":
        return 0
    return int(rest[0]) + 1 if part in ("spatial", "channel") else None
