"""Searches under the true model, each against brute force over ``itertools.permutations``."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from slatewise.errors import ConfigError
from slatewise.simulators._sampling import distinct
from slatewise.simulators._search import neighbours
from slatewise.simulators.store_v1 import Config, Store

KINDS = ("click", "conversion", "value", {"click": 1.0, "value": 0.3})


def brute(store: Store, user_B: Tensor, item_BN: Tensor, length: int, kind: object = "click") -> Tensor:
    lists = torch.tensor(list(itertools.permutations(range(item_BN.shape[1]), length)))
    return store.value(user_B, item_BN, lists.expand(len(user_B), -1, -1), kind)  # type: ignore[arg-type]


def test_the_tree_is_all_permutations_in_order() -> None:
    store = Store(Config(candidates=5, length=3))
    drawn = store.requests(8, 0)
    torch.testing.assert_close(
        store.all_values(drawn.user_B, drawn.item_BN),
        brute(store, drawn.user_B, drawn.item_BN, 3),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("candidates", "length"), [(5, 3), (6, 6), (7, 1), (8, 4), (2, 2), (1, 1)])
def test_the_optimum_is_the_best_of_all(candidates: int, length: int, kind: object) -> None:
    store = Store(Config(candidates=candidates, length=length, users=50, items=200))
    drawn = store.requests(40, 1)
    order, value = store.optimum(drawn.user_B, drawn.item_BN, kind=kind)  # type: ignore[arg-type]
    torch.testing.assert_close(
        value, brute(store, drawn.user_B, drawn.item_BN, length, kind).amax(dim=1), rtol=0, atol=1e-9
    )
    torch.testing.assert_close(store.value(drawn.user_B, drawn.item_BN, order[:, None], kind)[:, 0], value)  # type: ignore[arg-type]
    assert all(len(set(row)) == length for row in order.tolist())


@pytest.mark.parametrize(
    "strength", [{"fatigue": 3.0}, {"complement": 2.0}, {"contrast": 2.0}, {"position": 0.3}]
)
def test_the_bound_holds_for_strong_effects(strength: dict[str, float]) -> None:
    store = Store(Config(candidates=7, length=5, **strength))
    drawn = store.requests(25, 2)
    best = brute(store, drawn.user_B, drawn.item_BN, 5).amax(dim=1)
    torch.testing.assert_close(store.optimum(drawn.user_B, drawn.item_BN)[1], best, rtol=0, atol=1e-9)


def test_the_optimum_of_wide_requests_is_exact() -> None:
    store = Store(Config(candidates=50))
    drawn = store.requests(3, 4)
    best = store.all_values(drawn.user_B, drawn.item_BN, 3).amax(dim=1)  # 117,600 lists each
    torch.testing.assert_close(store.optimum(drawn.user_B, drawn.item_BN, 3)[1], best, rtol=0, atol=1e-9)


def test_no_search_beats_the_optimum_of_50_to_6() -> None:
    store = Store(Config(candidates=50))
    drawn = store.requests(4, 5)
    u, i = drawn.user_B, drawn.item_BN
    best = store.optimum(u, i)[1]
    found = store.local_search(u, i, store.beam(u, i, 256)[0])[1]
    assert (found <= best + 1e-9).all()
    assert (found >= 0.98 * best).all()


def test_a_wide_beam_is_brute_force() -> None:
    store = Store(Config(candidates=5, length=3))
    drawn = store.requests(20, 3)
    order, value = store.beam(drawn.user_B, drawn.item_BN, 60)
    torch.testing.assert_close(value, brute(store, drawn.user_B, drawn.item_BN, 3).amax(dim=1))
    torch.testing.assert_close(store.value(drawn.user_B, drawn.item_BN, order[:, None])[:, 0], value)


def test_greedy_takes_the_best_next_item() -> None:
    store = Store(Config(candidates=6, length=3))
    drawn = store.requests(5, 3)
    order = store.greedy(drawn.user_B, drawn.item_BN)[0]
    for b, row in enumerate(order.tolist()):
        u, i = drawn.user_B[b : b + 1], drawn.item_BN[b : b + 1]
        for t in range(3):
            ways = torch.tensor([[*row[:t], n] for n in range(6) if n not in row[:t]])
            assert ways[store.value(u, i, ways[None])[0].argmax(), -1] == row[t]


@pytest.mark.parametrize("moves", [True, False])
def test_local_search_never_worsens_and_ends_at_a_peak(moves: bool) -> None:
    store = Store()
    drawn = store.requests(200, 6)
    u, i = drawn.user_B, drawn.item_BN
    value = store.value(u, i, drawn.logged_BL[:, None])[:, 0]
    for rounds in (1, 2, 3, None):
        order, better = store.local_search(u, i, drawn.logged_BL, rounds, moves=moves)
        assert (better >= value).all()
        value = better
    torch.testing.assert_close(store.value(u, i, order[:, None])[:, 0], value)
    near = neighbours(order, 12, moves=moves)
    assert (store.value(u, i, near) <= value[:, None] + 1e-9).all()


def test_neighbours_are_distinct_lists_one_step_away() -> None:
    order = torch.tensor([[3, 0, 5, 1]])
    near = neighbours(order, 7, moves=True)[0]
    swaps, moves, replacements = 6, 12 - 6, 4 * 3
    assert len(near) == swaps + moves + replacements
    rows = {tuple(row) for row in near.tolist()}
    assert len(rows) == len(near)
    assert (3, 0, 5, 1) not in rows
    assert all(len(set(row)) == 4 for row in rows)
    assert (0, 5, 3, 1) in rows  # a move
    assert (3, 0, 6, 1) in rows  # a replacement


def test_ranks_count_the_better_lists() -> None:
    store = Store(Config(candidates=6, length=3))
    drawn = store.requests(7, 0)
    u, i = drawn.user_B, drawn.item_BN
    values = brute(store, u, i, 3)
    asked = torch.stack(
        [values.amax(dim=1), values.amin(dim=1), store.value(u, i, drawn.logged_BL[:, None])[:, 0]], dim=1
    )
    got = store.standing(u, i, asked)
    assert got.exact
    assert got.total == 120
    assert (got.rank_BM[:, 0] == 1).all()
    assert (got.rank_BM[:, 1] == 120).all()
    assert torch.equal(got.rank_BM[:, 2], 1 + (values > asked[:, 2:] + 1e-9).sum(dim=1))
    torch.testing.assert_close(got.mean_B, values.mean(dim=1))
    assert got.in_top(0.01)[:, 1].sum() == 0


def test_too_many_lists_are_sampled_or_refused() -> None:
    store = Store(Config(candidates=50))
    drawn = store.requests(2, 0)
    best = store.optimum(drawn.user_B, drawn.item_BN)[1][:, None]
    got = store.standing(drawn.user_B, drawn.item_BN, best, samples=500)
    assert (got.exact, got.total) == (False, 500)
    assert (got.rank_BM == 1).all()
    with pytest.raises(ConfigError, match="at most 1,000,000"):
        store.all_values(drawn.user_B, drawn.item_BN)
    with pytest.raises(ConfigError, match="51"):
        store.optimum(drawn.user_B, drawn.item_BN, 51)


def test_pools_are_distinct_and_uniform() -> None:
    import numpy as np

    pools = distinct(np.random.default_rng(0), 20_000, 4, 7)
    assert all(len(set(row)) == 4 for row in pools[:500].tolist())
    share = np.bincount(pools.ravel(), minlength=7) / 20_000
    assert np.abs(share - 4 / 7).max() < 0.02
    assert (np.sort(distinct(np.random.default_rng(0), 3, 5, 5), axis=1) == np.arange(5)).all()
