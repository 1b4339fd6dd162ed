"""Recall: the share of a request's positives that the list holds."""

from __future__ import annotations

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
    """Hits among the first ``at`` places over the positives among all N (B,); NaN without a positive."""
    good_BN = positive_BN(label_BN, mask_BN)
    hits_B, total_B = listed_BL(good_BN, ranking, config.at).sum(1), good_BN.sum(1)
    return where_defined(hits_B / total_B.clamp(min=1), total_B > 0)
