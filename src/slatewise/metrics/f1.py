"""F1: the harmonic mean of precision and recall; in tables, of their means."""

from __future__ import annotations

from torch import Tensor

from slatewise.config import Frozen
from slatewise.metrics import precision, recall
from slatewise.metrics._list import At
from slatewise.types import Ranking

PARTS = ("precision", "recall")  # a table's F1 comes from the means of these two (see pool)


class Config(Frozen):
    """``at``: places that count; None = the whole list."""

    at: At = 6


def compute(
    config: Config, ranking: Ranking, label_BN: Tensor, observed_BN: Tensor, mask_BN: Tensor
) -> Tensor:
    """2PR / (P + R) of each request (B,), 0 where nothing is hit; NaN without a positive."""
    precision_B = precision.compute(precision.Config(at=config.at), ranking, label_BN, observed_BN, mask_BN)
    recall_B = recall.compute(recall.Config(at=config.at), ranking, label_BN, observed_BN, mask_BN)
    return pool(precision_B, recall_B)


def pool(precision: Tensor, recall: Tensor) -> Tensor:
    """2PR / (P + R), 0 where both are 0; of *mean* precision and recall it is the papers' F1."""
    return 2 * precision * recall / (precision + recall).clamp(min=1e-300)
