"""The best list of a whole catalogue: what may be left out, and how near the search comes to enumeration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from slatewise.config import build
from slatewise.errors import DataError
from slatewise.simulators._dominance import needed
from slatewise.simulators.catalogue import best_of_catalogue
from slatewise.simulators.store_events import Config, EventStore
from slatewise.simulators.store_v1 import Config as StoreConfig
from slatewise.simulators.store_v1 import Store

KINDS = ("click", "conversion", "value", {"click": 1.0, "value": 0.3})
EFFECTS: tuple[dict[str, Any], ...] = (
    {},
    {"fatigue": 3.0},
    {"contrast": 2.0},
    {"complement": 2.0, "position": 0.3},
)


def tiny(**changes: Any) -> Store:
    sizes = {"items": 16, "categories": 3, "candidates": 4, "pool": 4, "length": 4, "users": 30}
    return Store(build(StoreConfig, sizes | changes))


def everything(store: Store, users: int) -> tuple[Tensor, Tensor]:
    return torch.arange(users), torch.arange(store.config.items).expand(users, -1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("effects", EFFECTS)
def test_what_is_left_out_is_in_no_better_list(effects: dict[str, Any], kind: Any) -> None:
    """Enumeration over all 43,680 lists against enumeration over what is needed."""
    store, left_out = tiny(**effects), 0
    user_B, item_BN = everything(store, 6)
    for b in range(6):
        response = store.response(user_B[b, None], item_BN[b, None], kind)
        kept_N = needed(response, 4)
        left_out += int((~kept_N).sum())
        some_1N = item_BN[b, None, kept_N]
        whole = store.all_values(user_B[b, None], item_BN[b, None], 4, kind).max()
        best = store.all_values(user_B[b, None], some_1N, 4, kind).max()
        assert best == pytest.approx(float(whole), abs=1e-9)
    assert left_out > 0


def test_equal_items_are_not_all_left_out() -> None:
    """Every item is the same: each has as many others that could take its place as there are, and L must stay."""
    store = tiny(category_share=1.0, quality=0.0, price=0.0, contrast=0.0, categories=1, partners=0)
    user_B, item_BN = everything(store, 1)
    assert needed(store.response(user_B, item_BN, "click"), 4).sum() == 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("effects", EFFECTS)
def test_the_search_finds_the_best_of_a_small_catalogue(effects: dict[str, Any], kind: Any) -> None:
    store = tiny(**effects)
    user_B, item_BN = everything(store, 6)
    order_BL, value_B = best_of_catalogue(store, user_B, torch.zeros(6), 4, kind)
    exact_B = torch.stack(
        [store.all_values(user_B[b, None], item_BN[b, None], 4, kind).max() for b in range(6)]
    )
    torch.testing.assert_close(value_B, exact_B, rtol=0, atol=1e-9)
    torch.testing.assert_close(
        store.value(user_B, order_BL, torch.arange(4).expand(6, 1, -1), kind)[:, 0], value_B
    )


def test_the_search_comes_near_the_optimum_of_a_larger_one() -> None:
    store = tiny(items=60, categories=8, candidates=5, pool=5, length=5, bias=-3.0)
    user_B, item_BN = everything(store, 8)
    exact_B = store.optimum(user_B, item_BN, 5)[1]
    found_B = best_of_catalogue(store, user_B, torch.zeros(8), 5)[1]
    assert (found_B <= exact_B + 1e-9).all()
    assert (found_B / exact_B).mean() > 0.999


def test_only_what_has_arrived_and_is_sold_is_on_offer() -> None:
    sizes = {
        "users": 5,
        "items": 200,
        "categories": 6,
        "pool": 20,
        "candidates": 7,
        "length": 3,
        "sessions": 8,
    }
    store = EventStore(build(Config, sizes))
    time_B = torch.tensor([int(store._moments.time_US[user, 2]) for user in range(5)])
    user_B = store.rows_at(torch.arange(5), time_B)
    offer_BI = store.on_offer(time_B)
    assert not offer_BI[:, torch.from_numpy(store._moments.organic_I)].any()
    late_I = torch.from_numpy(store._moments.arrival_I)
    assert torch.equal(offer_BI[0], (late_I <= time_B[0]) & ~torch.from_numpy(store._moments.organic_I))
    order_BL, _ = best_of_catalogue(store, user_B, time_B, 3)
    assert offer_BI.gather(1, order_BL).all()
    assert Store().on_offer(time_B).all()
    with pytest.raises(DataError, match="the 0 items that are on offer"):
        best_of_catalogue(store, user_B[:1], torch.zeros(1), 3)
