"""Random lists to learn item labels from, where a request's shown and unshown candidates all have labels."""

from __future__ import annotations

import torch
from torch import Tensor


def independent_lists(
    shown_BN: Tensor, known_BN: Tensor, count: int, length: int, rng: torch.Generator
) -> Tensor:
    """``count`` random ordered lists (B, G, L) a request in which an item's being shown says nothing of the others'.

    In uniformly random lists it does: they are drawn without replacement from, say, 6 shown of 12, so each shown item
    makes the next one less likely. A model that reads whole lists learns that, and then thinks the less of a list the
    more of its items look shown, although labels have no effect on each other (measured on MovieLens: a judge's own
    best lists had fewer true hits than its own items' sort). Here each place is shown or not by itself, with the
    request's share of shown candidates, so that the mean is that of random lists; the number of shown items is
    binomial instead of hypergeometric, as far as there are enough of both.

    Args:
        shown_BN, known_BN: candidates that were shown, and all that have a label.
        rng: on the device of the masks.

    Returns:
        Lists of known candidates without repeats; 0 behind the end of a request that has fewer than L.
    """
    shown_BN = shown_BN & known_BN
    rest_BN = known_BN & ~shown_BN
    shown_B1, rest_B1 = shown_BN.sum(1, keepdim=True), rest_BN.sum(1, keepdim=True)
    (b, n), device = known_BN.shape, rng.device
    share_B11 = (shown_B1 / (shown_B1 + rest_B1).clamp_min(1))[..., None]
    wanted_BG = (torch.rand(b, count, length, generator=rng, device=device) < share_B11).sum(2)
    # where one kind runs out, the other fills the list
    wanted_BG = torch.minimum(torch.maximum(wanted_BG, length - rest_B1), shown_B1)
    key_BGN = torch.rand(b, count, n, generator=rng, device=device)
    chosen_BGN = _first(key_BGN, shown_BN, wanted_BG) | _first(key_BGN, rest_BN, length - wanted_BG)
    order_BGN = torch.rand(b, count, n, generator=rng, device=device).masked_fill(~chosen_BGN, -1.0)
    top = order_BGN.topk(min(length, n), dim=2)
    lists_BGL = torch.where(top.values >= 0, top.indices, 0)
    return torch.nn.functional.pad(lists_BGL, (0, length - lists_BGL.shape[2]))


def _first(key_BGN: Tensor, mask_BN: Tensor, number_BG: Tensor) -> Tensor:
    """The ``number_BG`` candidates of the mask with the highest keys."""
    masked_BGN = key_BGN.masked_fill(~mask_BN[:, None], -1.0)
    rank_BGN = masked_BGN.argsort(dim=2, descending=True).argsort(dim=2)
    return (rank_BGN < number_BG[..., None]) & mask_BN[:, None]
