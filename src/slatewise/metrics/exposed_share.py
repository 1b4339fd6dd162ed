"""Exposed share: how much of the list was exposed in the log, whatever its feedback.

Where exposed and other candidates come from different sources (``goalrank-v1``), a policy can score well by
telling the sources apart; this number shows how far it does.
"""

from __future__ import annotations

from torch import Tensor

from slatewise.config import Frozen
from slatewise.metrics._list import At, listed_BL
from slatewise.types import Ranking


class Config(Frozen):
    """``at``: places that count; None = the list's own length."""

    at: At = 6


def compute(
    config: Config, ranking: Ranking, label_BN: Tensor, observed_BN: Tensor, mask_BN: Tensor
) -> Tensor:
    """Exposed items among the first ``at`` places over the items there (B,); NaN for an empty list."""
    seen_B = listed_BL(observed_BN & mask_BN, ranking, config.at).sum(1)
    items_B = ranking.mask_BL[:, : config.at].sum(1)
    return seen_B / items_B
