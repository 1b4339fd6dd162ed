"""Hit rate: whether the list holds any positive at all."""

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
    """1 if a positive is among the first ``at`` places, else 0 (B,); NaN without a positive.

    Not the H@6 of the GoalRank paper, which is :mod:`slatewise.metrics.precision`.
    """
    good_BN = positive_BN(label_BN, mask_BN)
    return where_defined(listed_BL(good_BN, ranking, config.at).amax(1), good_BN.any(1))
