"""Agreement of two heads: one learns what the other says, softened; never NaN."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def agreement_loss(logits: Tensor, wanted: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean of tau² KL(softmax(wanted / tau) || softmax(logits / tau)); the gradient flows into `logits` alone.

    Args:
        logits: (T, K) of the one that learns.
        wanted: (T, K) of the one that knows more.
        temperature: Tau; the square keeps the gradient's size.
    Returns:
        Scalar; 0 with a gradient of 0 when there is no point.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2 (METHODS 6).
    """
    if not len(logits):
        return 0.0 * logits.float().sum()
    said, truth = (F.log_softmax(values.float() / temperature, 1) for values in (logits, wanted.detach()))
    return temperature**2 * F.kl_div(said, truth, log_target=True, reduction="batchmean")
