"""Which weights a student of given sizes has: what every reader of `student.safetensors` holds a file against before it uses it."""

from __future__ import annotations

from collections.abc import Mapping

from xkd_ros.core.card import NetworkConfig
from xkd_ros.core.errors import ModelError

FEATURES = 5
"""Intensity, x, y, z and range of a point."""


def weight_shapes(network: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every weight, as in the state of `nets.student.Student`."""
    c = network.width
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, width: int, kind: str) -> None:
        names = ("weight", "bias", "running_mean", "running_var")[: 4 if kind == "batch" else 2]
        shapes.update({f"{name}.{part}": (width,) for part in names})
        if kind == "batch":
            shapes[f"{name}.num_batches_tracked"] = ()

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    embedding = "backbone.embedding"
    norm(f"{embedding}.norm", FEATURES, "batch")
    layer(f"{embedding}.point", c, FEATURES)
    norm(f"{embedding}.difference_norm", FEATURES, "batch")
    layer(f"{embedding}.difference", c, FEATURES, bias=False)
    norm(f"{embedding}.hidden_norm", c, "batch")
    layer(f"{embedding}.neighbour", c, c, bias=False)
    layer(f"{embedding}.merge", c, 2 * c)
    for index in range(network.depth):
        for kind, layers in (("spatial", ("conv1", "conv2")), ("channel", ("linear1", "linear2"))):
            block = f"backbone.{kind}.{index}"
            shapes[f"{block}.scale"] = (c,)
            norm(f"{block}.norm", c, network.norm)
            for name in layers:
                layer(f"{block}.{name}", c, *((1, 3, 3) if kind == "spatial" else (c,)))
    layer("head", network.classes, c)
    return shapes


def check_weights(found: Mapping[str, tuple[int, ...]], network: NetworkConfig, where: str) -> None:
    """Do nothing, unless weights are not those of a network.

    Args:
        found: Name and shape of each.
        network: Sizes that they should have.
        where: Their file, for the error.
    Raises:
        ModelError: missing, unknown or differently shaped weights.
    """
    wanted = weight_shapes(network)
    for problem, names in (("lacks", wanted.keys() - found.keys()), ("has unknown", found.keys() - wanted.keys())):
        if names:
            raise ModelError(f"{where} {problem} {len(names)} weights such as '{min(names)}': it is no {describe(network)}")
    for name, shape in wanted.items():
        if tuple(found[name]) != shape:
            raise ModelError(f"{where}: '{name}' is {tuple(found[name])}, a {describe(network)} needs {shape}")


def describe(network: NetworkConfig) -> str:
    """Name a network for people."""
    return f"WI-{network.depth}-{network.width} ({network.norm} norm, {network.activation}, {network.classes} classes)"
