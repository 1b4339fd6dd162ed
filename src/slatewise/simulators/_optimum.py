"""The best list of each request, exactly: branch and bound over prefixes, many requests at once.

A beam with local search gives a list that is the best or close to it; the rest is to prove or beat it.
A beginning is dropped when even an optimistic ending cannot beat the best list known. That ending lets each
free item have its best case at each remaining position (no fatigue from items to come, a lift if any free one
could give it, the dearest free items before it), and bounds the best assignment of items to the R remaining
positions by its Lagrangian dual: for any prices λ,

    Σ_t v(i_t, t) <= Σ_t λ_t + the sum of the R largest, over items i, of max_t (v(i, t) − λ_t).

Any prices give a valid bound, so their choice costs time at most, never exactness.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.simulators import _search
from slatewise.simulators._prefix import Prefixes, empty, extend, next_gains
from slatewise.simulators._response import Response

CERTAIN = 1e-9  # a list must be better by this to count; the optimum is exact up to it
NODES = 4096  # beginnings expanded at once: small enough to stay in cache


def optimum(response: Response, length: int) -> tuple[Tensor, Tensor]:
    """The best lists and their values, (B, L) and (B,), for weights >= 0."""
    best = _Best(*_search.local_search(response, _search.beam(response, length, 8)[0], None, moves=True))
    stack = [empty(response)]
    while stack:
        nodes = stack.pop()
        if len(nodes.value_M) > NODES:
            stack += [
                nodes.rows(slice(start, start + NODES)) for start in range(0, len(nodes.value_M), NODES)
            ]
        elif nodes.length == length - 1:
            _finish(response, nodes, best)
        else:
            stack.append(_branch(response, nodes, length, best.value_B))
    return best.order_BL, best.value_B


class _Best:
    """The best list known of each request."""

    def __init__(self, order_BL: Tensor, value_B: Tensor) -> None:
        self.order_BL, self.value_B = order_BL, value_B


def _finish(response: Response, nodes: Prefixes, best: _Best) -> None:
    """Fill the last position of every beginning and keep what beats the best list known."""
    last = next_gains(response, nodes).masked_fill(nodes.used_MN, -torch.inf).max(dim=1)
    value_M = nodes.value_M + last.values
    for m in (value_M > best.value_B[nodes.request_M] + CERTAIN).nonzero()[:, 0].tolist():  # hardly ever any
        row = nodes.request_M[m]
        if value_M[m] > best.value_B[row]:
            best.value_B[row] = value_M[m]
            best.order_BL[row] = torch.cat([nodes.chosen_ML[m], last.indices[m, None]])


def _branch(response: Response, nodes: Prefixes, length: int, value_B: Tensor) -> Prefixes:
    """All children that may still lead to a better list."""
    hope_MNR = _optimistic_gains(response, nodes, length)
    total_MN = nodes.value_M[:, None] + hope_MNR[..., 0]
    bound_MN = total_MN + _ending_bound(hope_MNR[..., 1:], nodes.used_MN)
    open_MN = (bound_MN > value_B[nodes.request_M][:, None] + CERTAIN) & ~nodes.used_MN
    parent_M, item_M = open_MN.nonzero(as_tuple=True)
    return extend(response, nodes.rows(parent_M), item_M, total_MN[open_MN])


def _optimistic_gains(response: Response, nodes: Prefixes, length: int) -> Tensor:
    """The most each item adds at each of the R remaining positions, (M, N, R); exact at the first of them."""
    row, t = nodes.request_M, nodes.length
    ahead_R = torch.arange(length - t, device=row.device, dtype=response.base_BN.dtype)
    price_MN = response.log_price_BN[row]
    dearest_MR = price_MN.masked_fill(nodes.used_MN, -torch.inf).topk(length - t, dim=1).values.cumsum(dim=1)
    before_MR = nodes.price_M[:, None] + torch.nn.functional.pad(dearest_MR[:, :-1], (1, 0))
    contrast_MNR = torch.tanh((before_MR / (t + ahead_R).clamp(min=1))[:, None, :] - price_MN[..., None])
    if t == 0:
        contrast_MNR[..., 0] = 0.0
    could_lift_MN = (response.lift_BNN[row] & ~nodes.used_MN[..., None]).any(dim=1)
    lifted_MNR = nodes.lifted_MN[..., None] | (could_lift_MN[..., None] & (ahead_R > 0))
    logit_MNR = (
        (response.base_BN[row][..., None] + response.position * (t + ahead_R))
        - response.fatigue_B[row][:, None, None] * nodes.tired_MN[..., None] * response.decay**ahead_R
        + response.complement * lifted_MNR.to(price_MN.dtype)
        + response.contrast_B[row][:, None, None] * contrast_MNR
    )
    return torch.sigmoid(logit_MNR) * response.weight_BN[row][..., None]


def _ending_bound(hope_MNR: Tensor, used_MN: Tensor) -> Tensor:
    """At most what the R positions after the next one add if item n takes the next one, (M, N)."""
    count = hope_MNR.shape[2]
    hope_MNR = hope_MNR.masked_fill(used_MN[..., None], 0.0)
    price_MR = _dual_prices(hope_MNR)
    profit_MN = (hope_MNR - price_MR[:, None]).amax(dim=2).masked_fill(used_MN, -torch.inf)
    top_MR = profit_MN.topk(count + 1, dim=1).values
    last_M1, spare_M1 = top_MR[:, count - 1, None], top_MR[:, count:]
    rest_MN = torch.where(
        profit_MN >= last_M1, spare_M1 - profit_MN, 0.0
    )  # n is among the best: the spare one steps in
    return (price_MR + top_MR[:, :count]).sum(dim=1, keepdim=True) + rest_MN


def _dual_prices(hope_MNR: Tensor) -> Tensor:
    """Prices near the dual's best: what the best R items add at each position, on average, (M, R)."""
    count = hope_MNR.shape[2]
    best_MR = hope_MNR.mean(dim=2).topk(count, dim=1).indices
    return hope_MNR.gather(1, best_MR[..., None].expand(-1, -1, count)).mean(dim=1)
