"""Average precision of the list (its mean is MAP; at 6 the papers' M@6)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from slatewise.config import Frozen
from slatewise.metrics._list import At, listed_BL, positive_BN, where_defined
from slatewise.types import Ranking


class Config(Frozen):
    """``at``: places that count; None = the whole list.

    ``over``: what the sum of precisions is divided by. ``reachable`` is the positives that fit into the list,
    min(positives, at), so that the best list has 1; ``positives`` is all of them, as in trec_eval's map_cut.
    The two differ only where a request has more positives than places.
    """

    at: At = 6
    over: Literal["reachable", "positives"] = "reachable"


def compute(
    config: Config, ranking: Ranking, label_BN: Tensor, observed_BN: Tensor, mask_BN: Tensor
) -> Tensor:
    """Sum over hits of the precision at their place, over ``config.over`` (B,); NaN without a positive."""
    good_BN = positive_BN(label_BN, mask_BN)
    hit_BL, total_B = listed_BL(good_BN, ranking, config.at), good_BN.sum(1)
    place_L = torch.arange(1, hit_BL.shape[1] + 1, dtype=torch.float64, device=hit_BL.device)
    sum_B = (hit_BL * hit_BL.cumsum(1) / place_L).sum(1)
    most = config.at or ranking.order_BL.shape[1]
    over_B = total_B.clamp(max=most) if config.over == "reachable" else total_B
    return where_defined(sum_B / over_B.clamp(min=1), total_B > 0)
