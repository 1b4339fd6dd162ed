"""OneRanker's distribution-consistency loss: the generator learns to anticipate the ranker's preferences."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.losses._mean import masked_mean


def loss(generator_RN: Tensor, ranker_RN: Tensor, mask_RN: Tensor, temperature: float) -> Tensor:
    """``-sum_i p_i log pi(i)`` over given candidates, p the softmax of the ranker's scores / temperature; in nats.

    The ranker is the teacher: nothing of this loss reaches it.

    Args:
        generator_RN: the generator's scores, as logits.   ranker_RN: the ranker's.
        mask_RN: True where a candidate is real; states with fewer than two do not count.
        temperature: of the teacher; above 0.
    """
    empty_R1 = ~mask_RN.any(1, keepdim=True)
    closed = ~mask_RN & ~empty_R1
    teacher_RN = (ranker_RN.detach() / temperature).masked_fill(closed, -torch.inf).softmax(1)
    log_prob_RN = generator_RN.masked_fill(closed, -torch.inf).log_softmax(1).masked_fill(~mask_RN, 0.0)
    return masked_mean(-(teacher_RN * log_prob_RN).sum(1), mask_RN.sum(1) > 1)
