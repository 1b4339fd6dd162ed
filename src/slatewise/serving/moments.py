"""Moments as people write them, to microseconds since 1970 and back."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.data.clock import UNITS
from slatewise.data.log_columns import iso_to_moment
from slatewise.errors import ConfigError

MICRO = 1_000_000


def moment(text: str | None, option: str) -> int | None:
    """``2026-03-01``, ``2026-03-01T10:00+01:00`` or a number to microseconds since 1970; None stays None.

    A number is seconds, or from 1e11 on milli-, from 1e14 on micro-, from 1e17 on nanoseconds, as in the log schema.

    Raises:
        ConfigError: it is neither.
    """
    if text is None:
        return None
    if text.lstrip("-").isdecimal():
        number = int(text)
        second = next((worth for start, worth in UNITS if abs(number) >= start), 1)
        return number * MICRO // second
    found = iso_to_moment(pl.Series([text])).dt.epoch("us").item()
    if found is None:
        raise ConfigError(
            f"{option} is '{text}', which is no time; write 2026-03-01, 2026-03-01T10:00 or seconds since 1970."
        )
    return int(found)


def micros(times: pl.Series) -> NDArray[np.int64]:
    """(n,) microseconds since 1970 of times in any form of the log schema; numbers are taken as :func:`moment` does.

    A time that is missing, or is none, is 0.
    """
    if times.dtype == pl.String:
        times = iso_to_moment(times)
    if times.dtype.is_temporal():
        return times.cast(pl.Datetime("us")).dt.epoch("us").fill_null(0).to_numpy()
    if not times.dtype.is_numeric():
        return np.zeros(len(times), np.int64)
    exact = (times.fill_null(0) if times.null_count() else times).to_numpy()
    size = np.abs(exact)
    if times.dtype.is_integer():
        scaled = [
            exact // (worth // MICRO) if worth >= MICRO else exact * (MICRO // worth) for _, worth in UNITS
        ]
    else:
        exact = np.nan_to_num(exact, posinf=0.0, neginf=0.0)
        scaled = [exact * (MICRO / worth) for _, worth in UNITS]
    micro = np.select([size >= start for start, _ in UNITS], scaled, exact * MICRO)
    return micro.astype(np.int64)


def written(micro: int | None) -> str:
    """A moment as ISO 8601 in UTC; a dash for none."""
    if micro is None:
        return "–"
    return str(pl.Series([micro], dtype=pl.Datetime("us")).dt.strftime("%Y-%m-%dT%H:%M:%SZ").item())
