"""Contrastive loss: what belongs together is more alike than what does not; never NaN, whatever is missing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(
    a: Tensor, b: Tensor, pair_a: Tensor, pair_b: Tensor, ignored: Tensor | None = None, temperature: float = 0.07, symmetric: bool = False
) -> Tensor:
    """Tell the partners of each vector from all others.

    Mean over the i in A that have partners P_i in B of -1/|P_i| sum over p in P_i of log[exp(s_ip) / sum over k of exp(s_ik)], where
    s = a · b / tau and k is all of B that is not ignored, partners among them. Symmetric: the average of this and of A and B exchanged.

    Args:
        a: (A, E) unit vectors.
        b: (B, E) unit vectors; detach them for a gradient into `a` alone.
        pair_a: (Q,) int64 into A: with `pair_b` who belongs together.
        pair_b: (Q,) int64 into B.
        ignored: (A, B) bool: not told apart. Partners count even so.
        temperature: Tau; 0.03 at least, below which exponentials of float32 vanish.
        symmetric: Both directions.
    Returns:
        Scalar; 0 with a gradient of 0 when nothing belongs together.

    Source: Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, eq. 2 (METHODS 4.3); with one partner InfoNCE (METHODS 6).
    """
    if not len(pair_a):
        return 0.0 * (a.float().sum() + b.float().sum())
    # In float32 also under autocast: bfloat16 is off by up to 1/256, which the temperature makes e^(1/18).
    with torch.autocast(a.device.type, enabled=False):
        shift = a.new_full((1,), -1 / temperature, dtype=torch.float32)
        # No cosine is above 1, so the maximum is known beforehand, and one pass of exponentials serves both directions.
        score = torch.addmm(shift, a.float() / temperature, b.float().T)  # (A, B)
    wanted, share = score[pair_a, pair_b], score.exp()
    if ignored is not None:
        ignored = ignored.clone()
        ignored[pair_a, pair_b] = False
        share = share.masked_fill(ignored, 0)
    loss = _told_apart(wanted, share.sum(1), pair_a)
    return (loss + _told_apart(wanted, share.sum(0), pair_b)) / 2 if symmetric else loss


def _told_apart(wanted: Tensor, total: Tensor, place: Tensor) -> Tensor:
    """Average log(total) - wanted over the pairs of each place, then over the places that have one."""
    partners = place.bincount(minlength=len(total))
    cost = total[place].log() - wanted
    return (cost / partners[place]).sum() / partners.count_nonzero()


@torch.no_grad()
def alike_views(features: Tensor, owner: Tensor, points: int, cosine: float) -> Tensor:
    """Find views that resemble a point's own so much that they should not be told apart: indoors most pixels of a wall are alike.

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
