"""The protocols on the real MovieLens-1M: golden facts, floors, and leaks."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from slatewise.data.datasets import movielens_1m
from slatewise.data.geometry import score_geometry
from slatewise.data.log import Lists, Log
from slatewise.protocols import _chunks, catalogue_v1, degre_v1, goalrank_v1, matched_v1

DATA = Path(os.environ.get("SLATEWISE_DATA", Path(__file__).resolve().parents[3] / ".." / "shared" / "data"))
pytestmark = pytest.mark.skipif(not (DATA / "ml-1m").is_dir(), reason="the MovieLens-1M files are not here")


@pytest.fixture(scope="module")
def log() -> Log:
    return movielens_1m.load(movielens_1m.Config(), DATA / "ml-1m")


def part(log: Log) -> Log:
    """Every eighth user, so that a build takes seconds."""
    assert log.interactions is not None
    return Log(
        interactions=log.interactions.filter(pl.col("user_id") % 8 == 0), users=log.users, items=log.items
    )


class Table:
    """Scores, exposure and clicks of one split as arrays, candidates sorted by score."""

    def __init__(self, lists: Lists, split: str) -> None:
        rows = lists.requests.filter(pl.col("split") == split)
        item_BN, score_BN, shown_BE, click_BE = (
            rows[name].explode().to_numpy().reshape(rows.height, -1)
            for name in ("candidates", "candidate_scores", "exposed", "feedback_click")
        )
        match_BNE = item_BN[:, :, None] == shown_BE[:, None, :]
        order_BN = np.argsort(-score_BN, axis=1)
        self.score_BN = np.take_along_axis(score_BN, order_BN, axis=1).astype(np.float64)
        self.shown_BN = np.take_along_axis(match_BNE.any(axis=2), order_BN, axis=1)
        self.click_BN = np.take_along_axis((match_BNE * click_BE[:, None, :]).sum(axis=2), order_BN, axis=1)

    def features(self) -> np.ndarray:
        full = np.ones(self.score_BN.shape, dtype=bool)
        return np.concatenate([self.score_BN[..., None], score_geometry(self.score_BN, full)], axis=2)


def auc(score_BN: np.ndarray, label_BN: np.ndarray) -> float:
    """Mean per-request AUC; ties are broken at random."""
    noise_BN = np.random.default_rng(0).random(score_BN.shape)
    rank_BN = np.lexsort((noise_BN, score_BN), axis=1).argsort(axis=1)
    positive_B = label_BN.sum(axis=1)
    above_B = (rank_BN * label_BN).sum(axis=1) - positive_B * (positive_B - 1) / 2
    return float((above_B / (positive_B * (label_BN.shape[1] - positive_B))).mean())


def geometry_auc(lists: Lists, requests: int = 3000) -> float:
    train, test = Table(lists, "train"), Table(lists, "test")
    rows = np.random.default_rng(0).choice(
        len(train.score_BN), min(requests, len(train.score_BN)), replace=False
    )
    trees = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    trees.fit(train.features()[rows].reshape(-1, 5), train.shown_BN[rows].ravel())
    rows = np.random.default_rng(1).choice(
        len(test.score_BN), min(requests, len(test.score_BN)), replace=False
    )
    chance = trees.predict_proba(test.features()[rows].reshape(-1, 5))[:, 1].reshape(len(rows), -1)
    return auc(chance, test.shown_BN[rows])


def inverted_precision(lists: Lists) -> float:
    """Precision@6, in percent, of the six lowest scores."""
    return 100 * float(Table(lists, "test").click_BN[:, -6:].mean())


def test_golden_facts(log: Log) -> None:
    counts = _chunks.cut(log, _chunks.Cut(), 6, 3.0).counts
    wanted = {"interactions": 995_154, "items": 3_043, "users": 6_022, "chunks": 163_348, "lists": 161_685}
    assert {name: counts[name] for name in wanted} == wanted


def test_golden_facts_without_a_core(log: Log) -> None:
    """degre-v1: ratings, users and items of DeGRe's Table 1."""
    counts = _chunks.cut(log, _chunks.Cut(core=1), 6, -np.inf).counts
    wanted = {"interactions": 1_000_209, "items": 3_706, "users": 6_040, "lists": 164_174}
    assert {name: counts[name] for name in wanted} == wanted


@pytest.mark.slow
def test_golden_facts_of_degre(log: Log) -> None:
    """The last list of each of 3,020 users tests; 36 % of these lists have no 5 stars."""
    requests = degre_v1.build(degre_v1.Config(vectors=2), log, 0).requests
    splits = {"train": 78_613, "validation": 3_020, "test": 3_020, "judges": 79_521}
    assert dict(requests["split"].value_counts().iter_rows()) == splits
    positives = requests.filter(pl.col("split") == "test")["feedback_click"].list.sum()
    assert positives.sum() == 4_330
    assert (positives == 0).sum() == 1_084


def test_matched_does_not_leak_on_an_eighth_of_the_users(log: Log) -> None:
    lists = matched_v1.build(matched_v1.Config(), part(log), 0)
    test = Table(lists, "test")
    assert auc(test.score_BN, test.shown_BN) == pytest.approx(0.5, abs=0.03)
    assert geometry_auc(lists, 1500) <= 0.54


def test_goalrank_floor_on_an_eighth_of_the_users(log: Log) -> None:
    """Upside down, the retriever finds most of what was shown; with fewer users it is a weaker retriever."""
    lists = goalrank_v1.build(goalrank_v1.Config(), part(log), 0)
    assert 60 <= inverted_precision(lists) <= 75
    assert geometry_auc(lists, 1500) >= 0.85  # the same trees that find nothing in matched-v1


@pytest.mark.slow
@pytest.mark.parametrize("popularity_binned", [False, True])
def test_matched_does_not_leak(log: Log, popularity_binned: bool) -> None:
    lists = matched_v1.build(matched_v1.Config(popularity_binned=popularity_binned), log, 0)
    test = Table(lists, "test")
    assert auc(test.score_BN, test.shown_BN) == pytest.approx(0.5, abs=0.03)
    assert geometry_auc(lists) <= 0.54


@pytest.mark.slow
def test_goalrank_floors(log: Log) -> None:
    lists = goalrank_v1.build(goalrank_v1.Config(), log, 0)
    test = Table(lists, "test")
    assert 70 <= inverted_precision(lists) <= 75
    assert 100 * test.click_BN[:, :6].mean() <= 3
    assert 100 * test.click_BN.sum() / (6 * len(test.click_BN)) == pytest.approx(81.7, abs=0.1)


def test_catalogue_v1_has_the_known_counts_and_popularity_tells_next_to_nothing(log: Log) -> None:
    """Every user but one has a rating of 3 or more; among 30 candidates chance is 3.3 %."""
    lists = catalogue_v1.build(catalogue_v1.Config(vectors=0), log, 0)
    splits = dict(lists.requests["split"].value_counts().iter_rows())
    assert splits == {"train": 48_297, "validation": 6_038, "test": 6_039}
    assert lists.counts["items of the catalogue"] == 3_883
    assert lists.counts["items of the catalogue that training never saw"] == 179
    assert lists.training_interactions is not None
    assert lists.training_interactions.height == 983_753
    assert (lists.requests["candidates"].list.len() == 30).all()
    tests = lists.requests.filter(split="test")
    trained = lists.training_interactions.filter(pl.col("feedback_click") > 0)["item_id"]
    count = dict(trained.value_counts().iter_rows())
    hits = [
        max(row["candidates"], key=lambda item: count.get(item, 0)) == row["exposed"][0]
        for row in tests.select("candidates", "exposed").iter_rows(named=True)
    ]
    assert 0.03 < np.mean(hits) < 0.07
