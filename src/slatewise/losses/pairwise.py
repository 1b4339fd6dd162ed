"""Pairwise logistic loss (Rendle et al. 2009, BPR; Burges et al. 2005, RankNet): OneRanker's L_rank on the order of eCPM."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from slatewise.losses._mean import masked_mean


def loss(score_RN: Tensor, gain_RN: Tensor, mask_RN: Tensor) -> Tensor:
    """``-log sigmoid(s_i - s_j)``, averaged over a state's pairs with a higher gain of i, then over states with a pair.

    Args:
        score_RN: scores.   gain_RN: what orders the items (eCPM); only its order counts.
        mask_RN: True where an item is real.
    """
    pair_RNN = (gain_RN[:, :, None] > gain_RN[:, None, :]) & mask_RN[:, :, None] & mask_RN[:, None, :]
    term_RNN = F.softplus(score_RN[:, None, :] - score_RN[:, :, None]).masked_fill(~pair_RNN, 0.0)
    pairs_R = pair_RNN.sum((1, 2))
    return masked_mean(term_RNN.sum((1, 2)) / pairs_R.clamp_min(1), pairs_R > 0)
