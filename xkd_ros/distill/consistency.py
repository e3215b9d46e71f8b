"""Agreement with a mean teacher: the student should say the same about a point that its slow copy sees in another pose."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def consistency_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean KL divergence from the teacher's distribution, sum_c p_t (log p_t - log p_s), in float32.

    Args:
        student: (P, C) logits.
        teacher: (P, C) logits of the mean teacher at the same points; no gradient reaches them.
    Returns:
        Scalar; 0 with a gradient of 0 when there is no point.

    Source: METHODS 4.2.
    """
    if not len(student):
        return 0.0 * student.float().sum()
    wanted = F.log_softmax(teacher.detach().float(), dim=1)
    return F.kl_div(F.log_softmax(student.float(), dim=1), wanted, reduction="batchmean", log_target=True)
