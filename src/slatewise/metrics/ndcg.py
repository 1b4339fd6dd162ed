"""Normalised discounted cumulative gain (Järvelin and Kekäläinen 2002)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from slatewise.config import Frozen
from slatewise.metrics._list import At, discount_L, listed_BL, positive_BN, where_defined
from slatewise.types import Ranking

Gains = Literal["binary", "linear", "exponential"]


class Config(Frozen):
    """``at``: places that count; None = the list's length L.

    ``gains`` of a label y > 0: ``binary`` 1, ``linear`` y, ``exponential`` 2^y - 1; other labels gain 0.
    """

    at: At = 6
    gains: Gains = "binary"


def gain_BN(gains: Gains, label_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """Gain of every candidate (B, N), float64; 0 where there is no real candidate."""
    good_BN = positive_BN(label_BN, mask_BN).double()
    if gains == "binary":
        return good_BN
    return good_BN * (label_BN.double() if gains == "linear" else label_BN.double().exp2() - 1)


def normalised_B(gain_BL: Tensor, gain_BN: Tensor, most: int) -> Tensor:
    """DCG of the gains in list order over that of the best ``most`` of all N; NaN where there is no gain."""
    best_BL = gain_BN.sort(dim=1, descending=True).values[:, :most]
    dcg_B = (gain_BL * discount_L(gain_BL.shape[1], gain_BL.device)).sum(1)
    ideal_B = (best_BL * discount_L(best_BL.shape[1], best_BL.device)).sum(1)
    return where_defined(dcg_B / ideal_B.clamp(min=1e-300), ideal_B > 0)


def compute(
    config: Config, ranking: Ranking, label_BN: Tensor, observed_BN: Tensor, mask_BN: Tensor
) -> Tensor:
    """DCG of the list over the DCG of the best list from all N candidates (B,); NaN without a positive."""
    value_BN = gain_BN(config.gains, label_BN, mask_BN)
    most = config.at or ranking.order_BL.shape[1]
    return normalised_B(listed_BL(value_BN, ranking, config.at), value_BN, most)
