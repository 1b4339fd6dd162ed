"""Ids to indices and back, in either type, at every size."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slatewise.data.vocab import Vocab
from slatewise.errors import DataError


def test_indices_start_at_one_and_each_group_is_sorted():
    vocab = Vocab.of(pl.Series([30, 10]), pl.Series([20, 10, 5]))
    assert len(vocab) == 5
    assert vocab.encode(pl.Series([10, 30, 5, 20, 99])).tolist() == [1, 2, 3, 4, 0]
    assert vocab.decode(np.array([0, 1, 4])).to_list() == [None, 10, 20]


@given(
    st.lists(st.integers(-(2**62), 2**62), max_size=30), st.lists(st.integers(-(2**62), 2**62), max_size=30)
)
def test_integers_round_trip_and_others_are_unknown(known, asked):
    vocab = Vocab.of(pl.Series(known, dtype=pl.Int64))
    codes = vocab.encode(pl.Series(known + asked, dtype=pl.Int64))
    expected = [value if value in known else None for value in known + asked]
    assert vocab.decode(codes).to_list() == expected


@given(st.lists(st.text(max_size=4), max_size=30), st.lists(st.text(max_size=4), max_size=30))
def test_strings_round_trip_and_others_are_unknown(known, asked):
    vocab = Vocab.of(pl.Series(known, dtype=pl.String))
    codes = vocab.encode(pl.Series(known + asked, dtype=pl.String))
    assert vocab.decode(codes).to_list() == [value if value in known else None for value in known + asked]


@pytest.mark.parametrize("spread", [1, 10_000])
def test_dense_and_sparse_integers_agree(spread):
    ids = np.arange(50) * spread - 7 * spread
    vocab = Vocab.of(pl.Series(ids))
    asked = pl.Series([*ids.tolist(), -(10**9), 10**9, 3 * spread + 1 if spread > 1 else 44, None])
    assert vocab.encode(asked).tolist() == [*range(1, 51), 0, 0, 0, 0]


def test_few_and_many_strings_take_different_ways_to_the_same_codes():
    vocab = Vocab.of(pl.Series([f"i{i}" for i in range(100)]))
    asked = [f"i{i % 150}" for i in range(6000)] + [None]
    many = vocab.encode(pl.Series(asked))
    few = np.concatenate(
        [vocab.encode(pl.Series(asked[at : at + 1000], dtype=pl.String)) for at in range(0, 6001, 1000)]
    )
    assert (many == few).all()
    assert many.max() == 100


def test_a_number_and_its_decimal_writing_are_one_id():
    numbers, strings = Vocab.of(pl.Series([12, 7])), Vocab.of(pl.Series(["12", "x"]))
    assert numbers.encode(pl.Series(["12", "012", "12.0", "x", "", None])).tolist() == [2, 0, 0, 0, 0, 0]
    assert numbers.encode(pl.Series([12.0, 12.5, float("nan"), float("inf")])).tolist() == [2, 0, 0, 0]
    assert strings.encode(pl.Series([12, 13])).tolist() == [1, 0]
    assert strings.encode(pl.Series(["12"], dtype=pl.Categorical)).tolist() == [1]
    assert numbers.encode(pl.Series([True, None])).tolist() == [0, 0]
    assert numbers.encode(pl.Series([None, None])).tolist() == [0, 0]
    assert strings.encode(pl.Series([["12"]])).tolist() == [0]
    assert numbers.encode(pl.Series([2**64 - 1, 12], dtype=pl.UInt64)).tolist() == [0, 2]


def test_mixed_types_and_huge_integers_become_strings():
    assert Vocab.of(pl.Series([1]), pl.Series(["a", "1"])).ids.to_list() == ["1", "a"]
    huge = Vocab.of(pl.Series([2**64 - 1], dtype=pl.UInt64))
    assert huge.encode(pl.Series([2**64 - 1], dtype=pl.UInt64)).tolist() == [1]


@pytest.mark.parametrize("ids", [pl.Series([5, 3]), pl.Series(["b", "a"]), pl.Series([], dtype=pl.Int64)])
def test_save_and_load(tmp_path, ids):
    vocab = Vocab.of(ids)
    vocab.save(tmp_path / "ids.arrow")
    assert Vocab.load(tmp_path / "ids.arrow").ids.equals(vocab.ids)


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_damaged_file_is_one_clear_error(tmp_path, content):
    path = tmp_path / "ids.arrow"
    Vocab.of(pl.Series(range(1000))).save(path)
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(DataError, match="Prepare the data again"):
        Vocab.load(path)
