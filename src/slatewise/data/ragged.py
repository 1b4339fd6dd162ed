"""List columns as one flat run of values with a count a row, and back to fixed-width arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from slatewise.errors import DataError

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Ragged:
    """A list column taken apart.

    Attributes:
        flat: all values, row after row.
        count: (n,) how many of them belong to each row; a null list counts 0.
    """

    flat: pl.Series
    count: NDArray[np.int64]

    @property
    def width(self) -> int:
        """Length of the longest row."""
        return int(self.count.max(initial=0))

    @property
    def row(self) -> NDArray[np.int64]:
        """(m,) the row each flat value belongs to."""
        return np.repeat(np.arange(len(self.count)), self.count)


def ragged(series: pl.Series) -> Ragged:
    """Take a list (or fixed-size array) column apart.

    Raises:
        DataError: the column holds no lists.
    """
    if isinstance(series.dtype, pl.Array):
        series = series.arr.to_list()
    if series.dtype == pl.Null:
        series = series.cast(pl.List(pl.Null))
    if not isinstance(series.dtype, pl.List):
        raise DataError(f"column '{series.name}' has type {series.dtype}, but must be a list in every row.")
    if series.null_count():
        series = series.fill_null(pl.Series([[]], dtype=series.dtype).first())
    lists = series.to_arrow()  # the offsets are there already; polars would build a query for them
    offsets = lists.offsets.to_numpy()
    return Ragged(pl.Series(series.name, lists.values[offsets[0] : offsets[-1]]), np.diff(offsets))


def pad(flat: NDArray[Any], count: NDArray[np.int64], width: int) -> NDArray[Any]:
    """(m, ...) flat values to (n, width, ...), zero behind each row's end; no row may be wider."""
    out = np.zeros((len(count), width, *flat.shape[1:]), flat.dtype)
    out[np.arange(width) < count[:, None]] = flat
    return out


def aligned(frame: pl.DataFrame, column: str, like: Ragged, name: str) -> Ragged:
    """Take a column apart that must be as long as the list ``like`` (called ``name``) in every row.

    Raises:
        DataError: a row's lengths differ (a null list is taken as missing values and passes).
    """
    lists = ragged(frame[column])
    if (lists.count == like.count).all():
        return lists
    wrong = np.flatnonzero((lists.count != like.count) & frame[column].is_not_null().to_numpy())
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{request_name(frame, row)}: '{column}' has {lists.count[row]} values for {like.count[row]} "
            f"entries of '{name}'; they must be equally many."
        )
    return _with_missing(lists, like)


def _with_missing(lists: Ragged, like: Ragged) -> Ragged:
    """Null lists filled with as many null values as ``like`` has."""
    place = np.full(len(like.row), -1, np.int64)
    place[np.repeat(lists.count == like.count, like.count)] = np.arange(len(lists.flat))
    index = pl.Series(place)
    return Ragged(lists.flat.gather(index.set(index < 0, None)), like.count)


def request_name(frame: pl.DataFrame, row: int) -> str:
    """How an error sentence calls a request: by its id where it has one, else by its row."""
    return f"request '{frame['request_id'][row]}'" if "request_id" in frame.columns else f"row {row}"


def numbers(series: pl.Series) -> NDArray[np.float64]:
    """The series as float64, missing and unreadable values as NaN; dates and times as their raw count.

    Raises:
        DataError: the type cannot be read as numbers.
    """
    if series.dtype.is_numeric() and not series.null_count():
        return series.to_numpy().astype(np.float64, copy=False)
    try:
        if series.dtype.is_nested():
            raise pl.exceptions.InvalidOperationError
        if series.dtype.is_temporal():
            series = series.to_physical()
        return series.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy().astype(np.float64)
    except pl.exceptions.PolarsError:
        raise DataError(f"column '{series.name}' has type {series.dtype}, but must hold numbers.") from None


def relist(flat: pl.Series, count: NDArray[np.int64], name: str) -> pl.Series:
    """Put a list column together again: the inverse of :func:`ragged`, with empty lists for null ones."""
    offsets = pa.array(np.concatenate([[0], count.cumsum()]), pa.int64())
    return pl.Series(name, pa.LargeListArray.from_arrays(offsets, flat.to_arrow()))


def each(lists: pl.Series, change: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """The list column with ``change`` applied to all its entries at once; null lists stay null."""
    inside = ragged(lists)
    changed = relist(change(inside.flat), inside.count, lists.name)
    return changed.set(lists.is_null(), None) if lists.null_count() else changed


def keep(frame: pl.DataFrame, columns: list[str], like: Ragged, kept: NDArray[np.bool_]) -> pl.DataFrame:
    """The frame with only the ``kept`` entries of the aligned list ``columns``; the first is ``like``.

    Raises:
        DataError: a column is not as long as the first in every row.
    """
    count = np.bincount(like.row[kept], minlength=len(like.count))
    mask = pl.Series(kept)
    return frame.with_columns(
        relist(aligned(frame, name, like, columns[0]).flat.filter(mask), count, name) for name in columns
    )
