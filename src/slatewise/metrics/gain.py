"""Gain: the logged (weighted) feedback of the listed items, summed; for binary clicks the true hits."""

from __future__ import annotations

from torch import Tensor

from slatewise.config import Frozen
from slatewise.metrics._list import At, listed_BL
from slatewise.types import Ranking


class Config(Frozen):
    """``at``: places that count; None = the whole list."""

    at: At = 6


def compute(
    config: Config, ranking: Ranking, label_BN: Tensor, observed_BN: Tensor, mask_BN: Tensor
) -> Tensor:
    """Sum of the labels of the first ``at`` items (B,), in units of feedback; no feedback counts as 0."""
    return listed_BL(label_BN * mask_BN, ranking, config.at).sum(1)
