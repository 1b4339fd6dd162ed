"""GoalRank's group-relative loss (Eq. 5): cross-entropy from the reference policy to the generator."""

from __future__ import annotations

from torch import Tensor

from slatewise.losses._mean import masked_mean


def loss(log_prob_BG: Tensor, weight_BG: Tensor, keep_B: Tensor) -> Tensor:
    """``-sum_l pi_ref(l | B) log pi_theta(l)``, averaged over the groups that are kept; in nats.

    Args:
        log_prob_BG: log-probability of each list under the generator, with gradient.
        weight_BG: the reference policy (Eq. 4): sums to 1 over each kept group; lists with weight 0 have no
            effect, whatever their log-probability.
        keep_B: True for the groups that meet the gap condition (Eq. 3).
    """
    counted_BG = log_prob_BG.masked_fill(weight_BG == 0, 0.0)
    return masked_mean(-(weight_BG * counted_BG).sum(1), keep_B)
