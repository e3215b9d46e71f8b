"""What stands on the backbone while it learns: a head that speaks the image teacher's language, and one that names classes.

In: (T, C) tokens. Out: (T, D) image features or (T, K) logits. Next: losses in `distill`; the class head ends as the plain linear
layer of a `Student`.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from xkd_ros.core.card import NetworkConfig
from xkd_ros.nets.batch import Batch
from xkd_ros.nets.layers import MaskedBatchNorm
from xkd_ros.nets.planes import make_planes
from xkd_ros.nets.student import Student
from xkd_ros.nets.waffleiron import WaffleIron

Shapes = tuple[tuple[int, int, int], ...]


def make_backbone(network: NetworkConfig, drop_path: float = 0.0, checkpointing: bool = False) -> WaffleIron:
    """Build a randomly initialised backbone of the given sizes."""
    return WaffleIron(network.depth, network.width, network.norm, network.activation, drop_path=drop_path, checkpointing=checkpointing)


class DistillationHead(nn.Sequential):
    """Tokens → image features: one linear layer (ScaLR), or two with a ReLU between (ScaLR+).

    Source: METHODS 1.10.
    """

    def __init__(self, width: int, features: int, hidden: int | None = None) -> None:
        """Build.

        Args:
            width: C of the tokens.
            features: D of the teacher.
            hidden: Width between the two layers; None for a single layer.
        """
        if hidden is None:
            super().__init__(nn.Linear(width, features))
        else:
            super().__init__(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, features))


class DistillingStudent(nn.Module):
    """A backbone with a distillation head."""

    def __init__(self, backbone: WaffleIron, head: DistillationHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, features: Tensor, cells: Tensor, shapes: Shapes, neighbours: Tensor, scan: Tensor, paired: Tensor) -> Tensor:
        """Predict image features.

        Args:
            features: (T, 5), with cells, shapes, neighbours and scan as in `Student.forward`.
            cells: (3, T) int64.
            shapes: (B, H, W) of each plane.
            neighbours: (T, K) int64.
            scan: (T,) int64.
            paired: (P,) int64 points that a camera sees; the head reads these alone.
        Returns:
            (P, D).
        """
        tokens = self.backbone(features, neighbours, make_planes(cells, shapes), None, scan)
        return self.head(tokens.index_select(0, paired))

    def on(self, batch: Batch, paired: Tensor) -> Tensor:
        """Predict (P, D) image features of a batch."""
        return self(batch.features, batch.cells, batch.shapes, batch.neighbours, batch.scan, paired)


class ClassHead(nn.Module):
    """Batch norm and a linear classifier that starts at zero, so that every class is equally probable (METHODS 2.5)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = MaskedBatchNorm(width)
        self.linear = nn.Linear(width, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, tokens: Tensor, real: Tensor | None = None) -> Tensor:
        """Compute (T, K) logits of (T, C) tokens; `real` (T,) bool marks the points that are no padding."""
        return self.linear(self.norm(tokens, real))


class ClassifyingStudent(nn.Module):
    """A backbone with a class head; frozen, only the head learns and the backbone stays in evaluation mode."""

    def __init__(self, network: NetworkConfig, backbone: WaffleIron, frozen: bool) -> None:
        """Build.

        Args:
            network: Sizes of the backbone, and the number of classes.
            backbone: Taken over, not copied.
            frozen: True for linear probing.
        """
        super().__init__()
        self.network = network
        self.backbone = backbone.requires_grad_(not frozen)
        self.head = ClassHead(network.width, network.classes)
        self.frozen = frozen
        self.train()

    def train(self, mode: bool = True) -> ClassifyingStudent:
        """Switch training mode of what learns."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(
        self,
        features: Tensor,
        cells: Tensor,
        shapes: Shapes,
        neighbours: Tensor,
        occupied: Tensor | None = None,
        scan: Tensor | None = None,
    ) -> Tensor:
        """Compute (T, K) logits; arguments as in `Student.forward`."""
        planes = make_planes(cells, shapes, occupied)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            tokens = self.backbone(features, neighbours, planes, occupied, scan)
        return self.head(tokens, None if occupied is None else occupied.bool())


@torch.no_grad()
def fold_head(trained: ClassifyingStudent) -> Student:
    """Fold the head's batch norm into its linear layer: the same logits from the plain student that a model folder holds.

    Args:
        trained: In any mode; evaluation mode is what is folded.
    Returns:
        A copy in evaluation mode.
    """
    student = Student(trained.network)
    student.backbone.load_state_dict(trained.backbone.state_dict())
    norm, linear = trained.head.norm, trained.head.linear
    # In double: the shift may be large against what is left of it after the product.
    scale, shift = copy.deepcopy(norm).double().scale_and_shift()
    student.head.weight.copy_(linear.weight.double() * scale)
    student.head.bias.copy_(linear.bias.double() + linear.weight.double() @ shift)
    return student.eval()
