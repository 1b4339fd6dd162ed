"""The closed loop: requests out, lists in, feedback back."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from slatewise.errors import DataError
from slatewise.simulators.env import StoreEnv
from slatewise.simulators.store_v1 import Config, Store


@pytest.fixture(scope="module")
def store() -> Store:
    return Store(Config(users=50, items=80))


def test_a_step_gives_feedback_and_the_next_requests(store: Store) -> None:
    env = StoreEnv(store, batch_size=8, seed=1, batches=2)
    seen, info = env.reset()
    assert info == {}
    assert seen.columns == ["request_id", "user_id", "timestamp", "candidates", "candidate_scores"]
    lists = torch.arange(6).expand(8, 6)
    after, reward, terminated, truncated, info = env.step(lists)
    assert (terminated, truncated) == (False, False)
    assert torch.equal(reward, info["feedback"].click.sum(dim=1))
    user, item = (
        store.user_index(seen["user_id"].to_list()),
        store.item_index(seen["candidates"].explode().to_list()),
    )
    expected = store.value(user, item.view(8, 12), lists[:, None])[:, 0]
    torch.testing.assert_close(info["expected_value"], expected)
    assert info["log"]["exposed"].to_list() == [row[:6] for row in seen["candidates"].to_list()]
    assert info["log"]["feedback_click"].to_list() == info["feedback"].click.tolist()
    assert set(after["request_id"]).isdisjoint(seen["request_id"])
    assert after["timestamp"].min() > seen["timestamp"].max()  # type: ignore[operator]
    assert env.step(lists)[3] is True


def test_ids_and_indices_are_the_same_lists(store: Store) -> None:
    by_index, by_id = StoreEnv(store, 5, seed=2, kind="value"), StoreEnv(store, 5, seed=2, kind="value")
    seen = by_id.reset()[0]
    by_index.reset()
    ids = [[row[3], row[0], row[7]] for row in seen["candidates"].to_list()]
    left, right = by_index.step(torch.tensor([3, 0, 7]).expand(5, 3)), by_id.step(ids)
    assert torch.equal(left[1], right[1])
    assert left[4]["log"].equals(right[4]["log"])


def test_the_seed_decides_everything(store: Store) -> None:
    def loop(seed: int) -> list[pl.DataFrame]:
        env = StoreEnv(store, 6)
        env.reset(seed)
        return [env.step(torch.arange(4).expand(6, 4))[4]["log"] for _ in range(3)]

    assert pl.concat(loop(3)).equals(pl.concat(loop(3)))
    assert not pl.concat(loop(3)).equals(pl.concat(loop(4)))


def test_better_lists_earn_more(store: Store) -> None:
    env = StoreEnv(store, 400, seed=5)
    seen = env.reset()[0]
    user = store.user_index(seen["user_id"].to_list())
    item = store.item_index(seen["candidates"].explode().to_list()).view(400, 12)
    best = env.step(store.optimum(user, item)[0])[1].mean()
    env.reset()
    worst = env.step(torch.arange(6).expand(400, 6))[1].mean()
    assert best > 1.3 * worst


def test_wrong_lists_are_refused(store: Store) -> None:
    env = StoreEnv(store, 3)
    with pytest.raises(DataError, match="reset"):
        env.step(torch.arange(6).expand(3, 6))
    seen = env.reset()[0]
    for lists in (torch.zeros(3, 2, dtype=torch.long), torch.full((3, 1), 12), torch.full((3, 1), -1)):
        with pytest.raises(DataError, match="distinct"):
            env.step(lists)
    for wrong in (torch.arange(6).expand(2, 6), torch.rand(3, 6), torch.arange(13).expand(3, 13)):
        with pytest.raises(DataError, match="1 to 12"):
            env.step(wrong)
    rows = seen["candidates"].to_list()
    stranger = next(f"i{k}" for k in range(80) if f"i{k}" not in rows[1])
    with pytest.raises(DataError, match=f"row 1: item '{stranger}'"):
        env.step([rows[0][:2], [rows[1][0], stranger], rows[2][:2]])
    with pytest.raises(DataError, match="one length"):
        env.step([rows[0][:2], rows[1][:3], rows[2][:2]])
