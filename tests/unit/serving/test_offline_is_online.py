"""The vectors that a model sees online are those of the prepared data, bit for bit, history included.

A log is served again, request after request: features come from a store, and each request's exposure and feedback
go to the recorder before the next is asked. Every batch must equal the prepared batch of the same request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import fakeredis
import pytest
import torch

from served import load_tables, moments_of, rows_of, served_log
from slatewise.api import prepare
from slatewise.data.check import normalise
from slatewise.data.features import FeatureTransform
from slatewise.data.log_files import read_frame
from slatewise.data.prepared import PreparedData
from slatewise.serving.combine import Rule
from slatewise.serving.features import Store, open_store
from slatewise.serving.features.online import OnlineFeatures, Reading
from slatewise.serving.features.reader import Reader
from slatewise.serving.features.redis import RedisStore
from slatewise.serving.log import open_log
from slatewise.serving.log.export import export
from slatewise.serving.recorder import Recorder
from slatewise.serving.records import Chosen, Exposure, Feedback

OUTCOMES = ("exposed_BE", "exposed_mask_BE", "feedback_BEK", "request_B")


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "sqlite":
        return open_store(str(tmp_path / "features.db"))
    return RedisStore(fakeredis.FakeRedis())


def in_order(data: PreparedData) -> list[tuple[str, int]]:
    """Split and row of every request, in the order of the log."""
    return [
        (split, row) for split in ("train", "validation", "test") for row in range(len(data.split(split)))
    ]


def reading_of(data: PreparedData, rules: Mapping[str, Rule] | None = None) -> Reading:
    options = data.manifest.source["protocol_options"]
    return Reading(data.manifest.target, options["history_from"] == "positive", rules or {})


def records_of(row: dict, twice: Mapping[str, Rule]) -> list[Exposure | Feedback]:
    """What a server would write of a logged request. Kinds in ``twice`` come twice, wrong at first."""
    shown = Exposure(
        request_id=row["request_id"],
        user_id=row["user_id"],
        timestamp=row["timestamp"],
        candidates=tuple(row["candidates"]),
        served=tuple(row["exposed"]),
        scores=tuple(row["candidate_scores"]),
        features={"price": tuple(row["candidate_price"])},
        context={name: row[f"context_{name}"] for name in ("hour", "device", "load")},
        propensity=row["propensity"],
    )
    events = [
        Feedback(
            request_id=row["request_id"],
            kind=kind,
            position=place + 1,
            value=said,
            event_id=f"{place} {said}",
        )
        for kind in ("click", "watch")
        for place, value in enumerate(row[f"feedback_{kind}"])
        if value
        for said in ([value * 2 + 1, value] if kind in twice else [value])
    ]
    return [shown, *events]


def assert_equal(online, offline, what: str) -> None:
    for field in fields(online):
        if field.name not in OUTCOMES:
            ours, theirs = getattr(online, field.name), getattr(offline, field.name)
            assert torch.equal(ours, theirs), f"{what}: {field.name}\n{ours}\n{theirs}"


CASES = {
    "history of exposures": {},
    "history of positives": {"history_from": "positive"},
    "short history of two kinds": {"history": 3, "target": {"click": 1.0, "watch": 0.3}},
    "the last of several events": {"history_from": "positive", "target": {"watch": 1.0}},
}
RULES: dict[str, dict[str, Rule]] = {"the last of several events": {"watch": "last"}}


@pytest.mark.parametrize("case", CASES)
def test_a_log_served_again_gives_its_prepared_batches(store: Store, tmp_path: Path, case: str) -> None:
    source = served_log(tmp_path / "log", interactions=False)
    data = prepare("parquet", tmp_path / "data", source=source, protocol_options=CASES[case])
    transform = FeatureTransform.load(data.path / "transform")
    load_tables(store, source)
    rules = RULES.get(case, {})
    online = OnlineFeatures(Reader(store), transform, reading_of(data, rules))
    recorder = Recorder(open_log(str(tmp_path / "log.db")), store)
    requests = normalise(read_frame(source / "requests.parquet"))
    asked = requests.drop("exposed", "propensity", "^feedback_.*$")
    assert requests["timestamp"].is_sorted()
    full = 0
    for at, (split, row) in enumerate(in_order(data)):
        batch = online.batch(rows_of(asked[at]), moments_of(asked[at]))
        assert_equal(batch, data.split(split).batch(slice(row, row + 1)), f"request {at}")
        full += int(batch.history_mask_BH.sum())
        recorder.write(records_of(requests.row(at, named=True), rules))
    assert full > 300
    recorder.close()
    assert recorder.lost_events == 0
    assert online.reader.counts.failures == online.reader.counts.damaged == 0
    exported_log_prepares_to_the_same(tmp_path, source, data, CASES[case], rules)


def exported_log_prepares_to_the_same(
    folder: Path, source: Path, data: PreparedData, options: dict, rules: Mapping[str, Rule]
) -> None:
    """What the server wrote trains the next model on the very same vectors and feedback."""
    log = open_log(str(folder / "log.db"))
    (folder / "again").mkdir()
    for name in ("users", "items"):
        (folder / "again" / f"{name}.parquet").write_bytes((source / f"{name}.parquet").read_bytes())
    export(log, folder / "again" / "requests.parquet", Chosen(), rules=rules)
    log.close()
    again = prepare("parquet", folder / "data2", source=folder / "again", protocol_options=options)
    for split, rows in (("train", 105), ("validation", 15), ("test", 30)):
        first, second = data.split(split).batch(slice(0, rows)), again.split(split).batch(slice(0, rows))
        for field in fields(first):
            assert torch.equal(getattr(first, field.name), getattr(second, field.name)), field.name


def test_loaded_interactions_are_the_history_that_preparation_took(store: Store, tmp_path: Path) -> None:
    source = served_log(tmp_path / "log", interactions=True)
    data = prepare("parquet", tmp_path / "data", source=source, protocol_options={"history": 6})
    load_tables(store, source)
    load_tables(store, source)  # to load again changes nothing
    online = OnlineFeatures(Reader(store), FeatureTransform.load(data.path / "transform"), reading_of(data))
    requests = normalise(read_frame(source / "requests.parquet")).drop(
        "exposed", "propensity", "^feedback_.*$"
    )
    start = 0
    for split in ("train", "validation", "test"):
        size = len(data.split(split))
        asked = requests.slice(start, size)
        batch = online.batch(rows_of(asked), moments_of(asked))  # many requests at once
        assert_equal(batch, data.split(split).batch(slice(None)), split)
        start += size
