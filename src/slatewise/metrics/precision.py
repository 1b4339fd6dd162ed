"""Precision: the share of the list's places that hold a positive."""

from __future__ import annotations

from torch import Tensor

from slatewise.config import Frozen
from slatewise.metrics._list import At, listed_BL, positive_BN
from slatewise.types import Ranking


class Config(Frozen):
    """``at``: places that count; None = the list's own length."""

    at: At = 6


def compute(
    config: Config, ranking: Ranking, label_BN: Tensor, observed_BN: Tensor, mask_BN: Tensor
) -> Tensor:
    """Hits among the first ``at`` places divided by ``at`` (B,), also where the request has fewer candidates.

    At 6 this is the quantity that the GoalRank paper prints as H@6 (its tables' arithmetic allows no other
    reading); its ceiling is the mean number of positives over 6, not 1.
    """
    hits_B = listed_BL(positive_BN(label_BN, mask_BN), ranking, config.at).sum(1)
    return hits_B / (config.at or ranking.mask_BL.sum(1).clamp(min=1))
