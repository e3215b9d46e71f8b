"""The layout of checkpoints of the public WaffleIron, ScaLR and ScaLR+ code."""

from __future__ import annotations

import re

from torch import Tensor

from xkd_ros.nets.student import Student

# Written down from the module tree of the public code (METHODS 1.10), independent of the table in nets/checkpoint.py.
THEIRS = {
    "embedding.norm": ("embed.norm", 0),
    "embedding.point": ("embed.conv1", 1),
    "embedding.difference_norm": ("embed.conv2.0", 0),
    "embedding.difference": ("embed.conv2.1", 2),
    "embedding.hidden_norm": ("embed.conv2.2", 0),
    "embedding.neighbour": ("embed.conv2.4", 2),
    "embedding.merge": ("embed.final", 1),
}


def their_state(student: Student, head: str = "classif") -> dict[str, Tensor]:
    """Name and shape the weights as the public code does: linear layers are 1x1 convolutions there."""
    state = {}
    for key, value in student.state_dict().items():
        name, _, kind = key.removeprefix("backbone.").rpartition(".")
        block = re.match(r"(spatial|channel)\.(\d+)(?:\.(\w+))?$", name)
        if name in THEIRS:
            theirs, axes = THEIRS[name]
        elif name == "head":
            theirs, axes = head, 1
        elif block is not None and kind == "scale":
            theirs, axes, kind, value = f"waffleiron.{block[1]}_mix.{block[2]}.scale", 1, "weight", value[:, None]
        else:
            assert block is not None
            inner = {"norm": "norm", "conv1": "ffn.0", "conv2": "ffn.2", "linear1": "mlp.0", "linear2": "mlp.2"}[block[3]]
            theirs, axes = f"waffleiron.{block[1]}_mix.{block[2]}.{inner}", int(inner.startswith("mlp"))
        state[f"{theirs}.{kind}"] = value[(...,) + (None,) * axes].clone() if kind == "weight" and axes else value.clone()
    return state
