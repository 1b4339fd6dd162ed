"""From ratings to lists: the core, the chunks, the split, by hand."""

import numpy as np
import polars as pl
import pytest

from slatewise.data.log import Log
from slatewise.errors import DataError
from slatewise.protocols import _chunks


def ratings(rows: list[tuple[object, object, int, float]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "feedback"], orient="row")


def test_the_core_is_taken_again_until_nothing_changes() -> None:
    """Dropping user 3 (one rating) leaves item c one user; dropping c leaves user 2 one rating."""
    full = [(1, "a", 0, 5.0), (1, "b", 1, 5.0), (4, "a", 0, 5.0), (4, "b", 1, 5.0)]
    chain = [(2, "a", 0, 5.0), (2, "c", 1, 5.0), (3, "c", 0, 5.0)]
    kept = _chunks.k_core(ratings(full + chain), 2)
    assert sorted(kept.rows()) == sorted(full)


def test_time_becomes_the_rank_and_ties_keep_their_order() -> None:
    table = _chunks.in_order(
        ratings([(2, "x", 9, 1.0), (1, "a", 50, 1.0), (1, "b", 20, 1.0), (1, "c", 50, 1.0)])
    )
    assert table.rows() == [(1, "b", 0, 1.0), (1, "a", 1, 1.0), (1, "c", 2, 1.0), (2, "x", 0, 1.0)]


def test_chunks_tails_and_lists_without_a_positive() -> None:
    """User 7: chunks (5 4)(1 2)(3 1) and a tail; user 8: one chunk. The chunk (1 2) has no positive."""
    stars = [(7, s) for s in (5, 4, 1, 2, 3, 1, 5)] + [(8, s) for s in (3, 3)]
    table = ratings([(user, 100 + n, n, float(s)) for n, (user, s) in enumerate(stars)])
    chunks = _chunks.cut(Log(interactions=table), _chunks.Cut(core=1), 2, 3.0)
    assert chunks.item_ids.gather(chunks.items_RE.ravel()).to_list() == [100, 101, 104, 105, 107, 108]
    assert chunks.rating_RE.tolist() == [[5, 4], [3, 1], [3, 3]]
    assert chunks.user_ids.gather(chunks.user_R).to_list() == [7, 7, 8]
    assert chunks.start_R.tolist() == [0, 4, 0]
    assert chunks.list_n.tolist() == [0, 0, -1, -1, 1, 1, -1, 2, 2]
    assert chunks.counts == {
        "interactions": 9, "users": 2, "items": 9, "chunks": 4, "lists": 3, "chunks left out: no positive": 1,
        "interactions left out: sparse users and items": 0, "interactions left out: tail of a user": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lists", "split"),
    [(1, "0"), (2, "01"), (3, "002"), (5, "00002"), (7, "0000012"), (10, "0000000122")],
)
def test_the_split_by_hand(lists: int, split: str) -> None:
    """Cuts at 0.7 n and 0.8 n, rounded half up: for n = 5 both are 4, for n = 7 they are 5 and 6."""
    assert "".join(map(str, _chunks.split(np.zeros(lists, np.int64), _chunks.Cut()))) == split


def test_every_user_is_split_alone_and_in_time() -> None:
    user_R = np.repeat([3, 4, 9], [10, 1, 20])
    split_R = _chunks.split(user_R, _chunks.Cut())
    for user, counts in ((3, [7, 1, 2]), (4, [1, 0, 0]), (9, [14, 2, 4])):
        own = split_R[user_R == user]
        assert np.bincount(own, minlength=3).tolist() == counts
        assert (np.diff(own) >= 0).all()


def test_training_interactions_are_those_of_training_lists() -> None:
    table = ratings([(1, n, n, 5.0) for n in range(21)])
    chunks = _chunks.cut(Log(interactions=table), _chunks.Cut(core=1), 2, 3.0)
    assert chunks.training().item_n.tolist() == list(range(14))
    assert chunks.training().list_n.tolist() == np.repeat(np.arange(7), 2).tolist()
    assert chunks.requests().training_R.tolist() == [True] * 7 + [False] * 3


@pytest.mark.parametrize("table", [None, [], [(1, "a", 0, 5.0)], [(1, n, n, 1.0) for n in range(30)]])
def test_too_little_data_is_one_sentence(table: list[tuple[object, object, int, float]] | None) -> None:
    interactions = ratings([(1, "a", 0, 5.0)])[:0] if table == [] else ratings(table) if table else None
    with pytest.raises(DataError):
        _chunks.cut(Log(interactions=interactions), _chunks.Cut(core=1), 6, 3.0)
