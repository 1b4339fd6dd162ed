"""Candidates from a first stage: who is one, with which score, and that nothing of the future and nothing learnt is in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import slatewise as sw
from slatewise import config as configs
from slatewise.api import open_first_stage, prepare
from slatewise.data.batch import ListBatch
from slatewise.data.clock import seconds
from slatewise.data.features import FeatureTransform
from slatewise.data.log import Lists
from slatewise.data.prepared import PreparedData
from slatewise.errors import ConfigError, DataError, RunError
from slatewise.evaluation.offline import Config
from slatewise.evaluation.offline import evaluate as evaluate_policies
from slatewise.evaluation.policies import floors_and_ceilings
from slatewise.protocols import log_v1
from slatewise.protocols.first_stage import FirstStage, retrieve_candidates
from slatewise.testing.fixtures import EVENTS, events_log
from slatewise.testing.method import short_training
from slatewise.types import Retrieved

EARLY = {"test_share": 0.4, "validation_share": 0.1, "history": 40}
N = 20


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    data = prepare(
        "store-events", folder / "early", protocol="log-v1", dataset_options=EVENTS, protocol_options=EARLY
    )
    sw.fit("matrix-factorization", data, out=folder / "mf", factorization={"factors": 4})
    tiny = {"width": 16, "layers": 1, "length": 32}
    train = {"max_steps": 3, "batch_size": 16, "validations": 1}
    options = {"model": tiny, "sequence": {"ids": {"codes": 16}, "train": train}}
    sw.fit("oneranker", data, out=folder / "one", **options, repeats=True)
    return folder


@pytest.fixture(scope="module")
def stage(root: Path) -> FirstStage:
    return open_first_stage(root / "one")


def late(**options: Any) -> Lists:
    return log_v1.build(configs.build(log_v1.Config, {"history": 0} | options), events_log(), 0)


@pytest.fixture(scope="module")
def lists(stage: FirstStage) -> Lists:
    return retrieve_candidates(late(), stage, N, 0)


def second(root: Path, out: Path, run: str = "one", **options: Any) -> PreparedData:
    return prepare(
        "store-events",
        out,
        protocol="log-v1",
        dataset_options=EVENTS,
        protocol_options={"history": 0},
        candidates_from=root / run,
        **({"candidates": N} | options),
    )


def asked(stage: FirstStage, row: dict[str, Any], candidates: list[str]) -> pl.DataFrame:
    """A request as a caller sends it, its history put together by hand."""
    log = events_log()
    assert log.interactions is not None
    mine = log.interactions.filter(
        pl.col("user_id") == row["user_id"], pl.col("timestamp") < row["timestamp"]
    ).sort("timestamp", maintain_order=True)
    past = mine.tail(stage.transform.history)
    return pl.DataFrame(
        {
            "request_id": ["r"],
            "user_id": [row["user_id"]],
            "timestamp": [row["timestamp"]],
            "context_page": [row["context_page"]],
            "candidates": [candidates],
            "history": [past["item_id"].to_list()],
            "history_feedback": [past["feedback_click"].to_list()],
            "history_timestamp": [past["timestamp"].to_list()],
            "history_context_page": [past["context_page"].to_list()],
        }
    )


def test_candidates_and_scores_are_the_rankers_own_as_at_the_request(stage: FirstStage, lists: Lists) -> None:
    arrival = dict(events_log().items.select("item_id", "available_from").iter_rows())  # type: ignore[union-attr]
    for split in ("train", "validation", "test"):
        for row in lists.requests.filter(split=split).head(3).iter_rows(named=True):
            batch = stage.transform.batch(asked(stage, row, row["candidates"]))
            every = stage.find(batch, N + 4)
            ids = stage.transform.items.vocab.decode(every.items_BK[0][every.mask_BK[0]].numpy()).to_list()
            there = [item for item in ids if arrival[item] <= row["timestamp"]]
            kept = row["exposed"] if split == "train" else []
            others = [item for item in there if item not in kept][: N - len(kept)]
            assert set(row["candidates"]) == {*kept, *others}
            assert row["candidates"] != [*kept, *others]
            score = stage.score(batch)[0, :N].numpy()
            np.testing.assert_allclose(row["candidate_scores"], score, atol=1e-6)


def test_what_was_shown_and_found_keeps_its_feedback(lists: Lists) -> None:
    before = {row["request_id"]: row for row in late().requests.iter_rows(named=True)}
    cut = 0
    for row in lists.requests.iter_rows(named=True):
        old = before[row["request_id"]]
        kept = [place for place, item in enumerate(old["exposed"]) if item in row["candidates"]]
        assert row["exposed"] == [old["exposed"][place] for place in kept]
        for kind in ("click", "conversion", "value"):
            assert row[f"feedback_{kind}"] == [old[f"feedback_{kind}"][place] for place in kept]
        if row["split"] == "train":
            assert len(kept) == 4
        assert row["propensity"] == (old["propensity"] if len(kept) == 4 else None)
        cut += len(kept) < 4
    counts = lists.counts
    assert counts["held-out requests with a shown item that was not retrieved"] == cut > 0
    assert counts["held-out requests with no shown item that was retrieved"] > 0


def test_nothing_of_the_moment_or_later_is_seen(stage: FirstStage) -> None:
    seen: list[ListBatch] = []

    def find(batch: ListBatch, count: int) -> Retrieved:
        seen.append(batch)
        return stage.find(batch, count)

    retrieve_candidates(late(), replace(stage, find=find), N, 0)
    assert seen[0].history_mask_BH.sum() > 0
    for batch in seen:
        assert (batch.history_time_BH < batch.time_B[:, None])[batch.history_mask_BH].all()
        assert (batch.time_B > stage.manifest.trained_until).all()


def test_requests_that_the_stage_learnt_from_are_left_out(
    root: Path, stage: FirstStage, lists: Lists
) -> None:
    until = stage.manifest.trained_until
    early = sw.load_data(root / "early")
    assert until == int(np.asarray(early.interactions().columns["time"]).max()) > 0
    before = late().requests
    assert (seconds(lists.requests["timestamp"]) > until).all()
    name = "train requests left out: the first stage learnt until then"
    assert lists.counts[name] == before.height - lists.requests.height > 0
    with pytest.raises(
        DataError, match="all 200 train requests are as old; prepare its data so that it ends earlier"
    ):
        retrieve_candidates(late(**EARLY), stage, N, 0)


def test_each_run_makes_other_data_and_the_same_the_same(root: Path, tmp_path: Path) -> None:
    first, again, other = (
        second(root, tmp_path / name, run).manifest for name, run in (("a", "one"), ("b", "one"), ("c", "mf"))
    )
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.protocol == "log-v1, candidates from oneranker"
    assert first.second_stage
    source = first.source["candidates_from"]
    assert source["method"] == "oneranker"
    assert source["candidates"] == N
    assert source["data"] == sw.load_data(root / "early").manifest.fingerprint
    assert not sw.load_data(root / "early").manifest.second_stage


def test_a_second_stage_trains_where_nothing_of_what_was_shown_is_left(root: Path, tmp_path: Path) -> None:
    from slatewise.methods import goalrank

    data = second(root, tmp_path / "data")
    test = data.split("test").batch(slice(0, 80))
    assert (test.exposed_mask_BE.sum(1) == 0).any()
    ranker = sw.fit("goalrank", data, out=tmp_path / "run", **short_training(goalrank.Config, 2))
    field = [*floors_and_ceilings(data), ranker]
    assert "logged" not in [policy.name for policy in field]
    metrics = ["true-value", "ndcg@4", "within-auc", "gain@4"]
    found = evaluate_policies(field, data, metrics=metrics, config=Config(latency=0, limit=20))
    assert np.isfinite(found.value("goalrank", "true-value")).all()
    assert sorted({row.policy for row in found.table()} & {"retriever", "optimum"}) == [
        "optimum",
        "retriever",
    ]


def test_the_retriever_row_is_the_first_stage_alone(root: Path, stage: FirstStage, tmp_path: Path) -> None:
    data = second(root, tmp_path / "data")
    vocab = FeatureTransform.load(data.path / "transform").items.vocab
    batch = data.split("test").batch(slice(0, 5))
    policy = next(policy for policy in floors_and_ceilings(data) if policy.name == "retriever")
    ranking = policy.rank(batch)
    requests = retrieve_candidates(late(), stage, N, 0).requests.filter(split="test")
    for row, request in enumerate(requests.head(5).iter_rows(named=True)):
        items = vocab.decode(batch.candidates_BN[row][ranking.order_BL[row]].numpy()).to_list()
        best = sorted(zip(request["candidate_scores"], request["candidates"], strict=True), reverse=True)
        assert items == [item for _, item in best[:4]]


def test_what_the_stage_does_not_know_has_its_lowest_score(stage: FirstStage) -> None:
    built = late()
    new = built.requests.with_columns(
        exposed=pl.concat_list(pl.lit("never met"), pl.col("exposed").list.slice(1)),
        candidates=pl.concat_list(pl.lit("never met"), "candidates"),
    )
    found = retrieve_candidates(replace(built, requests=new), stage, N, 0).requests.filter(split="train")
    for row in found.head(5).iter_rows(named=True):
        score = dict(zip(row["candidates"], row["candidate_scores"], strict=True))
        assert score["never met"] == min(score.values())


def test_items_that_are_not_on_offer_yet_are_passed_over(stage: FirstStage) -> None:
    """Half of the catalogue comes late: a request asks on until it has its candidates, or there are no more."""
    built, rng = late(), np.random.default_rng(0)
    assert built.items is not None
    last = int(built.requests["timestamp"].max())  # type: ignore[arg-type]
    coming = pl.Series(np.where(rng.random(built.items.height) < 0.5, last + 1, 0))
    lists = replace(built, items=built.items.with_columns(available_from=coming))
    offered = set(lists.items.filter(available_from=0, organic=False)["item_id"])  # type: ignore[union-attr]
    found = retrieve_candidates(lists, stage, 60, 0).requests.filter(split="test")
    assert all(set(row) <= offered and len(row) == 60 for row in found["candidates"].to_list())
    few = retrieve_candidates(lists, stage, 200, 0)
    assert {len(row) for row in few.requests.filter(split="test")["candidates"].to_list()} == {len(offered)}
    assert few.counts["requests with fewer candidates: no more items on offer"] > 0
    none = replace(lists, items=lists.items.with_columns(available_from=pl.lit(last + 1)))  # type: ignore[union-attr]
    held = retrieve_candidates(none, stage, 5, 0)
    assert held.counts["requests left out: no item on offer"] > 0


def test_features_of_candidates_are_left_out(stage: FirstStage) -> None:
    built = late()
    priced = built.requests.with_columns(candidate_price=pl.col("candidate_scores"))
    found = retrieve_candidates(replace(built, requests=priced), stage, N, 0)
    assert "candidate_price" not in found.requests.columns
    assert found.counts["features of candidates left out: not known of retrieved items"] == 1


def test_a_stage_that_cannot_be_one_is_refused(root: Path, stage: FirstStage, tmp_path: Path) -> None:
    out = tmp_path / "out"
    early = sw.load_data(root / "early")
    sw.fit("dnn", early, out=tmp_path / "dnn", scorer={"train": {"max_steps": 1}})
    with pytest.raises(RunError, match="only orders candidates that it is given"):
        second(tmp_path, out, "dnn")
    with pytest.raises(ConfigError, match="candidates is 3, but must be at least 4"):
        second(root, out, candidates=3)
    with pytest.raises(ConfigError, match="it needs candidates_from"):
        prepare("store-events", out, dataset_options=EVENTS, candidates=20)
    with pytest.raises(DataError, match="was trained on the data set store-events"):
        prepare("store", out, candidates_from=root / "one")
    with pytest.raises(DataError, match="under the protocol log-v1"):
        prepare("store-events", out, dataset_options=EVENTS, candidates_from=root / "one")
    with pytest.raises(DataError, match="another simulated store"):
        prepare(
            "store-events",
            out,
            protocol="log-v1",
            dataset_options=EVENTS | {"world_seed": 1},
            candidates_from=root / "one",
        )
    unknown = replace(stage, manifest=configs.replace(stage.manifest, trained_until=0))
    with pytest.raises(DataError, match="does not say until when"):
        unknown.check("store-events", "log-v1")
    built = late()
    assert built.items is not None
    without = replace(
        built,
        items=built.items.filter(pl.col("item_id").str.ends_with("7").not_()),
        interactions=built.interactions.filter(pl.col("item_id").str.ends_with("7").not_()),  # type: ignore[union-attr]
        requests=built.requests.filter(
            pl.col("candidates").list.eval(pl.element().str.ends_with("7")).list.any().not_()
        ),
    )
    with pytest.raises(DataError, match="which this data set does not have; add it to the table of items"):
        retrieve_candidates(without, stage, N, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dnn"]
