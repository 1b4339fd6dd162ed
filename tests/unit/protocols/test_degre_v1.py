"""degre-v1: leave-one-out by hand, what users and items a list may have, and two halves that share nobody."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from slatewise.data.log import Lists, Log
from slatewise.protocols import degre_v1
from slatewise.testing.fixtures import ratings_log

CONFIG = degre_v1.Config(vectors=4)


@pytest.fixture(scope="module")
def built() -> Lists:
    return degre_v1.build(CONFIG, ratings_log(), 0)


def test_leave_one_out_by_hand() -> None:
    """Users of four, one and two lists: train (0) comes before validation (1), and that before test (2)."""
    assert degre_v1.leave_one_out(np.array([3, 3, 3, 3, 5, 7, 7])).tolist() == [0, 0, 1, 2, 2, 1, 2]


def test_a_list_has_six_shown_and_six_never_rated_in_random_order(built: Lists) -> None:
    interactions = ratings_log().interactions
    assert interactions is not None
    rated = {user[0]: set(rows["item_id"]) for user, rows in interactions.group_by("user_id")}
    places = []
    for row in built.requests.iter_rows(named=True):
        others = set(row["candidates"]) - set(row["exposed"])
        assert len(row["candidates"]) == len(set(row["candidates"])) == 12
        assert len(row["exposed"]) == len(others) == 6
        assert not others & rated[row["user_id"]]
        assert row["feedback_click"] == [float(stars >= 5) for stars in row["feedback_rating"]]
        places.append(row["candidates"].index(row["exposed"][0]))
    assert np.bincount(places, minlength=12).min() > len(places) / 24  # even: len / 12
    assert built.requests["feedback_click"].list.sum().min() == 0  # lists without a positive stay


def test_each_user_is_in_one_half_and_has_one_test_list(built: Lists) -> None:
    """60 users of 8 lists: 30 learn, validate and are tested, 30 are the judges'."""
    counts = dict(built.requests["split"].value_counts().iter_rows())
    assert counts == {"train": 180, "validation": 30, "test": 30, "judges": 240}
    of = {split[0]: set(rows["user_id"]) for split, rows in built.requests.group_by("split")}
    assert of["train"] == of["validation"] == of["test"]
    assert not of["train"] & of["judges"]
    last = built.requests.group_by("user_id").agg(pl.all().sort_by("timestamp").last())
    assert set(last.filter(pl.col("split") != "judges")["split"]) == {"test"}


def test_items_learn_from_the_rankers_half_alone(built: Lists) -> None:
    """Popularity and start vectors stay the same whatever the judges' users do."""
    log = ratings_log()
    theirs = built.requests.filter(pl.col("split") == "judges")["user_id"].unique()
    assert log.interactions is not None
    changed = log.interactions.with_columns(
        item_id=pl.when(pl.col("user_id").is_in(theirs.implode()))
        .then((pl.col("item_id") + 7) % 160)
        .otherwise(pl.col("item_id"))
    )
    other = degre_v1.build(CONFIG, Log(interactions=changed, items=log.items), 0)
    assert built.items is not None
    assert other.items is not None
    assert other.items.equals(built.items)
    assert built.item_vectors is not None
    assert other.item_vectors is not None
    assert other.item_vectors.equals(built.item_vectors)


def test_negatives_run_out_and_half_of_nobody() -> None:
    """A user who rated all but two items has two negatives; with ``judge_users = 0`` there are no judges."""
    log = ratings_log(users=8, items=26, each=24)
    built = degre_v1.build(degre_v1.Config(vectors=2, judge_users=0.0), log, 0)
    assert built.requests["candidates"].list.len().unique().to_list() == [8]
    assert set(built.requests["split"]) == {"train", "validation", "test"}
