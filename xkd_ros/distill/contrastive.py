"""Contrastive losses: what belongs together is more alike than what does not; none is ever NaN, whatever is missing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(anchors: Tensor, keys: Tensor, positive: Tensor, ignored: Tensor | None = None, temperature: float = 0.1) -> Tensor:
    """Compare in one direction.

    Mean over anchors i of -1/|P_i| sum over p in P_i of log[exp(s_ip) / sum over a of exp(s_ia)], where s = anchor · key / tau and the
    inner sum is over all keys that are not ignored, positives among them.

    Args:
        anchors: (A, E) unit vectors.
        keys: (B, E) unit vectors; detach them for a gradient into the anchors alone.
        positive: (A, B) bool, the keys that an anchor should resemble; anchors without one do not count.
        ignored: (A, B) bool: neither positive nor negative. Positives count even so.
        temperature: Tau.
    Returns:
        Scalar; 0 with a gradient of 0 when no anchor has a positive.

    Source: Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, eq. 2 (METHODS 4.3); with one positive InfoNCE (METHODS 6).
    """
    counted = positive.any(1)
    if not bool(counted.any()):
        return 0.0 * (anchors.float().sum() + keys.float().sum())
    positive = positive[counted]
    # In float32 also under autocast: a similarity that is off by 1/256 is off by e^(1/18) after division by the temperature.
    with torch.autocast(anchors.device.type, enabled=False):
        score = anchors[counted].float() @ keys.float().T / temperature
    wanted = score.masked_fill(~positive, 0).sum(1) / positive.sum(1)
    if ignored is not None:
        score = score.masked_fill(ignored[counted] & ~positive, -torch.inf)
    return (score.logsumexp(1) - wanted).mean()


def cross_modal_loss(points: Tensor, views: Tensor, owner: Tensor, alike: Tensor | None = None, temperature: float = 0.07) -> Tensor:
    """Symmetric InfoNCE between points and what pictures show of them: mean of both directions.

    Args:
        points: (U, E) unit vectors.
        views: (V, E) unit vectors; those of the same point are all its positives.
        owner: (V,) int64 point of each view.
        alike: (U, V) bool: no negatives, because they may show the same thing.
        temperature: Tau.

    Source: METHODS 6 [DES].
    """
    own = owner.unsqueeze(0) == torch.arange(len(points), device=owner.device).unsqueeze(1)  # (U, V)
    back = None if alike is None else alike.T
    forth, back_loss = contrastive_loss(points, views, own, alike, temperature), contrastive_loss(views, points, own.T, back, temperature)
    return (forth + back_loss) / 2


@torch.no_grad()
def alike_views(features: Tensor, owner: Tensor, points: int, cosine: float) -> Tensor:
    """Find views that resemble a point's own so much that they are no negatives: indoors most pixels of a wall are alike.

    Args:
        features: (V, D) of the image teacher.
        owner: (V,) int64 point of each.
        points: U.
        cosine: Threshold on the cosine between a view and the mean direction of the point's views.
    Returns:
        (U, V) bool; a point's own views may be among them.
    """
    direction = F.normalize(features.float(), dim=1)
    mean = F.normalize(direction.new_zeros(points, direction.shape[1]).index_add(0, owner, direction), dim=1)
    return mean @ direction.T > cosine
