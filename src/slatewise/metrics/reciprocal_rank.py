"""Reciprocal rank: one over the place of the first positive (its mean is MRR)."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Frozen
from slatewise.metrics._list import At, listed_BL, positive_BN, where_defined
from slatewise.types import Ranking


class Config(Frozen):
    """``at``: places that count; None = the whole list."""

    at: At = 6


def compute(
    config: Config, ranking: Ranking, label_BN: Tensor, observed_BN: Tensor, mask_BN: Tensor
) -> Tensor:
    """1 / place of the first positive within ``at``, 0 if the list has none (B,); NaN without a positive."""
    good_BN = positive_BN(label_BN, mask_BN)
    hit_BL = listed_BL(good_BN, ranking, config.at)
    place_L = torch.arange(1, hit_BL.shape[1] + 1, dtype=torch.float64, device=hit_BL.device)
    return where_defined((hit_BL / place_L).amax(1), good_BN.any(1))
