"""The best list that can be made of a store's whole catalogue: what a chain of retrieval and ranking is measured by.

Branch and bound, which is exact for a request's candidates, takes minutes a request here. So the list is *the best found*:
items that no best list needs are left out by an argument that holds (:mod:`slatewise.simulators._dominance`), a beam of 128
runs over all others, and local search to the end (swaps, moves, replacements by any of them) starts from several of its
lists. How near it comes is tested against enumeration on small catalogues; measured figures stand in ``docs/store.md``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from slatewise.errors import DataError
from slatewise.simulators._dominance import needed
from slatewise.simulators._model import Target
from slatewise.simulators._response import Response
from slatewise.simulators._search import beams, local_search
from slatewise.simulators.store_v1 import Store

WIDTH = 128  # of the beam
STARTS = 8  # lists of the beam, from the best down at even distances, that local search starts from


def best_of_catalogue(
    store: Store, user_B: Tensor, time_B: Tensor, length: int, kind: Target = "click"
) -> tuple[Tensor, Tensor]:
    """The best list found among all items on offer at each request's time, and its value: item rows (B, L), (B,).

    Args:
        user_B: rows of the store's users (:meth:`~slatewise.simulators.store_v1.Store.rows_at`).   time_B: seconds.

    Raises:
        DataError: fewer than ``length`` items are on offer at a time.
    """
    offer_BI = store.on_offer(time_B)
    if (least := int(offer_BI.sum(dim=1).min())) < length:
        raise DataError(
            f"a list of {length} cannot be made of the {least} items that are on offer at a time."
        )
    rows, values = [], []
    for user_1, offer_I in zip(user_B.split(1), offer_BI, strict=True):
        item_n = offer_I.nonzero()[:, 0]
        order_L, value = best_list(store.response(user_1, item_n[None], kind), length)
        rows.append(item_n[order_L])
        values.append(value)
    return torch.stack(rows), torch.stack(values)


def best_list(response: Response, length: int) -> tuple[Tensor, Tensor]:
    """The best list found of a response's one request, and its value: (L,), ()."""
    kept_n = needed(response, length).nonzero()[:, 0]
    response = response.keep(kept_n)
    lists_WL = beams(response, length, WIDTH)[0][0]
    start_SL = lists_WL[:: max(1, len(lists_WL) // STARTS)][:STARTS]
    several = response.rows(torch.zeros(len(start_SL), dtype=torch.long, device=start_SL.device))
    order_SL, value_S = local_search(several, start_SL, None, moves=True)
    return kept_n[order_SL[value_S.argmax()]], value_S.max()
