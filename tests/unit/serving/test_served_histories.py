"""A server of a ranker that reads histories: over the wire its lists are those of the prepared data and of `slatewise rank`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from served import load_tables, served_log
from slatewise.api import prepare
from slatewise.data.check import normalise
from slatewise.data.log_files import read_frame
from slatewise.data.prepared import PreparedData
from slatewise.export.write import export
from slatewise.policies import decode
from slatewise.ranker import Ranker, make_ranker
from slatewise.serving.app import create
from slatewise.serving.features import open_store
from slatewise.serving.settings import ArmSpec, Settings

HISTORY = 6


@pytest.fixture(
    scope="module",
    params=[(150, "eager"), pytest.param((1500, "onnxruntime"), marks=pytest.mark.slow)],
    ids=str,
)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    count, backend = request.param
    return World(tmp_path_factory.mktemp("world"), count, backend)


class World:
    """A log with tables and interactions beside it, prepared, and a ranker of it with random weights."""

    def __init__(self, folder: Path, count: int, backend: str) -> None:
        self.folder = folder
        self.source = served_log(folder / "log", interactions=True, count=count)
        self.data: PreparedData = prepare(
            "parquet", folder / "data", source=self.source, protocol_options={"history": HISTORY}
        )
        self.requests = normalise(read_frame(self.source / "requests.parquet"))
        self.ranker = _ranker(self.data)
        self.artifact = export(self.ranker, folder / "artifact", backends=[backend]).path
        store = open_store(str(folder / "features.db"))
        load_tables(store, self.source)
        store.close()

    def serve(self, **changes: Any) -> TestClient:
        arms = (ArmSpec(name="main", path=str(self.artifact)),)
        return TestClient(create(Settings(arms=arms, watch_seconds=0.0, **changes)))

    def bodies(self) -> list[dict[str, Any]]:
        return [_body(row) for row in self.requests.iter_rows(named=True)]

    def prepared(self) -> list[list[str]]:
        """The ranker's lists of the prepared requests, histories included, in the order of the log."""
        lists = []
        for split in ("train", "validation", "test"):
            batch = self.data.split(split).batch(slice(None))
            ranking = self.ranker.rank_batch(batch)
            lists += [
                order[mask].tolist() for order, mask in zip(ranking.order_BL, ranking.mask_BL, strict=True)
            ]
        pairs = zip(self.requests["candidates"].to_list(), lists, strict=True)
        return [[items[at] for at in order] for items, order in pairs]


def _ranker(data: PreparedData) -> Ranker:
    torch.manual_seed(3)
    options = {"tower": {"width": 32}, "encoder_layers": 1, "heads": 2}
    policy = decode.Config(generator="autoregressive", options=options)
    ranker = make_ranker("example", policy, "decode", policy, {}, data, 0)
    for weight in ranker.policy.parameters():
        weight.data *= 3.0  # far from uniform, so that what is read shows in the lists
    return ranker


def _body(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "request_id": row["request_id"],
        "user_id": row["user_id"],
        "timestamp": row["timestamp"],
        "candidates": row["candidates"],
        "scores": row["candidate_scores"],
        "features": {"price": row["candidate_price"]},
        "context": {name: row[f"context_{name}"] for name in ("hour", "device", "load")},
    }


def lists(client: TestClient, bodies: list[dict[str, Any]]) -> list[list[str]]:
    found = []
    for start in range(0, len(bodies), 50):
        answer = client.post("/v1/rank", json=bodies[start : start + 50])
        assert answer.status_code == 200, answer.text
        found += [one["items"] for one in answer.json()]
    return found


def test_with_a_feature_store_lists_are_those_of_the_prepared_data(world: World) -> None:
    """Users, items and histories come from the store alone."""
    wanted = world.prepared()
    with world.serve(features=str(world.folder / "features.db")) as client:
        assert lists(client, world.bodies()) == wanted
    with world.serve() as client:
        without = lists(client, world.bodies())
    assert sum(map(list.__ne__, without, wanted)) > len(wanted) / 10  # histories matter to this ranker


def test_histories_that_are_sent_along_are_those_of_slatewise_rank(world: World) -> None:
    history = [
        {"history": [f"i{(3 * at + place) % 45}" for place in range(at % 9)], "feedback": [0.5 * place for place in range(at % 9)]}
        for at in range(world.requests.height)
    ]  # fmt: skip
    table = world.requests.with_columns(
        history=pl.Series([one["history"] for one in history], dtype=pl.List(pl.String)),
        history_feedback=pl.Series([one["feedback"] for one in history], dtype=pl.List(pl.Float64)),
    )
    ranked = world.ranker.rank(table).group_by("request_id", maintain_order=True).agg("item_id")
    sent = [
        body | {"history": one["history"], "history_feedback": one["feedback"]}
        for body, one in zip(world.bodies(), history, strict=True)
    ]
    with world.serve() as client:
        assert lists(client, sent) == ranked["item_id"].to_list()


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[TestClient]:
    with world.serve(features=str(world.folder / "features.db")) as client:
        yield client


IDS = st.one_of(st.sampled_from(["i1", "i2"]), st.integers(-(2**70), 2**70), st.text(max_size=4))


@hypothesis_settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    history=st.lists(IDS, min_size=2, max_size=2),
    feedback=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2),
    times=st.lists(st.integers(-(2**70), 2**70), min_size=2, max_size=2),
)
def test_no_history_makes_it_fail(
    client: TestClient, history: list[Any], feedback: list[float], times: list[int]
) -> None:
    body = {
        "candidates": ["i1", "i2", "i3"],
        "user_id": "u1",
        "history": history,
        "history_feedback": feedback,
    }
    for more in ({}, {"history_timestamp": times}):
        answer = client.post("/v1/rank", content=json.dumps(body | more).encode(errors="surrogatepass"))
        assert answer.status_code in (200, 400, 422), answer.text
        if answer.status_code == 422:
            assert answer.json()["error"]["field"].startswith("history")
        if answer.status_code == 200:
            assert all(map(math.isfinite, answer.json()["scores"]))
