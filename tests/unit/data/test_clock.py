"""Times of every form mean the same second, and one that is none is 0."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest

from slatewise.data.clock import known, seconds

MOMENT = datetime(2026, 3, 1, 10, 0, 7, 250_000)
SECOND = 1_772_359_207  # of MOMENT, UTC


@pytest.mark.parametrize(
    "value",
    [
        SECOND,
        SECOND + 0.25,
        SECOND * 1000 + 250,
        SECOND * 10**6 + 1,
        SECOND * 10**9 + 5,
        MOMENT,
        MOMENT.isoformat(),
        MOMENT.replace(tzinfo=UTC),
        "2026-03-01T11:00:07+01:00",
    ],
)
def test_every_form_of_a_moment_is_its_second(value: object) -> None:
    assert seconds(pl.Series([value, None])).tolist() == [SECOND, 0]


def test_days_ranks_and_what_is_no_time() -> None:
    assert seconds(pl.Series([date(1970, 1, 2)])).tolist() == [86_400]
    assert seconds(pl.Series([0, 7, 165])).tolist() == [0, 7, 165]  # places in an order stay what they are
    assert seconds(pl.Series([float("nan"), float("inf")])).tolist() == [0, 0]
    assert seconds(pl.Series(["soon", "2026-13-01"])).tolist() == [0, 0]
    assert seconds(pl.Series([[1], [2]])).tolist() == [0, 0]
    assert seconds(pl.Series([None, None])).tolist() == [0, 0]


def test_a_row_alone_is_read_as_among_others() -> None:
    times = pl.Series([5, SECOND, SECOND * 1000, SECOND * 10**6])
    assert seconds(times).tolist() == [seconds(times[row : row + 1])[0] for row in range(4)]


def test_zero_is_a_time_and_nothing_is_none() -> None:
    assert known(pl.Series([0.0, None, float("nan")])).tolist() == [True, False, False]
    assert known(pl.Series([0, None])).tolist() == [True, False]
