"""goalrank-v1, matched-v1 and rated-v1 on small made-up ratings."""

import numpy as np
import polars as pl
import pytest

from slatewise.candidates import matrix_factorization
from slatewise.data.log import Lists, Log
from slatewise.protocols import _chunks, goalrank_v1, matched_v1, rated_v1

MF = matrix_factorization.Config(factors=4, iterations=3)
CUT = _chunks.Cut(core=1)
CONFIGS = {
    goalrank_v1: goalrank_v1.Config(cut=CUT, retriever=MF, length=3, candidates=15),
    matched_v1: matched_v1.Config(cut=CUT, retriever=MF, length=3, candidates=15),
    rated_v1: rated_v1.Config(cut=CUT, retriever=MF, length=3, candidates=6),
}
NAMES = [module.__name__.rsplit(".", 1)[-1] for module in CONFIGS]


def log(seed: int = 0) -> Log:
    """40 users with 18 to 32 ratings each of 120 items, in scrambled rows."""
    rng = np.random.default_rng(seed)
    frames = [
        pl.DataFrame({
            "user_id": [f"u{user:02d}"] * number, "item_id": rng.permutation(120)[:number],
            "timestamp": rng.permutation(number) * 7,
            "feedback": rng.integers(1, 6, number).astype(np.float32),
        })
        for user, number in enumerate(rng.integers(18, 33, 40))
    ]  # fmt: skip
    users = pl.DataFrame({"user_id": [f"u{user:02d}" for user in range(45)], "age": range(45)})
    items = pl.DataFrame({"item_id": range(150), "year": range(1900, 2050)})
    return Log(
        interactions=pl.concat(frames).sample(fraction=1, shuffle=True, seed=1), users=users, items=items
    )


@pytest.fixture(scope="module", params=list(CONFIGS), ids=NAMES)
def built(request: pytest.FixtureRequest) -> Lists:
    return request.param.build(CONFIGS[request.param], log(), 0)


def test_every_row_is_a_valid_request(built: Lists) -> None:
    for row in built.requests.iter_rows(named=True):
        assert len(set(row["candidates"])) == len(row["candidates"]) == len(row["candidate_scores"])
        assert set(row["exposed"]) <= set(row["candidates"])
        assert len(row["exposed"]) == len(row["feedback_click"]) == len(row["feedback_rating"])
        assert set(row["feedback_click"]) <= {0.0, 1.0}
        assert 1.0 in row["feedback_click"]
        assert np.isfinite(row["candidate_scores"]).all()
    assert set(built.requests["split"]) == {"train", "validation", "test"}
    assert built.requests["request_id"].is_unique().all()


def test_history_is_what_came_before_and_nothing_of_the_list(built: Lists) -> None:
    raw = log().interactions
    assert raw is not None
    assert built.interactions is not None
    for row in built.requests.sample(30, seed=0).iter_rows(named=True):
        own = built.interactions.filter(pl.col("user_id") == row["user_id"])
        before = own.filter(pl.col("timestamp") < row["timestamp"])["item_id"].to_list()
        true = raw.filter(pl.col("user_id") == row["user_id"]).sort("timestamp")["item_id"].to_list()
        place = true.index(row["exposed"][0])
        assert before == true[:place]
        assert row["exposed"] == true[place : place + len(row["exposed"])]
    assert built.interactions["feedback"].max() == 1.0
    assert built.interactions["feedback"].min() == pytest.approx(0.2)


def test_tables_hold_the_kept_users_and_items_with_vectors(built: Lists) -> None:
    assert built.users is not None
    assert built.items is not None
    assert built.item_vectors is not None
    assert built.users.height == 40
    assert built.users["age"].null_count() == 0
    assert built.items.columns == ["item_id", "log_popularity", "year"]
    assert built.item_vectors["item_id"].to_list() == built.items["item_id"].to_list()
    assert built.item_vectors["vector"].list.len().unique().to_list() == [4]


@pytest.mark.parametrize("module", list(CONFIGS), ids=NAMES)
def test_the_same_seed_gives_the_same_lists(module: object) -> None:
    build = module.build  # type: ignore[attr-defined]
    config = CONFIGS[module]  # type: ignore[index]
    first, second, other = build(config, log(), 0), build(config, log(), 0), build(config, log(), 1)
    assert first.requests.equals(second.requests)
    assert not first.requests["candidates"].equals(other.requests["candidates"])


def test_candidates_are_shuffled_and_scores_stay_with_them() -> None:
    """A user's score of an item within one fit is one number, wherever the item stands."""
    lists = goalrank_v1.build(CONFIGS[goalrank_v1], log(), 0).requests.filter(pl.col("split") == "test")
    pairs = lists.explode("candidates", "candidate_scores")
    spread = pairs.group_by("user_id", "candidates").agg(pl.len(), d=pl.col("candidate_scores").n_unique())
    assert (spread["len"] > 1).any()
    assert (spread["d"] == 1).all()
    place = [row["candidates"].index(row["exposed"][0]) for row in lists.iter_rows(named=True)]
    assert len(set(place)) > 5


def test_goalrank_takes_the_best_unseen_items() -> None:
    """In test, all candidates but the exposed are items that the user has not rated in a training list."""
    lists = goalrank_v1.build(CONFIGS[goalrank_v1], log(), 0)
    train = lists.requests.filter(pl.col("split") == "train").explode("exposed")
    seen = {user[0]: set(rows["exposed"]) for user, rows in train.group_by("user_id")}
    for row in lists.requests.filter(pl.col("split") == "test").iter_rows(named=True):
        others = set(row["candidates"]) - set(row["exposed"])
        assert len(others) == 12
        assert not others & seen[row["user_id"]]
    assert lists.unexposed_is_negative
    assert (lists.length, lists.history) == (3, 50)


def test_in_sample_scores_give_training_lists_away() -> None:
    """What cross-fitting is for: in-sample, exposed items of training lists score far above all others."""
    shares = {}
    for fit in ("cross_fit", "in_sample"):
        retriever = matrix_factorization.Config(factors=16, iterations=5, fit=fit)
        config = goalrank_v1.Config(cut=CUT, retriever=retriever, length=3, candidates=15)
        train = goalrank_v1.build(config, log(), 0).requests.filter(pl.col("split") == "train")
        top = [
            row["candidates"][int(np.argmax(row["candidate_scores"]))] in row["exposed"]
            for row in train.iter_rows(named=True)
        ]
        shares[fit] = np.mean(top)
    assert shares["in_sample"] > 0.7  # chance: 3 of 15
    assert shares["cross_fit"] < 0.3


@pytest.mark.parametrize("popularity_binned", [False, True])
def test_matched_negatives_were_never_rated(popularity_binned: bool) -> None:
    config = matched_v1.Config(
        cut=CUT, retriever=MF, length=3, candidates=15, bin_first=8, bin_last=30,
        popularity_binned=popularity_binned,
        popularity_width=5,
    )  # fmt: skip
    interactions = log().interactions
    assert interactions is not None
    rated = {user[0]: set(rows["item_id"]) for user, rows in interactions.group_by("user_id")}
    for row in matched_v1.build(config, log(), 0).requests.iter_rows(named=True):
        others = set(row["candidates"]) - set(row["exposed"])
        assert len(others) == 12
        assert not others & rated[row["user_id"]]


def test_rated_shows_everything_and_scores_are_optional() -> None:
    config = CONFIGS[rated_v1]
    lists = rated_v1.build(config, log(), 0)
    assert not lists.unexposed_is_negative
    for row in lists.requests.iter_rows(named=True):
        assert set(row["exposed"]) == set(row["candidates"])
        assert len(row["exposed"]) == 6
        assert row["feedback_click"] == [float(stars == 5) for stars in row["feedback_rating"]]
    bare = rated_v1.build(
        rated_v1.Config(cut=CUT, retriever=MF, length=3, candidates=6, scores=False), log(), 0
    )
    assert "candidate_scores" not in bare.requests.columns
    assert bare.requests.equals(lists.requests.drop("candidate_scores"))
    assert bare.item_vectors is not None
