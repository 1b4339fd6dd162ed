"""Within-exposed AUC: only candidates that were exposed, so that their source cannot help."""

from __future__ import annotations

from torch import Tensor

from slatewise.config import Frozen
from slatewise.metrics._list import positive_BN
from slatewise.metrics.auc import among
from slatewise.types import Ranking


class Config(Frozen):
    """No options: AUC is over the exposed candidates, ordered by ``Ranking.score_BN``."""


def compute(
    config: Config, ranking: Ranking, label_BN: Tensor, observed_BN: Tensor, mask_BN: Tensor
) -> Tensor:
    """AUC among the exposed candidates (B,), ties at 0.5; NaN where they are all positive or all not."""
    return among(ranking.score_BN, positive_BN(label_BN, mask_BN), observed_BN & mask_BN)
