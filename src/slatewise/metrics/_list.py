"""What metrics of the list share: labels in list order, cut at a depth."""

from __future__ import annotations

from typing import Annotated

import msgspec
import torch
from torch import Tensor

from slatewise.types import Ranking

At = Annotated[int, msgspec.Meta(ge=1)] | None


def listed_BL(value_BN: Tensor, ranking: Ranking, at: int | None) -> Tensor:
    """``value_BN`` of the first ``at`` items of the list (None: of all), float64, 0 behind the end."""
    value_BL = value_BN.double().gather(1, ranking.order_BL)
    return (value_BL * ranking.mask_BL)[:, :at]


def positive_BN(label_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """True where a real candidate's label is above 0."""
    return (label_BN > 0) & mask_BN


def discount_L(length: int, device: torch.device) -> Tensor:
    """1 / log2(position + 1) for positions 1 to ``length`` (Järvelin and Kekäläinen 2002), float64."""
    return 1.0 / torch.arange(2, length + 2, dtype=torch.float64, device=device).log2()


def where_defined(value_B: Tensor, defined_B: Tensor) -> Tensor:
    """``value_B`` with NaN where the metric is undefined for the request."""
    return torch.where(defined_B, value_B, torch.full_like(value_B, torch.nan))
