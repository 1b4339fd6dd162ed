"""Splits in time: the future is never trained on."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slatewise.data.split import check_split, split_by_time, split_by_user
from slatewise.errors import ConfigError, DataError

RANK = {"train": 0, "validation": 1, "test": 2}


@given(st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=60))
def test_time_split_is_sorted_and_has_its_shares(times):
    split = split_by_time(pl.Series(times, dtype=pl.Int64), 0.1, 0.2)
    order = sorted(range(len(times)), key=lambda row: (-1 if times[row] is None else times[row], row))
    ranks = [RANK[split[row]] for row in order]
    assert ranks == sorted(ranks)
    assert ranks.count(2) == int(len(times) * 0.2 + 1e-9)
    assert ranks.count(0) == len(times) - int(len(times) * 0.3 + 1e-6)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=60))
def test_user_split_is_the_time_split_of_each_user(rows):
    users, times = (
        pl.Series([u for u, _ in rows], dtype=pl.String),
        pl.Series([t for _, t in rows], dtype=pl.Int64),
    )
    split = split_by_user(users, times, 0.1, 0.2)
    for user in "ab":
        mine = users == user
        assert split.filter(mine).to_list() == split_by_time(times.filter(mine), 0.1, 0.2).to_list()


def test_ten_requests():
    split = split_by_time(pl.Series([9, 8, 7, 6, 5, 4, 3, 2, 1, 0]), 0.1, 0.2)
    assert split.to_list() == ["test", "test", "validation", *["train"] * 7]


@pytest.mark.parametrize("shares", [(-0.1, 0.2), (0.5, 0.5), (0.9, 0.3)])
def test_bad_shares(shares):
    with pytest.raises(ConfigError, match="leave a share to train on"):
        split_by_time(pl.Series([1, 2]), *shares)


def test_an_empty_split_is_refused_where_it_is_needed():
    split = pl.Series(["train", "test"])
    check_split(split, ("train", "test"))
    with pytest.raises(DataError, match="the validation split has none of the 2 requests"):
        check_split(split)
