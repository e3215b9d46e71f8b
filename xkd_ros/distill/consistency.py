"""Agreement with a mean teacher: the student should say the same about a point that its slow copy sees in another pose."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def consistency_loss(student: Tensor, teacher: Tensor, class_weight: Tensor | None = None) -> Tensor:
    """Mean KL divergence from the teacher's distribution, sum_c p_t (log p_t - log p_s), in float32.

    With class weights a point counts as much as its class is expected to, sum_c p_t w_c: walls and floors, of which the teacher is sure
    first, would outvote what labels say of rare classes otherwise.

    Args:
        student: (P, C) logits.
        teacher: (P, C) logits of the mean teacher at the same points; no gradient reaches them.
        class_weight: (C,) w, or None.
    Returns:
        Scalar; 0 with a gradient of 0 when there is no point.

    Source: METHODS 4.2; the weights are ours.
    """
    if not len(student):
        return 0.0 * student.float().sum()
    wanted = F.log_softmax(teacher.detach().float(), dim=1)
    apart = F.kl_div(F.log_softmax(student.float(), dim=1), wanted, reduction="none", log_target=True).sum(1)
    if class_weight is None:
        return apart.mean()
    weight = wanted.exp() @ class_weight.float()
    return (apart * weight).sum() / weight.sum()
