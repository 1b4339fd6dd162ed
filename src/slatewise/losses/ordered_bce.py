"""Ordered binary cross-entropy (Frank and Hall 2001; DeGRe Eq. 8): one yes-or-no question a threshold."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from slatewise.losses._mean import masked_mean


def loss(logit_BGLM: Tensor, share_BGLM: Tensor, open_LM: Tensor, mask_BL: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over the open thresholds of a place, averaged over a list's places, then lists.

    Args:
        logit_BGLM: logit of each of M thresholds for the prefix that ends at each place.
        share_BGLM: its label; 0 or 1 for a count. Cross-entropy is linear in the label, so a label in between, or
            even outside, is learnt as its mean.
        open_LM: thresholds that a prefix can reach at all: for counts the lower triangle, k <= t.
        mask_BL: places that have an item, the same for all lists of a request.
    """
    term_BGLM = F.softplus(logit_BGLM) - share_BGLM * logit_BGLM
    place_BGL = (term_BGLM * open_LM).sum(-1) * mask_BL[:, None]
    list_BG = place_BGL.sum(2) / mask_BL.sum(1, keepdim=True).clamp_min(1)
    return masked_mean(list_BG, mask_BL.any(1, keepdim=True).expand_as(list_BG))
