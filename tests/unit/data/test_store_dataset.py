"""The simulated store's log, its protocol, and the way into prepared data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from slatewise.config import build, to_plain
from slatewise.data.datasets import store
from slatewise.data.log import Log
from slatewise.data.prepared import load_data
from slatewise.errors import ConfigError, DataError
from slatewise.protocols import store_v1
from slatewise.protocols.prepare import prepare
from slatewise.simulators import build_truth

SMALL = store.Config(users=60, items=90, requests=300, validation=40, test=30)


def changed(**changes: Any) -> store.Config:
    return build(store.Config, to_plain(SMALL) | changes)


@pytest.fixture(scope="module")
def log() -> Log:
    return store.load(SMALL, None)


def requests_of(log: Log) -> pl.DataFrame:
    assert log.requests is not None
    return log.requests


def test_the_log_keeps_its_schema(log: Log) -> None:
    requests = requests_of(log)
    assert requests["request_id"].is_unique().all()
    assert requests["timestamp"].is_sorted()
    assert requests["timestamp"].is_unique().all()
    assert (requests["candidates"].list.n_unique() == 12).all()
    assert (requests["candidate_scores"].list.len() == 12).all()
    assert (requests["exposed"].list.n_unique() == 6).all()
    assert requests.select(pl.col("exposed").list.set_difference("candidates").list.len().max()).item() == 0
    for kind in ("click", "conversion", "value"):
        assert (requests[f"feedback_{kind}"].list.len() == 6).all()
    assert requests["propensity"].is_between(0, 1, closed="right").all()


def test_splits_follow_one_another_in_time(log: Log) -> None:
    runs = requests_of(log)["split"].rle()
    assert runs.struct.field("value").to_list() == ["train", "validation", "test"]
    assert runs.struct.field("len").to_list() == [300, 40, 30]


def test_a_split_does_not_depend_on_the_others_sizes(log: Log) -> None:
    other = requests_of(store.load(changed(requests=50, validation=5), None))
    columns = ["user_id", "candidates", "exposed", "feedback_click", "propensity"]
    left, right = (
        frame.filter(pl.col("split") == "test").select(columns) for frame in (other, requests_of(log))
    )
    assert left.equals(right)


def test_the_seed_changes_the_log_and_not_the_store(log: Log) -> None:
    other = store.load(changed(seed=1), None)
    assert other.users is not None
    assert other.users.equals(log.users)
    assert other.truth == log.truth
    assert not requests_of(other)["exposed"].equals(requests_of(log)["exposed"])
    assert requests_of(store.load(SMALL, None)).equals(requests_of(log))


def test_the_truth_explains_the_clicks() -> None:
    log = store.load(changed(requests=4000), None)
    requests = requests_of(log)
    world = build_truth(dict(log.truth or {}))
    user = world.user_index(requests["user_id"].to_list())
    item = world.item_index(requests["exposed"].explode().to_list()).view(-1, 6)
    prob = world.expected_feedback(user, item, torch.arange(6).expand(len(user), 1, 6))[:, 0].numpy()
    click = np.array(requests["feedback_click"].to_list())
    assert abs((click - prob).mean()) < 4 * np.sqrt((prob * (1 - prob)).sum()) / prob.size
    assert np.corrcoef(click.ravel(), prob.ravel())[0, 1] > 0.4


def test_propensities_are_plackett_luce(log: Log) -> None:
    row = requests_of(log).row(5, named=True)
    logits = np.array(row["candidate_scores"]) / SMALL.logging_noise
    left = dict(zip(row["candidates"], np.exp(logits), strict=True))
    probability = 1.0
    for item in row["exposed"]:
        probability *= left[item] / sum(left.values())
        del left[item]
    assert row["propensity"] == pytest.approx(probability, rel=1e-9)


def test_logged_lists_are_drawn_as_their_propensities_say() -> None:
    """Inverse propensities of lists of length 1 average to the number of candidates."""
    requests = requests_of(store.load(changed(requests=4000, candidates=3, length=1), None))
    weight = 1 / requests["propensity"].to_numpy()
    assert weight.mean() == pytest.approx(3, abs=4 * weight.std() / len(weight) ** 0.5)


def test_the_candidates_order_tells_nothing(log: Log) -> None:
    scores = np.array(requests_of(log)["candidate_scores"].to_list())
    assert len(set(scores.argmax(axis=1).tolist())) == 12
    assert abs(np.corrcoef(np.tile(np.arange(12), len(scores)), scores.ravel())[0, 1]) < 0.06


def test_the_protocol_passes_the_log_on(log: Log) -> None:
    lists = store_v1.build(store_v1.Config(length=4, history=3), log, 0)
    assert lists.requests.equals(requests_of(log))
    assert (lists.length, lists.history, lists.target) == (4, 3, {"click": 1.0})
    assert lists.truth == log.truth
    assert not lists.unexposed_is_negative


def test_the_protocol_refuses_what_it_cannot_cut(log: Log) -> None:
    with pytest.raises(ConfigError, match="1 to 6"):
        store_v1.build(store_v1.Config(length=7), log, 0)
    with pytest.raises(DataError, match="simulated store"):
        store_v1.build(store_v1.Config(), Log(requests=requests_of(log)), 0)
    with pytest.raises(ConfigError, match="validation is 0"):
        store.load(changed(validation=0), None)
    with pytest.raises(ConfigError, match="candidates"):
        build(store.Config, {"candidats": 50})


def test_prepared_data_lead_back_to_the_truth(tmp_path: Path, log: Log) -> None:
    prepare(
        "store",
        None,
        None,
        tmp_path / "data",
        dataset_options=to_plain(SMALL),
        protocol_options={"history": 10},
    )
    data = load_data(tmp_path / "data")
    assert data.manifest.truth == log.truth
    assert (data.schema.candidates, data.schema.length, data.schema.history) == (12, 6, 10)
    test = data.split("test").batch(slice(0, 30))
    assert test.size == 30
    assert test.history_mask_BH.any(dim=1).float().mean() > 0.9
    logged = requests_of(log).filter(pl.col("split") == "test")
    clicks = logged["feedback_click"].to_list()
    assert test.gain_BE(data.manifest.target_weights()).tolist() == clicks
    assert np.allclose(
        np.exp(np.log(data.split("test").columns["propensity"])), logged["propensity"].to_numpy()
    )


def test_wide_requests() -> None:
    log = store.load(changed(candidates=50, requests=20, validation=1, test=1), None)
    assert (requests_of(log)["candidates"].list.n_unique() == 50).all()
