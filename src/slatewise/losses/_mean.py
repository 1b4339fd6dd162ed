"""The masked mean that the losses share."""

from __future__ import annotations

from torch import Tensor


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``x`` where ``mask`` is True; 0, still with a gradient (of zero), where it is True nowhere."""
    return x.masked_fill(~mask, 0.0).sum() / mask.sum().clamp_min(1)
