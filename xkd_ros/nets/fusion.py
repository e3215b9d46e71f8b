"""Lidar tokens and what pictures show at some of the points → tokens that know both; next: losses of `distill.xmodel`, `runtime`.

Pairs are sparse: (P,) points and (P, D) image features, one row per point and picture that sees it, since few points are seen.

Source: METHODS 6. The operators are our reconstruction [DES]: the text of xModel-KD was not available.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from xkd_ros.core.types import NetInput
from xkd_ros.nets.batch import collate
from xkd_ros.nets.heads import ClassHead, ClassifyingStudent, DistillationHead, Shapes
from xkd_ros.nets.planes import make_planes
from xkd_ros.nets.waffleiron import WaffleIron


class FusionSizes(NamedTuple):
    """What a fusion is built from: C of the tokens, D of the image features, K classes, width of the attention."""

    width: int
    features: int
    classes: int
    attention: int = 128


class ViewPooling(nn.Module):
    """Attention of each point over the pictures that see it.

    softmax over v of q(token) · k(feature_v) / sqrt(E), where a learned null token is one more key: what no picture shows is then no
    special case, and what pictures show badly can be left.
    """

    def __init__(self, width: int, features: int, attention: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, attention)
        self.key = nn.Linear(features, attention)
        self.null = nn.Parameter(0.02 * torch.randn(features))

    def forward(self, tokens: Tensor, owner: Tensor, features: Tensor) -> Tensor:
        """Pool.

        Args:
            tokens: (U, C) of the points that are seen.
            owner: (P,) int64 into U.
            features: (P, D).
        Returns:
            (U + 1, D): the null token, which is the answer for points that no picture shows, and what each seen point makes of its
            pictures.
        """
        # Sums of products and their exponentials want float32 also under autocast.
        query = self.query(tokens).float() / math.sqrt(self.query.out_features)
        nothing = (query * self.key(self.null).float()).sum(1)  # (U,)
        score = (query.index_select(0, owner) * self.key(features).float()).sum(1)  # (P,)
        highest = nothing.detach().scatter_reduce(0, owner, score.detach(), "amax")
        share, rest = (score - highest.index_select(0, owner)).exp(), (nothing - highest).exp()
        total = rest.index_add(0, owner, share)
        share, rest = share / total.index_select(0, owner), rest / total
        pooled = (rest.unsqueeze(1) * self.null).index_add(0, owner, share.unsqueeze(1) * features.to(rest.dtype))
        return torch.cat([self.null.unsqueeze(0).to(pooled.dtype), pooled])


class FusedHead(nn.Module):
    """Pooling, gated fusion, two pre-norm MLP blocks, a classifier of the same shape as the student's own.

    h = token + sigmoid(MLP[token; pooled; seen]) * Linear(pooled).
    """

    def __init__(self, sizes: FusionSizes) -> None:
        super().__init__()
        width, features = sizes.width, sizes.features
        self.sizes = sizes
        self.token_norm, self.feature_norm = nn.LayerNorm(width), nn.LayerNorm(features)
        self.pool = ViewPooling(width, features, sizes.attention)
        self.value = nn.Linear(features, width)
        # Two layers whose outputs are summed are one layer over [token; pooled; seen]; the second is the same for all unseen points.
        self.gate_token, self.gate_picture = nn.Linear(width, width), nn.Linear(features + 1, width)
        self.gate = nn.Sequential(nn.ReLU(), nn.Linear(width, width), nn.Sigmoid())
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)) for _ in range(2)
        )
        self.head = ClassHead(width, sizes.classes)

    def forward(self, tokens: Tensor, point: Tensor, features: Tensor) -> Tensor:
        """Compute (T, K) logits.

        Args:
            tokens: (T, C).
            point: (P,) int64 into T; none at all is allowed.
            features: (P, D) of the image teacher.
        """
        seen, owner = point.unique(return_inverse=True)  # (U,), (P,)
        normed = self.token_norm(tokens)
        picture = self.pool(normed.index_select(0, seen), owner, self.feature_norm(features.to(self.feature_norm.weight.dtype)))  # (U+1, D)
        shown = picture.new_ones(len(picture), 1)
        shown[0] = 0
        row = torch.zeros(len(tokens), dtype=torch.int64, device=tokens.device)
        row[seen] = torch.arange(1, len(picture), device=tokens.device)
        hidden = self.gate_token(normed) + self.gate_picture(torch.cat([picture, shown], 1)).index_select(0, row)
        fused = tokens + self.gate(hidden) * self.value(picture).index_select(0, row)
        for block in self.blocks:
            fused = fused + block(fused)
        return self.head(fused)


def ask_fused(backbone: WaffleIron, head: FusedHead, item: NetInput, point: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Ask a fused head about one scan, on the device where it is.

    Args:
        backbone: Whose tokens the head reads; in evaluation mode, as the head.
        head: The fused head.
        item: The scan, N points.
        point: (P,) int64 into N.
        features: (P, D) of the image teacher.
    Returns:
        (N, K) float32 logits.
    """
    device = next(head.parameters()).device
    batch = collate([item]).to(device)
    with torch.inference_mode():
        tokens = backbone(batch.features, batch.neighbours, make_planes(batch.cells, batch.shapes), None, batch.scan)
        said = head(tokens, *(torch.from_numpy(array).to(device) for array in (point, features)))
    return said.float().cpu().numpy()


class FusedAnswer(NamedTuple):
    """What a `FusedStudent` says about T points of which pictures show U, in P pairs.

    Attributes:
        lidar: (T, K) logits from the lidar alone.
        fused: (T, K) logits from both.
        seen: (U,) int64 into T, ascending.
        owner: (P,) int64 into U.
        point_code: (U, E) unit vectors of the points.
        view_code: (P, E) unit vectors of what the pictures show.
        spoken: (U, D) image features as the student guesses them from the lidar alone.
        used: (T,) bool: the fused logits know a picture, none of whose scan was dropped.
    """

    lidar: Tensor
    fused: Tensor
    seen: Tensor
    owner: Tensor
    point_code: Tensor
    view_code: Tensor
    spoken: Tensor
    used: Tensor


class FusedStudent(nn.Module):
    """A classifying student that learns beside a fused head; `lidar` folds to a plain `Student`, the rest can be left behind."""

    def __init__(self, lidar: ClassifyingStudent, sizes: FusionSizes, code: int, hidden: int, drop_pictures: float) -> None:
        """Build.

        Args:
            lidar: Taken over, not copied.
            sizes: Of the fused head.
            code: E, length of the vectors that are compared across the two senses.
            hidden: Width between the layers of the head that guesses image features.
            drop_pictures: Probability, in training, that the fused head sees no picture of a scan.
        """
        super().__init__()
        self.lidar = lidar
        self.fused = FusedHead(sizes)
        self.point_code = _projection(sizes.width, code)
        self.view_code = nn.Sequential(nn.LayerNorm(sizes.features), *_projection(sizes.features, code))
        self.speak = DistillationHead(sizes.width, sizes.features, hidden)
        self.drop_pictures = drop_pictures

    def forward(
        self, features: Tensor, cells: Tensor, shapes: Shapes, neighbours: Tensor, scan: Tensor, point: Tensor, views: Tensor
    ) -> FusedAnswer:
        """Answer from the lidar alone and from both.

        Args:
            features: (T, 5), with cells, shapes, neighbours and scan as in `Student.forward`.
            cells: (3, T) int64.
            shapes: (B, H, W) of each plane.
            neighbours: (T, K) int64.
            scan: (T,) int64.
            point: (P,) int64 into T.
            views: (P, D) image features.
        """
        tokens = self.lidar.backbone(features, neighbours, make_planes(cells, shapes), None, scan)
        kept = self._keep_pictures(scan, shapes[0][0]).index_select(0, point)
        used = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        used[point[kept]] = True
        seen, owner = point.unique(return_inverse=True)
        shown = tokens.index_select(0, seen)
        views = views.to(self.fused.feature_norm.weight.dtype)
        return FusedAnswer(
            lidar=self.lidar.head(tokens),
            fused=self.fused(tokens, point[kept], views[kept]),
            seen=seen,
            owner=owner,
            point_code=nn.functional.normalize(self.point_code(shown).float(), dim=1),
            view_code=nn.functional.normalize(self.view_code(views).float(), dim=1),
            spoken=self.speak(shown),
            used=used,
        )

    def _keep_pictures(self, scan: Tensor, scans: int) -> Tensor:
        """Draw (T,) bool: the pictures of the point's scan are shown to the fused head."""
        if not self.training:
            return torch.ones(len(scan), dtype=torch.bool, device=scan.device)
        return torch.rand(scans, device=scan.device).ge(self.drop_pictures).index_select(0, scan)


def _projection(width: int, code: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, code), nn.ReLU(), nn.Linear(code, code))
