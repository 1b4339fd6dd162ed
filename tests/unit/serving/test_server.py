"""The server over its wire, in process: lists are the ranker's own, and nothing that is sent makes it fail."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from slatewise.config import replace
from slatewise.errors import ConfigError, RequestError, UnavailableError
from slatewise.export.write import export
from slatewise.serving import batcher as batching
from slatewise.serving import models, numbers
from slatewise.serving.app import create
from slatewise.serving.batcher import BatchConfig, Batcher, Job
from slatewise.serving.fleet import Fleet
from slatewise.serving.keys import Keys, add_key
from slatewise.serving.log import open_log
from slatewise.serving.log.commit import CommitConfig
from slatewise.serving.numbers import Numbers
from slatewise.serving.recorder import Recorder
from slatewise.serving.records import Feedback
from slatewise.serving.rules import Rule
from slatewise.serving.service import Service
from slatewise.serving.settings import ArmSpec, Settings, read_arm
from slatewise.serving.wire import Limits, RankRequest
from slatewise.simulators.store_v1 import Config as StoreConfig
from slatewise.simulators.store_v1 import Store
from slatewise.testing.backend import example_artifact, example_ranker
from slatewise.testing.fixtures import STORE

ITEMS = [f"i{at}" for at in range(10)]
ASKED = {"request_id": "r1", "user_id": "u1", "candidates": ITEMS, "scores": [at / 10 for at in range(10)]}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example ranker, in a folder that nobody changes."""
    return example_artifact("eager").path


def settings(artifact: Path, **changes: Any) -> Settings:
    plain = {"arms": (ArmSpec(name="main", path=str(artifact)),), "watch_seconds": 0.0}
    return Settings(**(plain | changes))


@pytest.fixture
def client(artifact: Path) -> Iterator[TestClient]:
    with TestClient(create(settings(artifact))) as client:
        yield client


def requests_table(count: int) -> pl.DataFrame:
    known = {name: value for name, value in STORE.items() if name in StoreConfig.__struct_fields__}
    store = Store(StoreConfig(**known))
    return store.requests_frame(store.requests(count, seed=5))


def bodies(table: pl.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "request_id": str(row["request_id"]),
            "user_id": row["user_id"],
            "timestamp": row["timestamp"],
            "candidates": row["candidates"],
            "scores": row["candidate_scores"],
        }
        for row in table.iter_rows(named=True)
    ]


def test_lists_are_those_of_slatewise_rank(client: TestClient) -> None:
    """1,000 logged requests: alone, and many at once."""
    table = requests_table(1000)
    wanted = example_ranker().rank(table).group_by("request_id", maintain_order=True).agg("item_id")
    lists = dict(zip(wanted["request_id"].cast(pl.String), wanted["item_id"].to_list(), strict=True))
    asked = bodies(table)
    for start in range(0, 1000, 100):
        answers = client.post("/v1/rank", json=asked[start : start + 100]).json()
        assert [one["items"] for one in answers] == [lists[one["request_id"]] for one in answers]
    for body in asked[:50]:
        answer = client.post("/v1/rank", json=body).json()
        assert answer["items"] == lists[body["request_id"]]
        assert answer["ranker"] == "main"
        assert answer["model"].startswith("example-")
        assert answer["fallback"] is None
        assert answer["recorded"] == "no"
        assert answer["log_prob"] < 0
        assert len(answer["scores"]) == 4


def test_a_shorter_list_is_the_beginning_of_the_longer_one(client: TestClient) -> None:
    whole = client.post("/v1/rank", json=ASKED).json()
    short = client.post("/v1/rank", json=ASKED | {"length": 2}).json()
    assert short["items"] == whole["items"][:2]
    assert short["log_prob"] is None
    two = client.post("/v1/rank", json={"candidates": ["i3", "i1"]}).json()
    assert sorted(two["items"]) == ["i1", "i3"]
    assert len(two["request_id"]) == 32


def test_features_of_a_request_are_those_of_the_tables(client: TestClient) -> None:
    """Features that are sent along are what `slatewise rank` takes as tables."""
    rng, table = np.random.default_rng(0), requests_table(20)
    names = example_ranker().transform.items.features.numeric_names
    known = [name for name in names if name not in ("log_popularity",)]
    offered = table["candidates"].explode().unique().sort().to_list()[::2]
    items = {item: {name: float(rng.normal()) for name in known} for item in offered}
    frame = pl.DataFrame([{"item_id": item, **row} for item, row in items.items()])
    wanted = (
        example_ranker().rank(table, items=frame).group_by("request_id", maintain_order=True).agg("item_id")
    )
    plain = [client.post("/v1/rank", json=body).json()["items"] for body in bodies(table)]
    given = [client.post("/v1/rank", json=body | {"items": items}).json()["items"] for body in bodies(table)]
    assert given == wanted["item_id"].to_list()
    changed = [one != other for one, other in zip(given, plain, strict=True)]
    assert any(changed)
    wrong = client.post("/v1/rank", json=ASKED | {"items": {"i1": {known[0]: {"a": 1}}}})
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "items")
    in_any_order = {f"i{at}": dict.fromkeys(names, 1.0) for at, names in enumerate(permutations(known[:5]))}
    assert client.post("/v1/rank", json=ASKED | {"items": in_any_order}).status_code == 200


WRONG: list[tuple[Any, int, str]] = [
    ("{", 400, "body"),
    ('{"candidates": [NaN]}', 400, "body"),
    ("[" * 5000, 422, "[0]"),
    ("{}", 422, "body"),
    ({"candidates": []}, 422, "candidates"),
    ({"candidates": [1, 1]}, 422, "candidates[1]"),
    ({"candidates": [1, "1"]}, 422, "candidates[1]"),
    ({"candidates": [1.5]}, 422, "candidates[0]"),
    ({"candidates": [2**70]}, 422, "candidates[0]"),
    ({"candidates": ["a\0"]}, 422, "candidates[0]"),
    ({"candidates": ["a" * 600]}, 422, "candidates[0]"),
    ({"candidates": list(range(2000))}, 422, "candidates"),
    ({"candidates": [1], "candidate": 2}, 422, "body"),
    ({"candidates": [1, 2], "scores": [0.5]}, 422, "scores"),
    ({"candidates": [1, 2], "scores": [0.5, None]}, 422, "scores[1]"),
    ({"candidates": [1, 2], "features": {"price": [1]}}, 422, "features.price"),
    ({"candidates": [1, 2], "features": {"": [1, 2]}}, 422, "features"),
    ({"candidates": [1], "context": {"device": [1]}}, 422, "context[...]"),
    ({"candidates": [1], "items": {f"i{at}": {"a": 1} for at in range(1025)}}, 422, "items"),
    ({"candidates": [1], "items": {f"i{at}": {f"f{at}": 1} for at in range(33)}}, 422, "items"),
    ({"candidates": [1], "items": {"i1": {f"f{at}": 1 for at in range(257)}}}, 422, "items.i1"),
    ({"candidates": [1], "user": {f"f{at}": 1 for at in range(257)}}, 422, "user"),
    ({"candidates": [1], "length": 0}, 422, "length"),
    ({"candidates": [1], "length": 5}, 422, "length"),
    ({"candidates": [1], "deadline_ms": -1}, 422, "deadline_ms"),
    ({"candidates": [1], "timestamp": "soon"}, 422, "timestamp"),
    ({"candidates": [1], "timestamp": 1e300}, 422, "timestamp"),
    ({"candidates": [1], "history": [1], "history_feedback": [1, 2]}, 422, "history_feedback"),
    ({"candidates": [1], "history_timestamp": [1]}, 422, "history_timestamp"),
    ({"candidates": [1], "history": [1, 2], "history_timestamp": [1, 2**70]}, 422, "history_timestamp[1]"),
    ({"candidates": [1], "history": ["a", "b\0"]}, 422, "history[1]"),
    ({"candidates": [1], "request_id": ""}, 422, "request_id"),
    ([], 422, "body"),
    ([{"candidates": [1]}, {"candidates": [2, 2]}], 422, "[1].candidates[1]"),
    ([{"candidates": [1]}] * 300, 422, "body"),
    ({"candidates": [1], "user_id": "x" * 2_000_000}, 413, "body"),
]


@pytest.mark.parametrize(("body", "status", "field"), WRONG, ids=range(len(WRONG)))
def test_what_is_not_allowed_is_said_with_its_field(
    client: TestClient, body: Any, status: int, field: str
) -> None:
    answer = client.post("/v1/rank", content=body if isinstance(body, str) else json.dumps(body))
    assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)
    assert answer.json()["error"]["message"]


def test_feedback_that_is_not_allowed_is_said_with_its_field(artifact: Path, tmp_path: Path) -> None:
    event = {"request_id": "r1", "kind": "click", "position": 1}
    wrong: list[tuple[Any, str]] = [
        ([], "body"),
        ([event] * 10_001, "body"),
        ([event, event | {"request_id": ""}], "[1].request_id"),
        (event | {"timestamp": 2**70}, "timestamp"),
    ]
    with TestClient(create(settings(artifact, log=str(tmp_path / "log.db")))) as client:
        for body, field in wrong:
            answer = client.post("/v1/feedback", json=body)
            assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)


def test_times_of_events_are_read_as_those_of_requests(artifact: Path, tmp_path: Path) -> None:
    """Seconds, or microseconds: three days behind its list an event is late."""
    at = 1_700_000_000
    with TestClient(create(settings(artifact, log=str(tmp_path / "log.db"), wait_for_log=True))) as client:
        client.post("/v1/rank", json=ASKED | {"timestamp": at})
        event = {"request_id": "r1", "kind": "click", "position": 1}
        outcomes = [
            client.post("/v1/feedback", json=event | {"timestamp": time}).json()["outcome"]
            for time in (at + 60, (at + 60) * 1_000_000, at + 3 * 86400, (at + 4 * 86400) * 1_000_000)
        ]
    assert outcomes == ["accepted", "duplicate", "late", "late"]


def test_other_paths_and_methods_are_said(client: TestClient) -> None:
    assert client.get("/nowhere").json()["error"]["field"] == "path"
    wrong = client.get("/v1/rank")
    assert (wrong.status_code, wrong.json()["error"]["field"], wrong.headers["allow"]) == (
        405,
        "method",
        "POST",
    )
    feedback = client.post("/v1/feedback", json={"request_id": "r", "kind": "click", "position": 1})
    assert feedback.status_code == 422
    assert "no feedback log" in feedback.json()["error"]["message"]


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.just("\ud800"),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = [
    "candidates", "user_id", "request_id", "scores", "features", "context", "user", "items", "history", "history_feedback",
    "history_timestamp", "timestamp", "length", "deadline_ms", "record", "rules", "groups",
]  # fmt: skip
NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False))
IDS = st.one_of(st.sampled_from(ITEMS), st.integers(-(2**70), 2**70), st.text(max_size=4))
SMALL = st.one_of(st.none(), st.integers(-1, 12))
GROUP = st.sampled_from(["category", "brand", ""])
RULES = st.one_of(
    st.fixed_dictionaries({"exclude": st.lists(IDS, max_size=12)}),
    st.fixed_dictionaries({"pin": IDS, "position": SMALL}),
    st.fixed_dictionaries({"of": GROUP, "at_most": SMALL}, optional={"window": SMALL}),
    st.fixed_dictionaries({"of": GROUP, "distance": SMALL}),
)


def aligned(values: st.SearchStrategy[Any], size: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=size, max_size=size)


LIKELY = {
    "scores": aligned(NUMBERS, 10),
    "features": st.dictionaries(
        st.sampled_from(["price", "x"]), aligned(st.none() | NUMBERS, 10), max_size=2
    ),
    "history": aligned(IDS, 3),
    "history_feedback": aligned(NUMBERS, 3),
    "history_timestamp": aligned(st.integers(-(2**70), 2**70), 3),
    "timestamp": NUMBERS,
    "rules": st.lists(RULES, max_size=5),
    "groups": st.dictionaries(GROUP, aligned(st.none() | IDS, 10), max_size=2),
}
"""Bodies of the right form, so that what is inside is met, too."""


def holds(client: TestClient, asked: dict[str, Any]) -> None:
    answer = client.post("/v1/rank", content=json.dumps(asked).encode(errors="surrogatepass"))
    assert answer.status_code in (200, 400, 422)
    if answer.status_code != 200:
        assert answer.json()["error"]["field"]
        return
    found = answer.json()
    served, length = {str(item) for item in found["items"]}, asked.get("length") or 4
    assert len(served) == len(found["items"])
    assert len(served) == min(length, len(asked["candidates"])) or asked.get("rules")
    assert served <= {str(item) for item in asked["candidates"]}
    assert all(math.isfinite(score) for score in found["scores"])


@hypothesis_settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6), good=st.booleans())
def test_no_body_makes_it_fail(client: TestClient, body: dict[str, Any], good: bool) -> None:
    holds(client, (ASKED if good else {}) | body)


@hypothesis_settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.fixed_dictionaries({}, optional=LIKELY))
def test_no_body_of_the_right_form_makes_it_fail(client: TestClient, body: dict[str, Any]) -> None:
    holds(client, ASKED | body)


def test_the_description_is_what_is_served(artifact: Path, tmp_path: Path) -> None:
    """Schemathesis asks everything that the description allows, and much that it does not."""
    import schemathesis

    with TestClient(create(settings(artifact, log=str(tmp_path / "log.db")))) as client:
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        statuses: dict[str, set[int]] = {}
        for found in schema.get_all_operations():
            operation = found.ok()
            modes = (
                schemathesis.GenerationMode
                if operation.method == "post"
                else [schemathesis.GenerationMode.POSITIVE]
            )
            for mode in modes:

                @hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
                @given(case=operation.as_strategy(generation_mode=mode))
                def check(case: Any) -> None:
                    sent = case.as_transport_kwargs(base_url="http://testserver")
                    sent.pop("cookies", None)
                    answer = client.request(**sent)
                    assert answer.status_code < 500, answer.text
                    if answer.status_code >= 400:
                        assert answer.json()["error"]["field"]
                    statuses.setdefault(case.path, set()).add(answer.status_code)

                check()
        assert {200, 422} <= statuses["/v1/rank"]
        assert {200, 422} <= statuses["/v1/feedback"]


# --- in time ---


class Slow:
    """A backend that takes its time, while told to."""

    def __init__(self, backend: Any) -> None:
        self.backend, self.hold, self.batches = backend, threading.Event(), list[int]()
        self.shapes: set[tuple[bool, int, int]] = set()  # under rules, requests, candidates
        self.hold.set()

    def rank(self, feed: Any) -> Any:
        self.batches.append(len(feed["mask_BN"]))
        self.shapes.add((False, *feed["mask_BN"].shape))
        self.hold.wait(5)
        return self.backend.rank(feed)

    def rank_ruled(self, feed: Any) -> Any:
        self.shapes.add((True, *feed["mask_BN"].shape))
        self.hold.wait(5)
        return self.backend.rank_ruled(feed)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[Slow]:
    made: list[Slow] = []
    load = models.load_backend

    def loading(*arguments: Any, **options: Any) -> Slow:
        made.append(Slow(load(*arguments, **options)))
        return made[-1]

    monkeypatch.setattr(models, "load_backend", loading)
    return made


def test_what_will_come_is_warm_before_it_comes(artifact: Path, slow: list[Slow]) -> None:
    """Batches of every size, the widest request that is allowed here, and rules on both widths."""
    wanted = [(False, size, 10) for size in (1, 2, 4)] + [(False, 1, 200), (True, 1, 10), (True, 1, 200)]
    with TestClient(create(settings(artifact, batch=BatchConfig(batch=4), limits=Limits(candidates=200)))):
        assert slow[0].shapes == set(wanted)


def in_threads(client: TestClient, count: int, **changes: Any) -> tuple[list[threading.Thread], list[Any]]:
    answers: list[Any] = []

    def ask(at: int) -> None:
        answers.append(client.post("/v1/rank", json=ASKED | {"request_id": f"r{at}"} | changes))

    threads = [threading.Thread(target=ask, args=(at,)) for at in range(count)]
    for thread in threads:
        thread.start()
    return threads, answers


def queued(client: TestClient) -> int:
    """Requests that wait, as the server counts them."""
    counted = client.get("/metrics").text
    return int(float(counted.split("\nslatewise_waiting_requests ")[1].split()[0]))


def test_what_is_late_is_answered_by_the_candidates_own_order(artifact: Path, slow: list[Slow]) -> None:
    with TestClient(create(settings(artifact))) as client:
        slow[0].hold.clear()
        started = time.monotonic()
        answer = client.post("/v1/rank", json=ASKED | {"deadline_ms": 60, "length": 3}).json()
        assert 0.05 < time.monotonic() - started < 2
        assert answer["items"] == ["i9", "i8", "i7"]
        assert (answer["fallback"], answer["scores"], answer["log_prob"]) == ("deadline", None, None)
        slow[0].hold.set()
        assert client.post("/v1/rank", json=ASKED | {"deadline_ms": 5000}).json()["fallback"] is None


def test_a_late_request_that_has_no_list_does_not_touch_its_batch(artifact: Path, slow: list[Slow]) -> None:
    with TestClient(create(settings(artifact))) as client:
        slow[0].hold.clear()
        threads, answers = in_threads(client, 3)
        time.sleep(0.3)
        unknown = {"rules": [{"of": "colour", "distance": 2}], "deadline_ms": 50}
        wrong = client.post("/v1/rank", json=ASKED | {"request_id": "wrong"} | unknown)
        assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "rules[0].of")
        slow[0].hold.set()
        for thread in threads:
            thread.join()
        assert {answer.status_code for answer in answers} == {200}


def test_what_is_late_in_the_queue_fails_alone(artifact: Path) -> None:
    model = models.load_model("main", artifact)
    told: dict[str, Any] = {}
    batcher = Batcher(BatchConfig())

    def job(name: str, due: float | None, **changes: Any) -> Job:
        request = RankRequest(candidates=ITEMS, **changes)
        asked = models.Asked(request, name, 0, models.row_of(request, 0))
        return Job(asked, model, lambda answer: told.__setitem__(name, answer), due)

    late = job("late", 0.0, rules=[Rule(of="colour", distance=2)])
    batcher.submit([late, job("fine", None)])
    batcher.close()
    assert isinstance(told["late"], RequestError)
    assert len(told["fine"].items) == 4


class Paced:
    """In a model's place: ranks while its gate is open, in so many seconds of a clock that only it moves."""

    def __init__(self, name: str = "main") -> None:
        self.name, self.seconds, self.sizes = name, 0.0, list[int]()
        self.now, self.gate = 0.0, threading.Event()
        self.gate.set()

    def monotonic(self) -> float:
        return self.now

    def rank(self, asked: Any) -> list[models.Listed]:
        self.sizes.append(len(asked))
        self.gate.wait(20)
        self.now += self.seconds
        return [models.Listed([]) for _ in asked]

    def fallback(self, asked: Any, why: str) -> models.Listed:
        return models.Listed([], fallback=why)


def jobs(model: Any, done: Any, count: int = 1, due: float | None = None) -> list[Job]:
    return [Job(ASKED, model, done, due) for _ in range(count)]  # type: ignore[arg-type]


def test_a_batch_that_took_long_once_makes_no_other_late(monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = Paced(), Paced("other")
    monkeypatch.setattr(batching, "time", model)
    batcher = Batcher(BatchConfig())

    def fallbacks(count: int, seconds: float, asked: Paced = model) -> int:
        """Of so many requests, one after the other, each with 100 ms for a ranking that takes so long."""
        model.seconds, answers = seconds, list[Any]()
        for at in range(count):
            batcher.submit(jobs(asked, answers.append, due=model.now + 0.1))
            wait_for(lambda at=at: len(answers) > at, pause=0.001)
        return sum(answer.fallback is not None for answer in answers)

    fallbacks(1, 1.5)  # all that is known of it
    assert fallbacks(20, 0.01) == 1
    fallbacks(1, 1.5)
    assert fallbacks(20, 0.01) == 0
    assert fallbacks(8, 1.5) > 0  # it is slow now
    assert fallbacks(5, 1.5, other) == 0  # which says nothing of another
    assert fallbacks(20, 0.01) <= 5
    batcher.close()


def test_a_busy_server_waits_for_a_fuller_batch_and_an_idle_one_does_not() -> None:
    window = 20.0  # seconds; nothing here takes so long unless it waits for the window's end
    batcher, model, done = Batcher(BatchConfig(batch=3, window_ms=1000 * window)), Paced(), list[Any]()
    started = time.monotonic()
    model.gate.clear()
    batcher.submit(jobs(model, done.append))
    wait_for(lambda: model.sizes == [1], pause=0.001)
    batcher.submit(jobs(model, done.append))  # comes while the first is ranked
    model.gate.set()
    wait_for(lambda: len(done) == 1, pause=0.001)
    time.sleep(0.05)
    assert model.sizes == [1]  # it waits for company
    batcher.submit(jobs(model, done.append, 2))
    wait_for(lambda: len(done) == 4, pause=0.001)
    assert model.sizes == [1, 3]
    batcher.submit(jobs(model, done.append))
    wait_for(lambda: len(done) == 5, pause=0.001)
    assert time.monotonic() - started < window
    batcher.close()


def test_a_window_ends() -> None:
    batcher, model, done = Batcher(BatchConfig(window_ms=100.0)), Paced(), list[float]()
    model.gate.clear()
    batcher.submit(jobs(model, lambda answer: done.append(0.0)))
    wait_for(lambda: model.sizes == [1], pause=0.001)
    came = time.monotonic()
    batcher.submit(jobs(model, lambda answer: done.append(time.monotonic())))
    model.gate.set()
    wait_for(lambda: len(done) == 2, pause=0.001)
    batcher.close()
    assert done[1] - came >= 0.1
    assert model.sizes == [1, 1]


def test_a_shadow_ranks_only_when_nobody_waits_and_takes_no_room() -> None:
    """A queue of one: what is offered neither fills it nor goes first."""
    batcher, model, order = Batcher(BatchConfig(batch=2, pending=1)), Paced(), list[str]()

    def job(name: str) -> Job:
        return jobs(model, lambda answer: order.append(name))[0]

    model.gate.clear()
    batcher.submit([job("first")])
    wait_for(lambda: model.sizes == [1])
    for name in ("shadow 1", "shadow 2", "shadow 3"):
        batcher.offer(job(name))
    batcher.submit([job("second")])
    model.gate.set()
    wait_for(lambda: len(order) == 4)
    batcher.close()
    assert order == ["first", "second", "shadow 1", "shadow 2"]


def test_a_call_that_finds_no_room_leaves_nothing_in_the_queue(artifact: Path, slow: list[Slow]) -> None:
    arms = (read_arm(f"main={artifact}"), read_arm(f"next={artifact}", shadow=True))
    with TestClient(create(settings(artifact, arms=arms, batch=BatchConfig(batch=1, pending=4)))) as client:
        assert client.get("/v1/info").json()["limits"]["requests"] == 4
        too_many = client.post("/v1/rank", json=[ASKED] * 5)
        assert (too_many.status_code, too_many.json()["error"]["field"]) == (422, "body")
        slow[0].hold.clear()
        threads, answers = in_threads(client, 4)
        wait_for(lambda: queued(client) == 3)
        assert client.post("/v1/rank", json=[ASKED] * 3).status_code == 503
        assert queued(client) == 3
        slow[0].hold.set()
        for thread in threads:
            thread.join()
        assert {answer.status_code for answer in answers} == {200}


def test_a_full_queue_says_when_to_come_again(artifact: Path, slow: list[Slow]) -> None:
    batch = BatchConfig(batch=2, pending=3)
    with TestClient(create(settings(artifact, batch=batch, retry_seconds=7))) as client:
        slow[0].hold.clear()
        threads, answers = in_threads(client, 12)
        # one batch is at work, the queue is full, all others have their answer
        wait_for(lambda: queued(client) == 3 and len(answers) + 3 + slow[0].batches[-1] == 12)
        slow[0].hold.set()
        for thread in threads:
            thread.join()
        refused = [answer for answer in answers if answer.status_code == 503]
        assert 12 - 3 - 2 <= len(refused) <= 12 - 3 - 1
        assert {answer.headers["retry-after"] for answer in refused} == {"7"}
        assert all(answer.status_code in (200, 503) for answer in answers)
        assert max(slow[0].batches) == 2


def test_those_who_come_while_it_ranks_are_the_next_batch(artifact: Path, slow: list[Slow]) -> None:
    with TestClient(create(settings(artifact))) as client:
        slow[0].batches.clear()
        client.post("/v1/rank", json=ASKED)
        assert slow[0].batches == [1]  # alone, at once
        slow[0].hold.clear()
        threads, answers = in_threads(client, 9)
        wait_for(lambda: len(slow[0].batches) == 2 and slow[0].batches[1] + queued(client) == 9)
        slow[0].hold.set()
        for thread in threads:
            thread.join()
        assert sum(slow[0].batches[1:]) == 9
        assert len(slow[0].batches) <= 3  # the one that was at work, and all the others
        assert {tuple(answer.json()["items"]) for answer in answers} == {tuple(answers[0].json()["items"])}


# --- arms, swaps, keys, the log ---


def test_units_keep_their_arm_and_shares_hold(artifact: Path) -> None:
    arms = (
        read_arm(f"a={artifact}:70"),
        read_arm(f"b={artifact}:30"),
        read_arm(f"c={artifact}", shadow=True),
    )
    users = [{"user_id": f"u{at}", "candidates": ITEMS[:6]} for at in range(2000)]

    def served(**changes: Any) -> list[str]:
        with TestClient(create(settings(artifact, arms=arms, **changes))) as client:
            answers = [
                one
                for at in range(0, 2000, 250)
                for one in client.post("/v1/rank", json=users[at : at + 250]).json()
            ]
            counted = client.get("/metrics").text
        assert 'slatewise_shadow_items_total{ranker="c",shared="yes"}' in counted
        assert 'slatewise_shadow_items_total{ranker="c",shared="no"} 0.0' in counted  # the same model
        return [one["ranker"] for one in answers]

    first = served()
    assert first == served()
    assert 0.66 < first.count("a") / 2000 < 0.74
    assert "c" not in first
    other = served(salt="another")
    assert 0.5 < sum(map(str.__eq__, first, other)) / 2000 < 0.66  # drawn anew: .7² + .3²


def test_a_new_artifact_takes_the_place_of_the_old_one(artifact: Path, tmp_path: Path) -> None:
    other = example_ranker()
    for weight in other.policy.parameters():
        weight.data *= 1.1
    # other weights answer the golden requests otherwise, and are exported with their own answers
    export(other, tmp_path / "second", backends=["eager"])
    broken = shutil.copytree(artifact, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no")
    link = tmp_path / "current"
    link.symlink_to(artifact)
    app = create(settings(link, watch_seconds=0.05))
    with TestClient(app) as client:

        def turn(target: Path) -> None:
            (tmp_path / "next").symlink_to(target)
            (tmp_path / "next").replace(link)

        def told() -> dict[str, Any]:
            return client.get("/v1/info").json()["rankers"][0]

        stop, statuses = threading.Event(), list[int]()

        def load() -> None:
            while not stop.is_set():
                statuses.append(client.post("/v1/rank", json=ASKED).status_code)

        thread = threading.Thread(target=load)
        thread.start()
        first = told()["model"]
        turn(tmp_path / "second")
        wait_for(lambda: told()["model"] != first)
        second = told()["model"]
        turn(broken)
        wait_for(lambda: told()["refused"])
        assert told()["model"] == second
        assert "is missing or is not the file that was exported" in told()["refused"]
        turn(artifact)
        wait_for(lambda: told()["model"] == first)
        assert told()["refused"] is None
        stop.set()
        thread.join()
        assert set(statuses) == {200}
        assert len(statuses) > 20
        counted = client.get("/metrics").text
        assert 'slatewise_swaps_total{outcome="swapped",ranker="main"} 2.0' in counted
        assert 'slatewise_swaps_total{outcome="refused",ranker="main"} 1.0' in counted


def test_an_artifact_that_is_copied_piece_by_piece_is_taken_when_it_is_whole(
    artifact: Path, tmp_path: Path
) -> None:
    other = example_ranker()
    for weight in other.policy.parameters():
        weight.data *= 1.2
    new = export(other, tmp_path / "new", backends=["eager"])
    place = shutil.copytree(artifact, tmp_path / "place")
    fleet = Fleet(
        (ArmSpec(name="main", path=str(place)),), lambda arm: models.load_model("main", Path(arm.path)), ""
    )
    first = fleet.models["main"].version

    def put(path: Path) -> None:
        (place / path.relative_to(new.path)).write_bytes(path.read_bytes())
        fleet.refresh()

    put(new.path / "manifest.json")
    assert "is missing or is not the file that was exported" in fleet.refused["main"].reason
    for path in sorted(new.path.rglob("*.*")):
        if path.is_file() and path.name != "manifest.json":
            put(path)
    assert not fleet.refused
    assert first != fleet.models["main"].version == new.manifest.model


def test_an_artifact_that_fails_in_any_way_is_refused_and_the_next_one_taken(
    artifact: Path, tmp_path: Path
) -> None:
    place = shutil.copytree(artifact, tmp_path / "place")
    sound = (place / "manifest.json").read_bytes()
    failing = threading.Event()

    def load(arm: ArmSpec) -> models.Model:
        if failing.is_set():
            raise ZeroDivisionError("by chance")
        return models.load_model(arm.name, Path(arm.path))

    fleet = Fleet((ArmSpec(name="main", path=str(place)),), load, "")
    fleet.watch(0.02)
    (place / "manifest.json").write_text(json.dumps(json.loads(sound) | {"backends": []}))
    wait_for(lambda: fleet.refused)
    assert "names no backend" in fleet.refused["main"].reason
    failing.set()
    (place / "manifest.json").write_bytes(sound + b"\n")
    wait_for(lambda: "ZeroDivisionError: by chance" in fleet.refused["main"].reason)
    failing.clear()
    (place / "manifest.json").write_bytes(sound)
    wait_for(lambda: not fleet.refused)
    fleet.close()


def wait_for(happened: Any, seconds: float = 20.0, pause: float = 0.02) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(pause)


def test_keys_open_and_nothing_else_does(artifact: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    key, second = add_key(file, "shop"), add_key(file, "lab")
    assert key not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    with TestClient(create(settings(artifact, keys=str(file)))) as client:
        for given, status in (
            (None, 401),
            ("Bearer no", 401),
            (f"Basic {key}", 401),
            (f"Bearer {key}", 200),
            (f"bearer {second}", 200),
        ):
            answer = client.post("/v1/rank", json=ASKED, headers={"authorization": given} if given else {})
            assert answer.status_code == status
        assert client.get("/metrics").status_code == 401
        assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
        refused = client.post("/v1/rank", content="{")
        assert (refused.status_code, refused.json()["error"]["field"]) == (401, "authorization")
        assert refused.headers["www-authenticate"] == "Bearer"
    with pytest.raises(ConfigError, match="has a key of the name 'lab' already"):
        add_key(file, "lab")
    file.write_text("lab abc\n")
    with pytest.raises(ConfigError, match="line 1: not a name and a SHA-256 digest"):
        Keys.load(file)
    file.write_text("# nothing\n\n")
    with pytest.raises(ConfigError, match="has no keys"):
        Keys.load(file)


def test_what_is_served_is_logged_and_asked_again_is_answered_alike(artifact: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "log.db")
    with TestClient(create(settings(artifact, log=store, wait_for_log=True))) as client:
        first = client.post("/v1/rank", json=ASKED | {"length": 2, "context": {"device": "phone"}}).json()
        assert first["recorded"] == "yes"
        again = client.post("/v1/rank", json=ASKED | {"context": {"device": "phone"}}).json()
        assert again["items"] == first["items"]  # the first answer counts
        other = client.post("/v1/rank", json=ASKED | {"user_id": "u2"}).json()
        assert (other["recorded"], len(other["items"])) == ("conflict", 4)
        client.post("/v1/rank", json=ASKED | {"request_id": "r2", "record": False})
        nobody = client.post("/v1/rank", json={"candidates": ITEMS, "request_id": "r3"}).json()
        events = [{"request_id": "r1", "kind": "click", "item_id": first["items"][0]}] * 2
        events += [
            {"request_id": "r9", "kind": "click", "position": 1},
            {"request_id": "r1", "kind": "click", "position": 3},
        ]
        outcomes = [one["outcome"] for one in client.post("/v1/feedback", json=events).json()]
        assert outcomes == ["accepted", "duplicate", "waiting", "not-shown"]
        wrong = client.post("/v1/feedback", json=[events[0], {"request_id": "r1", "kind": "click"}])
        assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "[1].item_id")
    log = open_log(store)
    found = log.find(["r1", "r2", "r3"])
    log.close()
    assert sorted(found) == ["r1", "r3"]
    assert list(found["r1"].served) == first["items"]
    assert (found["r1"].arm, found["r1"].propensity) == ("main", 1.0)
    assert found["r3"].user_id == "r3"
    assert list(found["r3"].served) == nobody["items"]


def test_a_used_request_id_ends_no_call_and_is_counted(artifact: Path, tmp_path: Path) -> None:
    """Whether the server waits for its log or not."""
    calls = [ASKED, [ASKED | {"request_id": "r2"}, ASKED | {"user_id": "u2"}, ASKED]]
    for wait, said in ((True, ["yes", "conflict", "yes"]), (False, ["soon"] * 3)):
        log = str(tmp_path / f"{wait}.db")
        with TestClient(create(settings(artifact, log=log, wait_for_log=wait))) as client:
            first, second = (client.post("/v1/rank", json=call).json() for call in calls)
            assert [one["recorded"] for one in second] == said
            assert second[2]["items"] == first["items"]
            counted = [
                f'slatewise_exposures_total{{outcome="{one}"}} ' for one in ("new", "same", "conflict")
            ]
            wait_for(lambda client=client, counted=counted: counted[2] in client.get("/metrics").text)
            text = client.get("/metrics").text
            assert [float(text.split(one)[1].split()[0]) for one in counted] == [2.0, 1.0, 1.0]


def test_a_repetition_tells_of_its_first_list_all_that_was_said(
    artifact: Path, tmp_path: Path, slow: list[Slow]
) -> None:
    rules = [{"pin": "i1", "position": 1}, {"pin": "i2", "position": 1}]
    with TestClient(create(settings(artifact, log=str(tmp_path / "log.db"), wait_for_log=True))) as client:
        slow[0].hold.clear()
        late = client.post("/v1/rank", json=ASKED | {"deadline_ms": 50, "rules": rules}).json()
        slow[0].hold.set()
        again = client.post("/v1/rank", json=ASKED).json()
    assert (late["fallback"], late["dropped_rules"]) == ("deadline", ["rules[1]"])
    assert again == late | {"recorded": "yes"}


class Hanging:
    """A log that commits when it may."""

    def __init__(self, log: Any) -> None:
        self.log, self.may = log, threading.Event()

    def commit(self, records: Any) -> Any:
        self.may.wait(20)
        return self.log.commit(records)

    def close(self) -> None:
        self.log.close()


def test_a_slow_log_holds_nobody_longer_than_it_may(artifact: Path, tmp_path: Path) -> None:
    """A list not beyond its deadline, an event not beyond the log's own time."""
    log = Hanging(open_log(str(tmp_path / "log.db")))
    service = Service(settings(artifact, wait_for_log=True), Numbers())
    service.recorder = Recorder(log, None, CommitConfig(wait_seconds=1.5))  # type: ignore[arg-type]

    async def ask() -> None:
        started = time.monotonic()
        request = RankRequest(candidates=ITEMS, request_id="r1", deadline_ms=500.0)
        [answer] = await service.rank([request])
        assert (answer.recorded, answer.fallback) == ("soon", None)
        assert time.monotonic() - started < 1.4
        with pytest.raises(UnavailableError, match="send the same again"):
            await service.feedback([Feedback(request_id="r1", kind="click", position=1)])
        assert time.monotonic() - started < 5

    asyncio.run(ask())
    log.may.set()
    assert service.recorder
    service.recorder.write(
        [Feedback(request_id="r1", kind="click", position=1)]
    )  # behind all that was handed over
    assert list(log.log.find(["r1"])) == ["r1"]
    service.close()


def test_faults_that_ranking_finds_name_the_list_of_the_call(client: TestClient) -> None:
    for wrong, field in (
        ({"rules": [{"of": "colour", "distance": 2}]}, "[1].rules[0].of"),
        ({"items": {"i1": {"quality": {"a": 1}}}}, "[1].items"),
    ):
        answer = client.post("/v1/rank", json=[ASKED, ASKED | wrong, ASKED])
        assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)
        assert answer.json()["error"]["message"].startswith(f"{field} ")


def test_histories_combine_events_as_the_server_is_told(artifact: Path) -> None:
    service = Service(settings(artifact, combine=("watch=last",), watch_seconds=0), Numbers())
    try:
        assert service.fleet.models["main"].features.reading.rules == {"watch": "last"}
    finally:
        service.close()


def test_settings_that_cannot_be_are_refused(artifact: Path, tmp_path: Path) -> None:
    plain = settings(artifact)
    for changes, said in (
        ({"arms": plain.arms * 2}, "two rankers are called 'main'"),
        ({"arms": (replace(plain.arms[0], share=0.0),)}, "no ranker serves"),
        ({"unit": "session"}, "unit is 'session'"),
        ({"combine": ("watch=most",)}, "Write KIND=RULE"),
    ):
        with pytest.raises(ConfigError, match=said):
            replace(plain, **changes).check()
    with pytest.raises(ConfigError, match="the share 'x' is no number"):
        read_arm("a=b:x")
    assert read_arm("models/a:30") == ArmSpec(name="a", path="models/a", share=30.0)
    assert Limits().candidates == 1024


def test_gauges_of_killed_workers_count_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, here = tmp_path / "gauge_livesum_999999.db", tmp_path / f"gauge_livesum_{os.getpid()}.db"
    kept = tmp_path / "counter_999999.db"
    for file in (gone, here, kept):
        file.touch()
    numbers._forget_the_dead(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([here, kept])
