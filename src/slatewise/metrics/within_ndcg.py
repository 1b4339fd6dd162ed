"""Within-exposed NDCG: the exposed candidates alone, in the order of their scores."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Frozen
from slatewise.metrics._list import At
from slatewise.metrics.ndcg import Gains, gain_BN, normalised_B
from slatewise.types import Ranking


class Config(Frozen):
    """``at``: places that count; None = all exposed ones. ``gains``: see :mod:`slatewise.metrics.ndcg`."""

    at: At = 6
    gains: Gains = "binary"


def compute(
    config: Config, ranking: Ranking, label_BN: Tensor, observed_BN: Tensor, mask_BN: Tensor
) -> Tensor:
    """NDCG of the exposed candidates ordered by ``score_BN`` (B,); NaN where none of them is positive.

    Equal scores stay in the order of the candidate axis.
    """
    chosen_BN = observed_BN & mask_BN
    value_BN = gain_BN(config.gains, label_BN, chosen_BN)
    # Two stable sorts, by score and then exposed first, keep an exposed candidate scored -inf in front.
    order_BN = ranking.score_BN.argsort(dim=1, descending=True, stable=True)
    first_BN = (~chosen_BN.gather(1, order_BN)).to(torch.uint8).argsort(dim=1, stable=True)
    listed_BN = value_BN.gather(1, order_BN.gather(1, first_BN))
    return normalised_B(listed_BN[:, : config.at], value_BN, config.at or value_BN.shape[1])
