"""The response model: closed form against hand-computed logits, the prefix tree, and drawn feedback."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from slatewise.errors import ConfigError, DataError
from slatewise.simulators.store_v1 import Config, Store

SMALL = Config(users=40, items=60, categories=4, candidates=7, length=4, pool=12)


@pytest.fixture(scope="module")
def store() -> Store:
    return Store(SMALL)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def by_hand(store: Store, user: int, items: list[int]) -> list[float]:
    """The formulas of docs/store.md in plain Python, item by item."""
    c, w = store.config, store._world
    psi, phi = float(w.price_sense_U[user]), float(w.variety_U[user])
    probs = []
    for t, item in enumerate(items):
        match = float((w.taste_UD[user] * w.item_ID[item]).sum()) / math.sqrt(c.latent)
        price, kind = float(w.log_price_I[item]), int(w.category_I[item])
        logit = (
            c.bias
            + c.affinity * match
            + c.quality * float(w.quality_I[item])
            - c.price * psi * price
            + c.position * t
        )
        earlier = items[:t]
        for s, other in enumerate(earlier):
            if int(w.category_I[other]) == kind:
                logit -= c.fatigue * phi * c.fatigue_decay ** (t - s - 1)
        if any(bool(w.partner_KK[int(w.category_I[other]), kind]) for other in earlier):
            logit += c.complement
        if earlier:
            mean = sum(float(w.log_price_I[other]) for other in earlier) / t
            logit += c.contrast * psi * math.tanh(mean - price)
        probs.append(sigmoid(logit))
    return probs


def test_click_probabilities_are_the_documented_formulas(store: Store) -> None:
    drawn = store.requests(6, 3)
    lists_BGL = torch.stack(
        [torch.randperm(7, generator=torch.Generator().manual_seed(k))[:4] for k in range(18)]
    ).view(6, 3, 4)
    got = store.expected_feedback(drawn.user_B, drawn.item_BN, lists_BGL)
    for b, g in itertools.product(range(6), range(3)):
        items = drawn.item_BN[b, lists_BGL[b, g]].tolist()
        assert got[b, g].tolist() == pytest.approx(by_hand(store, int(drawn.user_B[b]), items), abs=1e-12)


def test_every_list_effect_moves_the_value(store: Store) -> None:
    drawn = store.requests(64, 3)
    lists = drawn.logged_BL[:, None]
    full = store.value(drawn.user_B, drawn.item_BN, lists)
    for effect in ("fatigue", "complement", "contrast", "position"):
        other = Store(
            Config(**({name: getattr(SMALL, name) for name in SMALL.__struct_fields__} | {effect: 0.0}))
        )
        assert (other.value(drawn.user_B, drawn.item_BN, lists) - full).abs().max() > 1e-3, effect


def test_conversion_and_value_follow_a_click(store: Store) -> None:
    drawn = store.requests(5, 1)
    u, i, lists = drawn.user_B, drawn.item_BN, drawn.logged_BL[:, None]
    click, conversion, value = (
        store.expected_feedback(u, i, lists, kind) for kind in ("click", "conversion", "value")
    )
    price = store._world.log_price_I[i].gather(1, drawn.logged_BL).exp()[:, None]
    assert (conversion < click).all()
    torch.testing.assert_close(value, conversion * price)
    mixed = store.value(u, i, lists, {"click": 1.0, "value": 0.5})
    torch.testing.assert_close(mixed, (click + 0.5 * value).sum(dim=2))


def test_drawn_feedback_has_the_expected_means() -> None:
    store = Store(SMALL)
    drawn = store.requests(1, 5)
    copies = 20_000
    u, i, order = (
        drawn.user_B.expand(copies),
        drawn.item_BN.expand(copies, -1),
        drawn.logged_BL.expand(copies, -1),
    )
    got = store.sample(u, i, order, seed=9)
    for kind in ("click", "conversion", "value"):
        mean = store.expected_feedback(drawn.user_B, drawn.item_BN, drawn.logged_BL[:, None], kind)[0, 0]
        sample = getattr(got, kind).double()
        error = sample.std(dim=0) / copies**0.5
        assert ((sample.mean(dim=0) - mean).abs() < 4 * error + 1e-9).all(), kind
    assert ((got.conversion <= got.click) & ((got.value > 0) == (got.conversion > 0))).all()


def test_a_mask_cuts_the_end_of_a_list(store: Store) -> None:
    drawn = store.requests(3, 2)
    mask = torch.tensor([True, True, False, False]).expand(3, 1, 4)
    cut = store.value(drawn.user_B, drawn.item_BN, drawn.logged_BL[:, None], mask_BGL=mask)
    short = store.value(drawn.user_B, drawn.item_BN, drawn.logged_BL[:, None, :2])
    torch.testing.assert_close(cut, short)


def test_numbers_depend_on_the_seed_and_nothing_else() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        draws_one, found_one = _numbers(batch=64)
        torch.set_num_threads(2)
        draws_two, found_two = _numbers(batch=7)
    finally:
        torch.set_num_threads(before)
    for left, right in zip(draws_one, draws_two, strict=True):
        assert torch.equal(left, right)
    for left, right in zip(found_one, found_two, strict=True):  # the order of additions may move the last bit
        torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


def _numbers(batch: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    store = Store(SMALL)
    drawn = store.requests(64, 11)
    feedback = store.sample(drawn.user_B, drawn.item_BN, drawn.logged_BL, 4)
    parts = []
    for rows in torch.arange(64).split(batch):
        u, i = drawn.user_B[rows], drawn.item_BN[rows]
        order, value = store.optimum(u, i)
        parts.append((order, value, store.expected_feedback(u, i, order[:, None])[:, 0]))
    draws = [drawn.user_B, drawn.item_BN, drawn.score_BN, drawn.logged_BL, *vars(feedback).values()]
    return draws, [torch.cat(part) for part in zip(*parts, strict=True)]


def test_a_longer_draw_begins_with_the_shorter_one(store: Store) -> None:
    short, long = store.requests(10, 8), store.requests(30, 8)
    for name, table in vars(short).items():
        assert torch.equal(table, getattr(long, name)[:10]), name
    assert not torch.equal(store.requests(10, 9).item_BN, short.item_BN)


def test_worlds_differ_by_world_seed_and_not_by_size() -> None:
    base, other, larger = (
        Store(Config(users=40, items=n, world_seed=s))._world for n, s in ((60, 0), (60, 1), (90, 0))
    )
    assert not torch.equal(base.taste_UD, other.taste_UD)
    assert torch.equal(base.taste_UD, larger.taste_UD)
    assert torch.equal(base.quality_I, larger.quality_I[:60])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"candidates": 5}, "length <= candidates"),
        ({"pool": 8, "candidates": 9}, "pool"),
        ({"partners": 10}, "partners"),
        ({"fatigue": -1.0}, "fatigue"),
        ({"users": 0}, "users"),
        ({"category_share": 1.5}, "category_share"),
    ],
)
def test_impossible_stores_are_refused(change: dict[str, float], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        Store(Config(**change))


def test_unknown_kinds_and_negative_weights_are_refused(store: Store) -> None:
    drawn = store.requests(2, 0)
    for kind in ("clicks", {"click": -1.0}, {}):
        with pytest.raises(ConfigError, match="click, conversion, value"):
            store.value(drawn.user_B, drawn.item_BN, drawn.logged_BL[:, None], kind)


def test_ids_lead_back_to_rows(store: Store) -> None:
    users, items = store.users_frame(), store.items_frame()
    assert users.height == 40
    assert items.height == 60
    assert torch.equal(store.user_index(users["user_id"].to_list()), torch.arange(40))
    assert store.item_index(["i7", "i0"]).tolist() == [7, 0]
    for bad in ("i60", "u3", "i-1", "x", "i3x"):
        with pytest.raises(DataError, match="i0 to i59"):
            store.item_index(["i1", bad])


def test_observed_features_carry_the_documented_noise() -> None:
    store = Store()
    users, items, w = store.users_frame(), store.items_frame(), store._world
    assert (users["taste_0"].to_torch() - w.taste_UD[:, 0]).std() == pytest.approx(0.1, rel=0.1)
    assert (users["variety"].to_torch() - w.variety_U).std() == pytest.approx(0.1, rel=0.1)
    assert (items["quality"].to_torch() - w.quality_I).std() == pytest.approx(0.1, rel=0.1)
    assert items["vector_3"].to_list() == w.item_ID[:, 3].tolist()
    assert items["category"].to_list() == [f"c{k}" for k in w.category_I.tolist()]
