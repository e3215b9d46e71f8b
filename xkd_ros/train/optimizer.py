"""Which weights learn, how fast each of them, and which are decayed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from xkd_ros.train.config import EngineConfig


@dataclass(frozen=True, eq=False)
class ParameterGroup:
    """Weights that share a learning rate.

    Attributes:
        parameters: Each weight of the model that learns, in exactly one group.
        scale: Multiplies the scheduled learning rate.
        decayed: False leaves weight decay out.
    """

    parameters: tuple[nn.Parameter, ...]
    scale: float = 1.0
    decayed: bool = True


def split_by_shape(parameters: Iterable[nn.Parameter], decay_vectors: bool, scale: float = 1.0) -> list[ParameterGroup]:
    """Group the weights that learn: matrices, and 1-D weights (norms, biases, scales), which are decayed only when asked."""
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    groups = (
        ParameterGroup(tuple(p for p in learning if p.ndim > 1), scale),
        ParameterGroup(tuple(p for p in learning if p.ndim <= 1), scale, decay_vectors),
    )
    return [group for group in groups if group.parameters]


def make_optimizer(groups: Sequence[ParameterGroup], config: EngineConfig) -> torch.optim.Optimizer:
    """Build AdamW over the groups."""
    settings = [{"params": list(group.parameters), "weight_decay": config.weight_decay * group.decayed} for group in groups]
    return torch.optim.AdamW(settings, lr=config.lr, betas=(0.9, config.beta2), fused=True)


def set_rates(optimizer: torch.optim.Optimizer, groups: Sequence[ParameterGroup], rate: float) -> None:
    """Give every group its scaled rate."""
    for settings, group in zip(optimizer.param_groups, groups):
        settings["lr"] = rate * group.scale
