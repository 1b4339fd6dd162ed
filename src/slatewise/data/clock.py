"""Times of any form as whole seconds since 1970, so that gaps and hours mean the same in training and at ranking."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.data.log_columns import iso_to_moment

# Numbers are seconds up to the year 5138, then milli-, micro- and nanoseconds since 1973: (from, a second's worth).
UNITS = ((10**17, 10**9), (10**14, 10**6), (10**11, 10**3))


def seconds(times: pl.Series) -> NDArray[np.int64]:
    """(n,) seconds since 1970, UTC, rounded down; 0 where the time is missing or is none.

    Numbers below 1e11 are seconds, those above milliseconds, from 1e14 on microseconds (what a datetime in a file
    becomes, see ``docs/log-schema.md``), from 1e17 on nanoseconds. Strings are ISO 8601. Never an error: at ranking an
    unknown time is only one thing less to know.
    """
    if times.dtype == pl.String:
        times = iso_to_moment(times)
    if times.dtype == pl.Date:
        times = times.cast(pl.Datetime("us"))
    if isinstance(times.dtype, pl.Datetime):
        return times.dt.epoch("s").fill_null(0).to_numpy().astype(np.int64)
    if not times.dtype.is_numeric():
        return np.zeros(len(times), np.int64)
    whole = times.floor() if times.dtype.is_float() else times
    whole = whole.cast(pl.Int64, strict=False)
    whole = whole.fill_null(0) if whole.null_count() else whole  # which costs more than all the rest
    count = whole.to_numpy().astype(np.int64)
    size = np.abs(count)
    return np.select([size >= start for start, _ in UNITS], [count // unit for _, unit in UNITS], count)


def known(times: pl.Series) -> NDArray[np.bool_]:
    """(n,) True where there is a time (0 is one)."""
    there = times.is_not_null() & times.is_not_nan() if times.dtype.is_float() else times.is_not_null()
    return there.to_numpy()
