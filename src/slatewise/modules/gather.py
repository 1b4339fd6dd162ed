"""Reading vectors and masks along lists."""

from __future__ import annotations

import torch
from torch import Tensor


def list_mask(mask_BN: Tensor, length: int) -> Tensor:
    """True where a list of ``length`` has an item (B, L): a request with N < L candidates ends early."""
    return torch.arange(length, device=mask_BN.device) < mask_BN.sum(1, keepdim=True)


def gather_candidates(x_BND: Tensor, lists_BGL: Tensor) -> Tensor:
    """Vectors of the listed candidates (B, G, L, D), without expanding ``x_BND`` G times."""
    b, g, length = lists_BGL.shape
    index = lists_BGL.reshape(b, g * length, 1).expand(-1, -1, x_BND.shape[2])
    return x_BND.gather(1, index).view(b, g, length, x_BND.shape[2])


def open_candidates(lists_BGL: Tensor, mask_BN: Tensor) -> Tensor:
    """True (B, G, L, N) for the real candidates that no earlier position of the list has taken."""
    at_BGLN = torch.zeros(*lists_BGL.shape, mask_BN.shape[1], dtype=torch.bool, device=mask_BN.device)
    at_BGLN.scatter_(3, lists_BGL[..., None], True)
    taken_BGLN = (at_BGLN.cumsum(2) - at_BGLN.long()) > 0
    return ~taken_BGLN & mask_BN[:, None, None]
