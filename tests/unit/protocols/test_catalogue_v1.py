"""catalogue-v1: targets and their split by hand, candidates against their rules, and nothing of the future in training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import slatewise as sw
from slatewise.config import build
from slatewise.data.features import FeatureTransform
from slatewise.data.log import Lists, Log
from slatewise.data.prepared import PreparedData, load_data
from slatewise.errors import ConfigError, DataError
from slatewise.evaluation.offline import default_metrics
from slatewise.evaluation.policies import floors_and_ceilings
from slatewise.evaluation.truth import Truth
from slatewise.protocols import catalogue_v1
from slatewise.protocols._events import _distinct, read_events
from slatewise.protocols.prepare import prepare
from slatewise.testing.fixtures import EVENTS, events_log, ratings_log

FEW: dict[str, Any] = {"vectors": 4, "candidates": 12, "length": 5, "history": 30}


def make(log: Log, **options: Any) -> Lists:
    return catalogue_v1.build(build(catalogue_v1.Config, FEW | options), log, 0)


def clicks(rows: list[tuple[str, int, int, float]], **table: Any) -> Log:
    """A log of (user, item, time, click), with items 0 to 29 in the table."""
    frame = pl.DataFrame(rows, ["user_id", "item_id", "timestamp", "feedback_click"], orient="row")
    return Log(
        interactions=frame, items=pl.DataFrame({"item_id": list(range(30)), **table}), counts={"rows": 1}
    )


def others(requests: pl.DataFrame) -> pl.Series:
    """The candidates that are not the target."""
    return requests.select(pl.col("candidates").list.set_difference("exposed")).to_series()


@pytest.fixture(scope="module")
def lists() -> Lists:
    return make(events_log())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    out = tmp_path_factory.mktemp("catalogue") / "data"
    prepare("store-events", None, None, out, dataset_options=EVENTS, protocol_options=FEW)
    return load_data(out)


def test_targets_and_their_split_by_hand() -> None:
    """User a clicks 1, 2, 3, 4, 5 (and 9 is only shown); b clicks 6, 7, 8 of which the last two at one moment."""
    rows = [("a", item, 10 * item, 1.0) for item in (5, 3, 1, 4, 2)] + [("a", 9, 35, 0.0)]
    rows += [("b", 6, 7, 1.0), ("b", 7, 9, 1.0), ("b", 8, 9, 1.0)]
    built = make(clicks(rows), train_requests=2, candidates=3, length=2)
    got = built.requests.sort("user_id", "timestamp").select(
        "user_id", pl.col("exposed").list.first(), "split"
    )
    assert got.rows() == [
        ("a", 2, "train"),
        ("a", 3, "train"),
        ("a", 4, "validation"),
        ("a", 5, "test"),
        ("b", 6, "train"),
        ("b", 7, "validation"),
        ("b", 8, "test"),
    ]
    training = built.training_interactions
    assert training is not None
    assert training.rows_by_key("user_id", named=True, include_key=True)["b"][0]["item_id"] == 6
    by_user = {user[0]: rows["item_id"].to_list() for user, rows in training.group_by("user_id")}
    assert by_user == {"a": [1, 2, 3, 9], "b": [6]}
    assert built.counts["test requests whose target training never saw"] == 2  # 5 and 8
    assert built.counts["items of the catalogue that training never saw"] == 25


def test_a_target_as_old_as_the_validation_target_trains_nobody() -> None:
    """Three clicks at one moment: the last two in the order of rows are held out, the first is dropped."""
    rows = [("a", 1, 5, 1.0), ("a", 2, 9, 1.0), ("a", 3, 9, 1.0), ("a", 4, 9, 1.0)]
    rows += [("b", item, item, 1.0) for item in range(10, 16)]
    built = make(clicks(rows), candidates=3, length=2)
    assert built.requests.filter(user_id="a")["exposed"].list.first().to_list() == [1, 3, 4]
    assert built.training_interactions is not None
    assert built.training_interactions.filter(user_id="a")["item_id"].to_list() == [1]


def test_histories_end_strictly_before_the_target(data: PreparedData) -> None:
    log, transform = events_log(), FeatureTransform.load(data.path / "transform")
    assert log.interactions is not None
    for split in ("train", "validation", "test"):
        opened = data.split(split)
        batch = opened.batch(slice(0, len(opened)))
        assert (batch.history_time_BH < batch.time_B[:, None])[batch.history_mask_BH].all()
        for row in range(0, batch.size, 17):
            user = transform.users.vocab.decode([int(batch.user_B[row])])[0]
            before = log.interactions.filter(
                pl.col("user_id") == user, pl.col("timestamp") < int(batch.time_B[row])
            )
            seen = transform.items.vocab.decode(batch.history_BH[row][batch.history_mask_BH[row]].numpy())
            assert seen.to_list() == before["item_id"].tail(30).to_list()


def test_every_request_has_its_target_among_distinct_candidates_that_are_new(lists: Lists) -> None:
    log = events_log()
    assert log.interactions is not None
    assert log.items is not None
    organic = set(log.items.filter("organic")["item_id"])
    met = log.interactions.select("user_id", "item_id", "timestamp").rows()
    places = []
    for row in lists.requests.iter_rows(named=True):
        offered = set(row["candidates"])
        assert len(offered) == len(row["candidates"]) == 12
        assert not offered & organic
        places.append(row["candidates"].index(row["exposed"][0]))
        earlier = {item for user, item, time in met if user == row["user_id"] and time <= row["timestamp"]}
        assert offered & earlier == set(row["exposed"])
    assert np.bincount(places, minlength=12).min() > len(places) / 24
    assert (lists.requests["feedback_click"].list.first() == 1).all()


def test_negatives_are_as_likely_as_they_are_targets() -> None:
    """400 users whose test targets are item 0 in half, 1 in a quarter, 2 and 3 else."""
    rows: list[tuple[str, int, int, float]] = []
    rng = np.random.default_rng(0)
    for user in range(400):
        test = int(rng.choice([0, 1, 2, 3], p=[0.5, 0.25, 0.15, 0.1]))
        for time, item in enumerate([10 + user % 7, 20 + user % 7, test]):
            rows.append((f"u{user}", item, time, 1.0))
    built = make(clicks(rows), candidates=2, length=1)
    tests = built.requests.filter(split="test", exposed=[3])
    other = others(tests).list.first()
    share = (other == 0).mean()
    assert share == pytest.approx(0.5 / 0.9, abs=0.15)
    assert set(other) <= {0, 1, 2}
    uniform = make(clicks(rows), candidates=2, length=1, negatives="uniform")
    drawn = others(uniform.requests.filter(split="test")).list.first()
    assert drawn.n_unique() > 25  # items that are nobody's target, too


@pytest.mark.parametrize("negatives", ["targets", "uniform"])
def test_training_requests_offer_only_what_training_interactions_have(negatives: str) -> None:
    built = make(events_log(), negatives=negatives)
    assert built.training_interactions is not None
    trained = set(built.training_interactions["item_id"])
    offered = built.requests.filter(split="train")["candidates"].explode()
    assert set(offered) <= trained
    late = built.requests.filter(split="test")["candidates"].explode()
    assert set(late) - trained


def test_items_that_training_never_saw_have_no_trained_index(data: PreparedData) -> None:
    transform = FeatureTransform.load(data.path / "transform")
    assert data.manifest.counts["test requests whose target training never saw"] > 0
    test = data.split("test")
    truth = test.columns["candidates"][np.arange(len(test)), test.columns["exposed"][:, 0]]
    new = truth >= data.schema.trained_items
    assert new.sum() == data.manifest.counts["test requests whose target training never saw"]
    catalogue = ~data.items.organic[1:]
    assert catalogue.sum() == data.manifest.counts["items of the catalogue"] == 240
    unseen = catalogue & (np.arange(1, data.schema.items) >= data.schema.trained_items)
    assert unseen.sum() == data.manifest.counts["items of the catalogue that training never saw"]
    assert data.items.vector[data.schema.trained_items :].any() == np.False_
    popularity = data.schema.item_numeric.index("log_popularity")
    lowest = data.items.numeric[1:, popularity].min()
    assert (data.items.numeric[data.schema.trained_items :, popularity] == lowest).all()
    assert len(transform.items.vocab) == 301


def test_sequences_stop_before_the_first_held_out_request(data: PreparedData) -> None:
    log, first = data.interactions(), dict[int, int]()
    for split in ("validation", "test"):
        columns = data.split(split).columns
        for user, time in zip(columns["user"], columns["time"], strict=True):
            first[int(user)] = min(first.get(int(user), time), time)
    for user, end in zip(log.user_S, log.end_S, strict=True):
        assert log.columns["time"][end - 1] < first.get(int(user), np.inf)
    assert len(log) == data.manifest.counts["training interactions"]
    assert log.windows(16).batch(slice(0, 20)).organic_BT.any()


def test_ratings_become_a_funnel() -> None:
    built = make(ratings_log(), target="conversion")
    frame = built.interactions
    assert frame is not None
    stars = {1.0: 0, 2.0: 0, 3.0: 1, 4.0: 2, 5.0: 3}
    rating = ratings_log().interactions
    assert rating is not None
    joined = frame.join(rating.rename({"feedback": "stars"}), on=["user_id", "item_id"])
    kinds = joined.select(pl.sum_horizontal("^feedback_.*$")).to_series()
    assert kinds.to_list() == [stars[star] for star in joined["stars"]]
    assert joined["feedback"].to_list() == pytest.approx([stars[star] / 3 for star in joined["stars"]])
    assert built.target == {"conversion": 1.0}
    two = make(ratings_log(), thresholds=[4, 5])
    assert two.interactions is not None
    assert [name for name in two.interactions.columns if name.startswith("feedback_")] == [
        "feedback_click",
        "feedback_conversion",
    ]


def test_ratings_of_one_moment_follow_one_another_unless_their_clock_counts() -> None:
    log = ratings_log()
    assert log.interactions is not None
    burst = replace(log, interactions=log.interactions.with_columns(pl.col("timestamp") // (10 * 86_400)))
    plain, crowded = make(log), make(burst)
    assert crowded.requests.equals(plain.requests)
    assert plain.requests["timestamp"].max() == 48
    timed = make(burst, clock=True)
    assert timed.requests["timestamp"].max() == 4
    train = timed.requests.filter(split="train").group_by("user_id").agg(pl.max("timestamp"))
    held = timed.requests.filter(split="validation").select("user_id", first="timestamp")
    assert train.join(held, on="user_id").select((pl.col("timestamp") < pl.col("first")).all()).item()


def test_requests_alone_are_followed_through_time_as_well() -> None:
    log = replace(events_log(), interactions=None)
    built = make(log)
    assert log.requests is not None
    assert built.interactions is not None
    assert built.interactions.height == log.requests["exposed"].list.len().sum()
    assert "context_page" in built.requests.columns


def test_repeats_are_targets_only_if_allowed() -> None:
    rows = [("a", item, time, 1.0) for time, item in enumerate([1, 2, 3, 1, 2])]
    rows += [("b", item, time, 1.0) for time, item in enumerate([4, 5, 6, 7, 8])]
    once = make(clicks(rows), candidates=4, length=2)
    assert once.counts["targets left out: the user met the item before"] == 2
    assert once.requests.filter(user_id="a", split="test")["exposed"].to_list() == [[3]]
    again = make(clicks(rows), candidates=4, length=2, repeats=True)
    assert again.requests.filter(user_id="a", split="test")["exposed"].to_list() == [[2]]
    offered = make(clicks(rows), candidates=8, length=2, repeats=True, negatives="uniform").requests
    train = others(offered.filter(user_id="a", split="train"))
    assert set(train.explode()) & {1, 2}  # candidates may have been met, as targets may


def test_where_items_run_out_requests_have_fewer_candidates_and_are_counted() -> None:
    rows = [(user, item, item, 1.0) for user in "abc" for item in range(4)]
    rows += [("d", item, item, 1.0) for item in (7, 8, 9)]
    built = make(clicks(rows), candidates=10, length=2, vectors=0)
    assert built.counts["requests with fewer candidates: no more items to draw"] == built.requests.height
    sizes = built.requests["candidates"].list.len()
    assert sizes.max() < 10
    assert built.item_vectors is None


def test_content_is_never_a_target_nor_a_candidate_but_in_histories() -> None:
    organic = [item % 2 == 0 for item in range(30)]
    rows = [(user, item, item, 1.0) for user in "abcd" for item in range(12)]
    built = make(clicks(rows, organic=organic), candidates=5, length=2, negatives="uniform")
    offered = set(built.requests["candidates"].explode())
    assert all(item % 2 for item in offered)
    assert built.interactions is not None
    assert set(built.interactions["item_id"]) == set(range(12))


def test_the_true_value_of_the_catalogue_and_no_search_for_lists_of_fifteen(tmp_path: Path) -> None:
    options = FEW | {"candidates": 30, "length": 15}
    prepare("store-events", None, None, tmp_path / "d", dataset_options=EVENTS, protocol_options=options)
    data = load_data(tmp_path / "d")
    names = [policy.name for policy in floors_and_ceilings(data)]
    assert "true-item-sort" in names
    assert "optimum" not in names
    assert "oracle-share" not in default_metrics(data)
    truth, batch = Truth(data), data.split("test").batch(slice(0, 9))
    with pytest.raises(ConfigError, match="the best list of 15 out of 30 candidates cannot be searched"):
        truth.optimum(batch, "test")
    every = truth.alone(batch)
    assert (every[:, 1:] > 0).all()
    best = truth.item_sort(batch).order_BL[:, 0]
    values = every.gather(1, batch.candidates_BN)
    assert (values.gather(1, best[:, None])[:, 0] == values.max(1).values).all()


def test_a_method_for_lists_trains_on_it_and_answers_alike_online(data: PreparedData, tmp_path: Path) -> None:
    ranker = sw.fit("dnn", data, out=tmp_path / "run", scorer={"train": {"max_steps": 3}})
    examples = pl.read_parquet(data.path / "examples.parquet")
    assert {"history_timestamp", "history_context_page", "context_page", "timestamp"} <= set(examples.columns)
    served, prepared = ranker.transform.batch(examples), data.split("test").batch(slice(0, examples.height))
    for name in ("time_B", "history_time_BH", "history_context_categories_BHC", "history_organic_BH"):
        assert (getattr(served, name) == getattr(prepared, name)).all(), name
    assert prepared.history_organic_BH.any()
    assert ranker.rank(examples).height == examples.height * 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target": "clicks"},
            "target is 'clicks', but the log's feedback is click, .* Did you mean 'click'",
        ),
        ({"length": 20}, "length is 20, but there are only 12 candidates"),
        ({"train_requests": 0}, "train_requests is 0, but must be at least 1"),
        ({"candidates": 1, "length": 1}, "candidates is 1, but must be at least 2"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(events_log(), **options)


@pytest.mark.parametrize("thresholds", [[], [5, 4], [1, 2, 3, 4], [3, 3]])
def test_bad_thresholds_are_named(thresholds: list[float]) -> None:
    with pytest.raises(ConfigError, match="must be one to three rising numbers"):
        make(ratings_log(), thresholds=thresholds)


def test_bad_logs_are_named() -> None:
    with pytest.raises(DataError, match="no interactions, and its requests lack one of"):
        make(Log(requests=pl.DataFrame({"candidates": [[1]], "exposed": [[1]]})))
    with pytest.raises(DataError, match="no interaction with a user, an item and a time"):
        make(clicks([("a", 1, None, 1.0)]))  # type: ignore[list-item]
    with pytest.raises(DataError, match="no interaction has a positive feedback_click"):
        make(clicks([("a", 1, 1, 0.0)]))
    with pytest.raises(DataError, match="the train split has none"):
        make(clicks([("a", 1, 1, 1.0), ("a", 2, 2, 1.0)]))
    lost = clicks([("a", 1, 1, 1.0)] + [("b", i, i, 1.0) for i in range(5)])
    assert lost.interactions is not None
    half = lost.interactions.with_columns(
        user_id=pl.when(pl.col("item_id") == 4).then(None).otherwise("user_id")
    )
    assert (
        make(replace(lost, interactions=half), candidates=3, length=2).counts[
            "interactions left out: no user, item or time"
        ]
        == 1
    )


def test_ids_and_times_of_any_type() -> None:
    log = events_log()
    assert log.interactions is not None
    moments = log.interactions.with_columns(pl.from_epoch("timestamp"))
    other = make(replace(log, interactions=moments))
    plain = make(log)
    assert other.requests.drop("timestamp").equals(plain.requests.drop("timestamp"))
    integers = clicks([("a", item, item, 1.0) for item in range(6)])
    assert make(integers, candidates=3, length=2).requests["candidates"].dtype == pl.List(pl.Int64)


PAIRS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=30)


@given(PAIRS)
def test_what_was_met_before_equals_a_naive_loop(rows: list[tuple[int, int, int]]) -> None:
    frame = pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row").with_columns(
        feedback=pl.lit(5.0)
    )
    events = read_events(Log(interactions=frame), (1.0,), {})
    every = np.arange(len(events.items))
    got = events.met(np.arange(len(rows)), np.tile(every, (len(rows), 1)))
    triples = list(zip(events.user_n, events.item_n, events.time_n, strict=True))
    for row, (user, _, time) in enumerate(triples):
        wanted = [any((u, i) == (user, item) and t <= time for u, i, t in triples) for item in every]
        assert got[row].tolist() == wanted
    assert events.first_n().sum() == len(set(frame.select("user_id", "item_id").rows()))


@given(st.lists(st.lists(st.integers(-1, 5), min_size=4, max_size=4), min_size=1, max_size=6))
def test_distinct_keeps_the_first_of_each(rows: list[list[int]]) -> None:
    got = _distinct(np.array(rows))
    for row, kept in zip(rows, got.tolist(), strict=True):
        wanted = list(dict.fromkeys(item for item in row if item >= 0))
        assert kept == wanted + [-1] * (4 - len(wanted))
