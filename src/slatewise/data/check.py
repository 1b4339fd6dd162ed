"""Is this table what the log schema says (``docs/log-schema.md``)? Every fault named with its row and column.

:func:`check_requests` looks, :func:`normalise` brings to canonical types, :func:`read_requests` does both for
a file.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from slatewise.data.log_columns import (
    FIXED,
    feature_columns,
    shape_of,
    typed,
)
from slatewise.data.log_faults import Fault, errors, summary
from slatewise.data.log_files import find_table, read_frame
from slatewise.data.log_rules import broken, rules_for
from slatewise.errors import DataError

__all__ = ["Fault", "check_requests", "examine", "normalise", "read_requests"]


def check_requests(frame: pl.DataFrame, *, ranking: bool = False, examples: int = 3) -> list[Fault]:
    """Hold a table of requests to the log schema.

    Args:
        frame: one row a request, in any types that can be brought to the schema's.
        ranking: the requests are still to be ranked: ``timestamp``, ``exposed``, feedback and propensity are
            not needed, and the last three are not looked at.
        examples: faults reported for each kind and column; each one's ``count`` has the number of all rows.

    Returns:
        The faults, those of whole columns first; empty where the table is as it should be.
    """
    return examine(frame, ranking=ranking, examples=examples)[1]


def normalise(frame: pl.DataFrame, *, ranking: bool = False, source: str = "requests") -> pl.DataFrame:
    """The requests in canonical types, without columns that the schema does not know.

    Item ids are List(Int64) or List(String), the same in all columns; other ids Int64 or String; scores,
    feedback and candidate features List(Float64), a null feature list filled with one null a candidate;
    ``timestamp`` Int64 or Float64 (a datetime becomes microseconds since 1970, UTC); ``propensity`` Float64
    or List(Float64).

    Raises:
        DataError: the table has a fault; the sentence has the first one.
    """
    canonical, faults = examine(frame, ranking=ranking, examples=1)
    if errors(faults):
        raise DataError(summary(faults, source))
    return canonical


def read_requests(path: Path, *, ranking: bool = False) -> pl.DataFrame:
    """Read a file of requests (or a folder with ``requests.*``), check and :func:`normalise` it.

    Raises:
        DataError: the file cannot be read or the table has a fault.
    """
    found = find_table(path, "requests") if path.is_dir() else path
    if found is None:
        raise DataError(f"{path} has no requests.parquet, requests.csv or requests.jsonl.")
    return normalise(read_frame(found), ranking=ranking, source=str(path))


def examine(frame: pl.DataFrame, *, ranking: bool, examples: int) -> tuple[pl.DataFrame, list[Fault]]:
    """Both: the requests as :func:`normalise` gives them, without columns at fault, and the faults."""
    canonical, faults = typed(frame, ranking=ranking)
    if frame.height == 0:
        message = "has no rows; at least one is needed."
        empty = Fault(row=None, column="", kind="empty-table", message=message)
        return canonical, [empty, *(faults if frame.width else [])]
    rows = broken(canonical, rules_for(canonical), key="request_id", table="requests", examples=examples)
    return _fill_features(canonical.select(_in_order(canonical))), faults + rows


def _fill_features(frame: pl.DataFrame) -> pl.DataFrame:
    if "candidates" not in frame.columns:
        return frame
    nothing = pl.lit(None, pl.Float64).repeat_by(pl.col("candidates").list.len())
    return frame.with_columns(
        pl.col(n).fill_null(nothing) for n in feature_columns(frame) if frame[n].null_count()
    )


def _in_order(frame: pl.DataFrame) -> list[str]:
    known = [name for name in FIXED if name in frame.columns]
    return known + [name for name in frame.columns if name not in FIXED and shape_of(name) is not None]
