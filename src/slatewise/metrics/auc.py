"""AUC: the chance that a positive candidate is scored above another one, over all N candidates."""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.config import Frozen
from slatewise.metrics._list import positive_BN, where_defined
from slatewise.types import Ranking


class Config(Frozen):
    """No options: AUC is over all real candidates, ordered by ``Ranking.score_BN``."""


def compute(
    config: Config, ranking: Ranking, label_BN: Tensor, observed_BN: Tensor, mask_BN: Tensor
) -> Tensor:
    """Mann-Whitney AUC (B,) with ties at 0.5; NaN where a request has one class only."""
    return among(ranking.score_BN, positive_BN(label_BN, mask_BN), mask_BN)


def among(score_BN: Tensor, good_BN: Tensor, chosen_BN: Tensor) -> Tensor:
    """AUC of ``score_BN`` between ``good_BN`` and the rest of ``chosen_BN`` (B,); NaN where either is empty.

    Uses mean ranks (Mann and Whitney 1947): N log N a request, exact with ties.
    """
    # The unchosen go below every chosen one, then their number is taken off the ranks.
    lowest = torch.finfo(torch.float64).min
    score_BN = score_BN.double().clamp(min=lowest).masked_fill(~chosen_BN, -torch.inf).contiguous()
    sorted_BN = score_BN.sort(dim=1).values
    below_BN = torch.searchsorted(sorted_BN, score_BN, right=False)
    upto_BN = torch.searchsorted(sorted_BN, score_BN, right=True)
    rank_BN = (below_BN + upto_BN + 1).double() / 2 - (~chosen_BN).sum(1, keepdim=True)
    good_BN = good_BN & chosen_BN
    good_B, rest_B = good_BN.sum(1).double(), (chosen_BN & ~good_BN).sum(1).double()
    wins_B = (rank_BN * good_BN).sum(1) - good_B * (good_B + 1) / 2
    return where_defined(wins_B / (good_B * rest_B).clamp(min=1), (good_B > 0) & (rest_B > 0))
