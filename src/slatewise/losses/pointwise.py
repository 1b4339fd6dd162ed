"""Pointwise binary cross-entropy: each observed candidate by itself."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from slatewise.losses._mean import masked_mean


def loss(logit_BN: Tensor, label_BN: Tensor, mask_BN: Tensor) -> Tensor:
    """Mean binary cross-entropy, in nats, over the candidates in ``mask_BN``.

    Args:
        logit_BN: scores as logits (any shape, the same for all three).
        label_BN: feedback in [0, 1].
        mask_BN: True where the label counts: the observed candidates, or all real ones where the protocol
            says that a candidate without feedback is a negative.
    """
    return masked_mean(F.binary_cross_entropy_with_logits(logit_BN, label_BN, reduction="none"), mask_BN)
