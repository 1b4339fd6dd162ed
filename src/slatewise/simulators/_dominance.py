"""Items of a whole catalogue that no best list needs, so that a search may leave them out.

*An exchange.* Let a list hold item i at place t, and not item j of the same category. With j in the place of i every
category stands where it stood, so all fatigue and every lift stay. What changes is i's own place, by its base logit, its
worth and its price, and the price contrast of the places behind it, by (π_j − π_i) / s in the mean before place s:

* j dearer, π_j ≥ π_i: the places behind can only gain. The own contrast loses at most 2 tanh((π_j − π_i) / 2), so the
  exchange loses nothing if base_j − base_i is at least contrast times that.
* j cheaper: the own place gains σ(x + d) − σ(x) with d = base_j − base_i, for some x between i's lowest and highest
  logit at t; over an interval that difference is least at an end of it. The places behind lose at most
  ¼ · contrast · (π_i − π_j) · Σ_{s > t} 1 / s times the highest worth, since σ rises by at most ¼.

An item with L items that can so take its place (of at least its worth, and of higher base logit, or equal and earlier in
the table) is not needed: at most L − 1 of them stand in the list beside it, one is free. Each exchange raises the sum of
base logits or the order of the table, so exchanging comes to an end, at a list without such items.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.simulators._response import Response


def needed(response: Response, length: int) -> Tensor:
    """True (N,) for the items among which a best list of a response's one request is found."""
    needed_N = torch.zeros(response.num_candidates, dtype=torch.bool, device=response.base_BN.device)
    for category in response.category_BN[0].unique():
        index_n = (response.category_BN[0] == category).nonzero()[:, 0]
        needed_N[index_n] = _takers(response, index_n, length) < length
    return needed_N


def _takers(response: Response, index_n: Tensor, length: int) -> Tensor:
    """(n,) how many of a category's items can take each one's place, wherever that is."""
    base_n, price_n, weight_n = (
        table_BN[0, index_n] for table_BN in (response.base_BN, response.log_price_BN, response.weight_BN)
    )
    ahead_nn = base_n - base_n[:, None]  # [i, j]: how far j is ahead of i
    dearer_nn = price_n - price_n[:, None]
    contrast, worth = response.contrast_B[0], response.weight_BN.max()
    safe_nn = ahead_nn >= 2 * contrast * torch.tanh(dearer_nn / 2)
    for t in range(length):
        gain_nn = torch.minimum(*(_rise(logit_n, ahead_nn) for logit_n in _logits(response, base_n, t)))
        behind = sum(1 / s for s in range(t + 1, length))
        loss_nn = 0.25 * contrast * -dearer_nn * behind * worth
        safe_nn = safe_nn & ((dearer_nn >= 0) | (gain_nn * weight_n[:, None] >= loss_nn))
    first_nn = torch.ones_like(safe_nn).tril(-1)  # j stands earlier in the table than i
    before_nn = (ahead_nn > 0) | ((ahead_nn == 0) & first_nn)
    return (safe_nn & before_nn & (weight_n >= weight_n[:, None])).sum(dim=1)


def _logits(response: Response, base_n: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """(n,) each item's lowest and highest logit at place t, whatever stands before it."""
    base_n = base_n + response.position * t
    if t == 0:
        return base_n, base_n
    contrast, tired = response.contrast_B[0], sum(response.decay**ago for ago in range(t))
    return base_n - response.fatigue_B[0] * tired - contrast, base_n + response.complement + contrast


def _rise(from_n: Tensor, by_nn: Tensor) -> Tensor:
    return torch.sigmoid(from_n[:, None] + by_nn) - torch.sigmoid(from_n)[:, None]
