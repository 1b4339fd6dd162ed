"""The log of the store over time: interactions are its lists and its content, and the truth explains them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from slatewise.config import build
from slatewise.data.datasets import store_events
from slatewise.data.log import Log
from slatewise.data.prepared import load_data
from slatewise.evaluation.truth import Truth
from slatewise.protocols.prepare import prepare
from slatewise.simulators import build_truth
from slatewise.testing.fixtures import EVENTS


@pytest.fixture(scope="module")
def log() -> Log:
    return store_events.load(build(store_events.Config, EVENTS), None)


def test_interactions_are_the_exploded_lists_and_the_content(log: Log) -> None:
    assert log.requests is not None
    assert log.interactions is not None
    assert log.items is not None
    assert log.interactions["timestamp"].is_sorted()
    assert log.interactions.height == 400 * (4 + 2)
    content = log.items.filter("organic")["item_id"]
    shown = log.interactions.filter(~pl.col("item_id").is_in(content.implode()))
    kinds = [f"feedback_{kind}" for kind in ("click", "conversion", "value")]
    lists = log.requests.select(
        "user_id", "timestamp", "context_page", pl.col("exposed").alias("item_id"), *kinds
    )
    lists = lists.explode("item_id", *kinds).select(shown.columns)
    assert shown.equals(lists)
    assert (shown["feedback_click"] >= shown["feedback_conversion"]).all()
    assert ((shown["feedback_value"] > 0) == (shown["feedback_conversion"] > 0)).all()


def test_the_truth_explains_the_clicks_of_every_session(log: Log) -> None:
    assert log.requests is not None
    world = build_truth(dict(log.truth or {}))
    user = world.user_index(log.requests["user_id"].to_list())
    rows = world.rows_at(user, torch.tensor(log.requests["timestamp"]))
    item = world.item_index(log.requests["exposed"].explode().to_list()).view(-1, 4)
    prob = world.expected_feedback(rows, item, torch.arange(4).expand(len(user), 1, 4))[:, 0].numpy()
    click = np.array(log.requests["feedback_click"].to_list())
    assert abs((click - prob).mean()) < 4 * np.sqrt((prob * (1 - prob)).sum()) / prob.size
    assert np.corrcoef(click.ravel(), prob.ravel())[0, 1] > 0.5
    other = world.expected_feedback(rows.roll(1), item, torch.arange(4).expand(len(user), 1, 4))[:, 0]
    assert np.corrcoef(click.ravel(), other.numpy().ravel())[0, 1] < 0.3  # the state matters


def test_the_log_seed_changes_the_log_and_not_the_store(log: Log) -> None:
    other = store_events.load(build(store_events.Config, EVENTS | {"seed": 1}), None)
    assert other.truth == log.truth
    assert other.users is not None
    assert other.users.equals(log.users)
    assert other.requests is not None
    assert log.requests is not None
    assert other.requests.select("user_id", "timestamp", "context_page").equals(
        log.requests.select("user_id", "timestamp", "context_page")
    )
    assert not other.requests["exposed"].equals(log.requests["exposed"])


def test_lists_of_the_log_can_be_ranked_and_graded(tmp_path: Any) -> None:
    prepare("store-events", "log-v1", None, tmp_path / "data", dataset_options=EVENTS, protocol_options={})
    data = load_data(tmp_path / "data")
    truth, batch = Truth(data), data.split("test").batch(slice(0, 40))
    assert (batch.time_B > 0).all()
    best = truth.optimum(batch, "test").value_B
    logged = truth.value(batch, batch.exposed_BE[:, None])[:, 0]
    assert (logged <= best + 1e-9).all()
    assert batch.history_organic_BH.any()
    past = batch.history_time_BH[batch.history_mask_BH]
    assert (past > 0).all()
    catalogue = truth.alone(batch)
    assert catalogue.shape == (40, data.schema.items)
    assert not catalogue[:, 0].any()
    assert torch.equal(truth.alone(batch, batch.candidates_BN), catalogue.gather(1, batch.candidates_BN))
    first = truth.value(batch, torch.arange(8).expand(40, -1)[..., None])
    torch.testing.assert_close(first, catalogue.gather(1, batch.candidates_BN))
    sales = truth.alone(batch, kind={"conversion": 1.0})
    assert (sales <= catalogue + 1e-12).all()
