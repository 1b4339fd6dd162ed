"""Multi-token prediction over semantic ids (GPR Eq. 3): each head's negative log-likelihood of its item's whole path."""

from __future__ import annotations

from torch import Tensor

from slatewise.losses._mean import masked_mean


def loss(log_prob_RJ: Tensor, weight_RJ: Tensor, mask_RJ: Tensor) -> Tensor:
    """``-sum_j w_j log P_j(path)``, averaged over the moments that have a target; in nats.

    Args:
        log_prob_RJ: log-probability of the path of head j's target at each of R moments.
        weight_RJ: the head's weight times the target's value weight (GPR Eq. 4).
        mask_RJ: True where head j has a target.
    """
    weighted_RJ = (weight_RJ * log_prob_RJ).masked_fill(~mask_RJ, 0.0)
    return masked_mean(-weighted_RJ.sum(1), mask_RJ.any(1))
