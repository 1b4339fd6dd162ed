"""Softmax cross-entropy of one item against many that all states of a batch share (Jean et al. 2015, uniform sample)."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.losses._mean import masked_mean


def loss(positive_R: Tensor, shared_RM: Tensor, same_RM: Tensor, weight_R: Tensor) -> Tensor:
    """``-w log softmax`` of the positive among itself and the shared items, averaged over states of weight above 0.

    Args:
        positive_R: score of each state's own item.   shared_RM: scores of the M shared items.
        same_RM: True where a shared item is the state's own, which must not count against itself.
        weight_R: weight of each state; 0 where it has no item.
    """
    against_RM = shared_RM.masked_fill(same_RM, -torch.inf)
    all_R = torch.cat([positive_R[:, None], against_RM], 1).logsumexp(1)
    return masked_mean(weight_R * (all_R - positive_R), weight_R > 0)
