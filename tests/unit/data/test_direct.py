"""Plain values become the same numbers as a table's rows, whatever they are."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sample_logs import item_table, random_requests, user_table
from served import rows_of
from slatewise.data.direct import DirectEncoder, Past, Row
from slatewise.data.features import FeatureTransform
from slatewise.data.vocab import Vocab
from slatewise.errors import DataError


def fitted(strings: bool) -> FeatureTransform:
    return FeatureTransform.fit(
        random_requests(strings=strings),
        user_table(15),
        item_table(45, strings=strings),
        length=3,
        exposed_width=4,
        history=5,
        candidates_width=9,
    )


@pytest.mark.parametrize("strings", [False, True])
def test_requests_are_encoded_as_their_table_is(strings: bool) -> None:
    transform, rng = fitted(strings), np.random.default_rng(0)
    requests = random_requests(60, seed=7, strings=strings).drop("exposed", "propensity", "^feedback_.*$")
    some = requests["candidates"].to_list()
    history = [items[: rng.integers(0, 8)] for items in some]
    requests = requests.with_columns(
        history=pl.Series(history, dtype=requests["candidates"].dtype),
        history_feedback=pl.Series(
            [[float(k) for k in range(len(h))] for h in history], dtype=pl.List(pl.Float64)
        ),
        history_timestamp=pl.Series(
            [[1000 + k for k in range(len(h))] for h in history], dtype=pl.List(pl.Int64)
        ),
        history_context_device=pl.Series([["phone"] * len(h) for h in history], dtype=pl.List(pl.String)),
    )
    offline, direct = transform.columns(requests), DirectEncoder(transform).columns(rows_of(requests), 9)
    assert int(offline["num_history"].max()) == 5
    for name, values in direct.items():
        np.testing.assert_array_equal(values, offline[name], err_msg=name)
    alone = [DirectEncoder(transform).columns([row], 9) for row in rows_of(requests)]
    for name, values in direct.items():
        np.testing.assert_array_equal(np.concatenate([one[name] for one in alone]), values, err_msg=name)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**62), 2**62), st.floats(width=32), st.text(max_size=4),
    st.sampled_from(["7", "007", "-3", "1e3", "phone", "true", " 5", "1_0", "3.0"]),
)  # fmt: skip


@given(value=VALUES, integers=st.booleans())
def test_a_value_is_looked_up_as_a_series_is(value, integers: bool) -> None:
    vocab = Vocab.of_values([7, -3, 0, 2**40] if integers else ["7", "phone", "true", "-3", "", "3"])
    series = pl.Series([value]).cast(pl.String) if isinstance(value, bool) else pl.Series([value])
    assert vocab.lookup(value) == vocab.encode(series)[0]


@given(value=VALUES)
def test_a_context_of_any_kind_is_read_as_a_column_is(value) -> None:
    transform = fitted(False)
    row = Row([1, 2], context={"hour": value, "device": value, "load": value})
    frame = pl.DataFrame({"candidates": [[1, 2]]}).with_columns(
        pl.Series(name, [value]) for name in ("context_hour", "context_device", "context_load")
    )
    direct, offline = DirectEncoder(transform).columns([row]), transform.columns(frame)
    for name in ("context_numeric", "context_categories"):
        np.testing.assert_array_equal(direct[name], offline[name], err_msg=name)


def test_what_does_not_fit_is_said() -> None:
    encoder = DirectEncoder(fitted(False))
    with pytest.raises(DataError, match="no candidates"):
        encoder.columns([Row([1]), Row([])])
    with pytest.raises(DataError, match="'price' has 1 values for 2 candidates"):
        encoder.columns([Row([1, 2], features={"price": [1.0]})])
    few = encoder.columns([Row([1], past=Past([3, 4]))])
    assert few["history_feedback"][0].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
