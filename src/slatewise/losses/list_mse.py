"""Squared error of a list's value: how GoalRank trains its reward model (App. B)."""

from __future__ import annotations

from torch import Tensor

from slatewise.losses._mean import masked_mean


def loss(value_BG: Tensor, target_BG: Tensor, mask_BG: Tensor) -> Tensor:
    """Mean of ``(value - target)²`` over the lists in ``mask_BG``, in squared units of feedback."""
    return masked_mean((value_BG - target_BG).square(), mask_BG)
