"""The store over time: moments, arrivals, content, and the closed forms of store-v1 on rows of sessions."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from slatewise.config import build, to_plain
from slatewise.errors import ConfigError, DataError
from slatewise.simulators import build_truth
from slatewise.simulators._moments import DAY, PAUSE
from slatewise.simulators._sampling import START
from slatewise.simulators.env import StoreEnv
from slatewise.simulators.store_events import Config, EventStore
from slatewise.simulators.store_v1 import Store

SMALL = {"users": 30, "items": 200, "categories": 6, "pool": 20, "candidates": 7, "length": 3, "sessions": 8}


def store(**changes: Any) -> EventStore:
    return EventStore(build(Config, SMALL | changes))


@pytest.fixture(scope="module")
def world() -> EventStore:
    return store()


def test_each_user_has_one_session_in_each_slot(world: EventStore) -> None:
    slot = 60 * DAY / 8
    number = (world._moments.time_US - START) // slot
    assert (number == np.arange(8)).all()
    assert (world._moments.time_US - START - number * slot >= 2 * PAUSE).all()


def test_rows_at_is_the_last_session_that_has_begun(world: EventStore) -> None:
    time_US = world._moments.time_US
    user = torch.tensor([4, 4, 4, 9])
    moments = [time_US[4, 0], time_US[4, 3] + 5, time_US[4, 3] - 1, 2 * time_US.max()]
    assert world.rows_at(user, torch.tensor(np.array(moments))).tolist() == [32, 35, 34, 79]
    with pytest.raises(DataError, match="the store knows user u4 from"):
        world.rows_at(user, torch.zeros(4, dtype=torch.long))


def test_store_v1_knows_no_time() -> None:
    user = torch.tensor([3, 1])
    assert torch.equal(
        Store(build(Config.__base__, {"users": 5})).rows_at(user, torch.zeros(2, dtype=torch.long)), user
    )


def test_affinity_by_hand(world: EventStore) -> None:
    c, w, m = world.config, world._people, world._moments
    user, session, item = 11, 5, 17
    taste = m.taste_USD[user, session]
    by_hand = (
        c.bias
        + c.affinity * float(taste @ w.item_ID[item].numpy()) / 8**0.5
        + c.quality * float(w.quality_I[item])
        + c.intent * (m.intent_US[user, session] == int(w.category_I[item]))
        + c.page * m.page_PK[m.page_US[user, session], int(w.category_I[item])]
    )
    if not m.organic_I[item]:
        by_hand -= c.price * float(w.price_sense_U[user] * w.log_price_I[item])
    row = torch.tensor([user * 8 + session])
    assert float(world.affinity(row, torch.tensor([[item]]))) == pytest.approx(by_hand, abs=1e-12)


def test_without_what_changes_it_is_the_store_of_store_v1() -> None:
    """No drift, no intent, no pages, no content: each session answers as the user of store-v1 does."""
    still = {"drift": 0.0, "intent": 0.0, "page": 0.0, "organic": 0.0, "arrivals": 0.0, "content": 0}
    events = store(**still)
    plain = {
        name: value for name, value in to_plain(events.config).items() if name in to_plain(Store().config)
    }
    base = Store(build(type(Store().config), plain))
    drawn = events.requests(40, 1)
    users = drawn.user_B // 8
    lists = drawn.logged_BL[:, None]
    for kind in ("click", "conversion", "value"):
        ours = events.value(drawn.user_B, drawn.item_BN, lists, kind)
        assert torch.equal(ours, base.value(users, drawn.item_BN, lists, kind))
    assert torch.equal(events.optimum(drawn.user_B, drawn.item_BN)[0], base.optimum(users, drawn.item_BN)[0])


def test_taste_walks_and_keeps_its_variance() -> None:
    taste = store(users=3000, drift=0.2)._moments.taste_USD
    near, far = (np.corrcoef(taste[:, 0].ravel(), taste[:, s].ravel())[0, 1] for s in (1, 7))
    assert near == pytest.approx(0.8**0.5, abs=0.02)
    assert far == pytest.approx(0.8**3.5, abs=0.02)
    assert taste.var(axis=(0, 2)) == pytest.approx(np.ones(8), abs=0.05)


def test_intents_stay_move_to_partners_or_jump() -> None:
    world = store(users=3000)
    before, after = world._moments.intent_US[:, :-1].ravel(), world._moments.intent_US[:, 1:].ravel()
    partner = world._people.partner_KK.numpy()[before, after]
    same = before == after
    assert same.mean() == pytest.approx(0.5 + 0.1 / 6, abs=0.01)
    assert partner.mean() == pytest.approx(0.4 + 0.1 * 2 / 6, abs=0.01)


def test_items_are_shown_only_after_they_arrived(world: EventStore) -> None:
    drawn = world.requests(world.sessions, 3)
    arrival = torch.from_numpy(world._moments.arrival_I)
    assert (arrival[drawn.item_BN] <= drawn.timestamp_B[:, None]).all()
    assert not world._moments.organic_I[drawn.item_BN.numpy()].any()
    assert (drawn.timestamp_B.diff() >= 0).all()
    come = world._moments.arrival_I > START
    assert come.sum() == 48  # 30 % of 160
    last = START + int(np.ceil(7 / 8 * 60 * DAY))
    assert (world._moments.arrival_I[come] == last).sum() == 16  # 33 % of them
    assert (world._moments.arrival_I[come] <= last).all()


def test_content_is_clicked_and_never_sold(world: EventStore) -> None:
    content = world.content_frame(5)
    assert content.height == world.sessions * 2
    organic = world.items_frame().filter("organic")
    assert set(content["item_id"]) <= set(organic["item_id"])
    assert organic["log_price"].null_count() == organic.height == 40
    assert 0 < content["feedback_click"].sum() < content.height
    assert content["feedback_conversion"].sum() == content["feedback_value"].sum() == 0
    rows = world.rows_at(
        world.user_index(content["user_id"].to_list()), torch.tensor(content["timestamp"] + 2 * PAUSE)
    )
    prob = torch.sigmoid(world.affinity(rows, world.item_index(content["item_id"].to_list())[:, None]))
    assert content["feedback_click"].mean() == pytest.approx(float(prob.mean()), abs=0.06)
    sold = world.alone(rows[:1], world.item_index(organic["item_id"].to_list())[None], "conversion")
    assert float(sold.abs().sum()) == 0


def test_a_list_of_one_is_worth_what_its_item_is_alone(world: EventStore) -> None:
    rows = torch.tensor([3, 100])
    for kind in ("click", "value", {"click": 1.0, "conversion": 2.0}):
        every = world.alone(rows, kind=kind)
        assert every.shape == (2, 200)
        items = torch.tensor([[5, 9, 80], [1, 2, 3]])
        value = world.value(rows, items, torch.arange(3)[None, :, None].expand(2, -1, -1), kind)
        torch.testing.assert_close(value, every.gather(1, items))
        torch.testing.assert_close(world.alone(rows, items, kind), value)


def test_the_same_config_is_the_same_world_and_the_log_seed_leaves_it_alone(world: EventStore) -> None:
    again = build_truth({"simulator": "store-events", **to_plain(world.config)})
    assert isinstance(again, EventStore)
    first, second = world.requests(50, 7), again.requests(50, 7)
    for name in ("user_B", "item_BN", "score_BN", "logged_BL", "timestamp_B"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    other = world.requests(50, 8)
    assert torch.equal(other.user_B, first.user_B)
    assert not torch.equal(other.item_BN, first.item_BN)
    elsewhere = store(world_seed=1)
    assert not np.array_equal(elsewhere._moments.intent_US, world._moments.intent_US)


def test_tables_and_requests_are_in_ids(world: EventStore) -> None:
    assert world.users_frame().height == 30
    drawn = world.requests(6, 0, start=10)
    frame = world.log_frame(drawn, 1, first=10)
    assert frame["user_id"].to_list() == [f"u{row // 8}" for row in drawn.user_B.tolist()]
    assert frame["context_page"].str.contains(r"^p[0-5]$").all()
    assert frame["request_id"].to_list() == [f"r{number}" for number in range(10, 16)]
    page = world._moments.page_US.ravel()[drawn.user_B]
    assert frame["context_page"].to_list() == [f"p{number}" for number in page]


def test_the_closed_loop_walks_through_the_sessions(world: EventStore) -> None:
    env = StoreEnv(world, batch_size=20)
    seen, _ = env.reset()
    after, *_ = env.step(torch.arange(3).expand(20, 3))
    assert isinstance(after, pl.DataFrame)
    assert after["timestamp"].min() >= seen["timestamp"].max()  # type: ignore[operator]
    assert "context_page" in after.columns


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sessions": 0}, "sessions is 0"),
        ({"organic": 1.5}, "organic is 1.5"),
        ({"stay": 0.8, "move": 0.8}, r"stay \+ move is 1.6"),
        ({"days": 0.001}, "sessions do not fit into"),
        ({"pool": 21}, "8 sessions with a pool of 21 items each, none twice, need more than the 160"),
        ({"organic": 0.05}, "but 10 are content"),
        ({"pages": 0}, "pages is 0"),
        ({"length": 9}, "length <= candidates"),
    ],
)
def test_what_makes_no_store_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        store(**change)


def test_a_pool_with_too_few_arrived_items_is_refused() -> None:
    with pytest.raises(ConfigError, match="a session's pool of 20 items has only"):
        store(arrivals=0.9).requests(30, 0)


def test_no_item_is_offered_to_a_user_in_two_sessions(world: EventStore) -> None:
    drawn = world.requests(world.sessions, 3)
    offered = torch.stack([drawn.user_B // 8 * 200 + item for item in drawn.item_BN.T])
    assert len(offered.unique()) == offered.numel()
    assert len(drawn.item_BN.unique()) > 155  # over all users everything comes up


def test_sessions_beyond_the_last_are_refused(world: EventStore) -> None:
    with pytest.raises(ConfigError, match="the store has 240 sessions; 10 from number 235 on"):
        world.requests(10, 0, start=235)
