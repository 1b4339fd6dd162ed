"""Listwise softmax cross-entropy, the loss of PRM (Pei et al. 2019, Eq. 8) and of ListNet's top-one model."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.losses._mean import masked_mean


def loss(score_BN: Tensor, label_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """``-sum_i y_i log softmax(score)_i`` over a request's candidates, averaged over requests that have any.

    Args:
        score_BN: scores.
        label_BN: gain of each candidate, at least 0; not normalised: a request with two clicks weighs twice.
        mask_BN: True where the label counts; the softmax runs over these candidates only.
    """
    score_BN = score_BN.masked_fill(~mask_BN, -torch.inf)
    empty_B1 = ~mask_BN.any(1, keepdim=True)
    log_prob_BN = score_BN.masked_fill(empty_B1, 0.0).log_softmax(1)
    term_BN = (label_BN * log_prob_BN.masked_fill(~mask_BN, 0.0)).masked_fill(~mask_BN, 0.0)
    return masked_mean(-term_BN.sum(1), mask_BN.any(1))
