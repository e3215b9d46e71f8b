"""Exponential moving average of the weights: what is evaluated and shipped."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

ModelT = TypeVar("ModelT", bound=nn.Module)


class Average(Generic[ModelT]):
    """A copy of the model that follows it slowly, on the same device.

    Batch-norm statistics are copied, not averaged: they are averages already.
    """

    def __init__(self, model: ModelT, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: ModelT, step: int) -> None:
        """Follow `model`; early steps follow faster, so that the random start is forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        own: list[torch.Tensor] = list(self.model.parameters())
        new = [parameter.detach() for parameter in model.parameters()]
        torch._foreach_lerp_(own, new, 1 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers()):
            mine.copy_(theirs)

    def on_cpu(self) -> ModelT:
        """Return the averaged model on the CPU: itself if it is there, else a copy."""
        if all(tensor.device.type == "cpu" for tensor in self.model.parameters()):
            return self.model
        return copy.deepcopy(self.model).cpu()
