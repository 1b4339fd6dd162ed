"""Feature columns of any type to standardised numbers and category codes, learned on training rows.

What a column becomes:

* numbers and dates: one number, standardised and clipped to ±8; missing values 0, which is the training mean;
* strings, booleans, and integers with few distinct values: one category, 0 = unknown or missing;
* lists of strings or integers (genres): one 0/1 number for each of the most frequent values, standardised;
* lists of floats and fixed-size arrays (a vector): one standardised number for each place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.config import Frozen
from slatewise.data.ragged import numbers, ragged
from slatewise.data.vocab import Vocab
from slatewise.errors import DataError

FEW = 64  # an integer column with at most so many values (and each twice on average) is a category
MAX_CATEGORIES = 1000  # of a column with more than FEW values the most frequent, seen twice or more, are kept
MAX_FLAGS = 32  # values of a list column that get a number of their own, most frequent first
CLIP = 8.0


class NumberColumn(Frozen, tag="number"):
    """One number. ``scale`` is 1 / standard deviation, 0 for a column that does not vary."""

    column: str
    mean: float
    scale: float


class VectorColumn(Frozen, tag="vector"):
    """A list of as many numbers in every row."""

    column: str
    mean: tuple[float, ...]
    scale: tuple[float, ...]


class FlagsColumn(Frozen, tag="flags"):
    """A list of values from a small set, as one 0/1 number a value."""

    column: str
    values: tuple[int | str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]


class CategoryColumn(Frozen, tag="category"):
    """One value of a set; code 0 stands for all others and for missing."""

    column: str
    values: tuple[int | str, ...]


Column = NumberColumn | VectorColumn | FlagsColumn | CategoryColumn


def standardise(
    values: NDArray[np.float64], mean: float | Sequence[float], scale: float | Sequence[float]
) -> NDArray[np.float32]:
    """``(values - mean) * scale``, clipped to ±8; NaN and infinite values become 0."""
    real = np.isfinite(values)
    z = (np.where(real, values, 0.0).clip(-1e100, 1e100) - np.asarray(mean)) * np.asarray(scale)
    return np.where(real, z.clip(-CLIP, CLIP), 0.0).astype(np.float32)


def moments(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and 1 / standard deviation of the finite values; scale 0 where they do not vary or are none."""
    values = values[np.isfinite(values)].clip(-1e100, 1e100)
    if not len(values):
        return 0.0, 0.0
    mean, std = float(values.mean()), float(values.std())
    return mean, 1.0 / std if std > max(1e-9 * abs(mean), 1e-100) else 0.0


def fit_column(series: pl.Series) -> Column | None:
    """Learn what the column becomes from its training rows; None where it says nothing a model could learn.

    Raises:
        DataError: a type that cannot be a feature (struct, binary …), or vectors of several lengths.
    """
    kind = series.dtype
    if kind == pl.Null:
        return None
    if isinstance(kind, pl.List | pl.Array):
        inner = kind.inner
        if isinstance(kind, pl.Array) or inner.is_float():
            return _fit_vector(series)
        if inner.is_integer() or inner in (pl.String, pl.Categorical, pl.Enum):
            return _fit_flags(series)
    elif kind in (pl.String, pl.Boolean, pl.Categorical, pl.Enum) or _few_integers(series):
        values = _frequent(series)
        return CategoryColumn(column=series.name, values=values) if values else None
    elif kind.is_numeric() or kind.is_temporal():
        mean, scale = moments(numbers(series))
        return NumberColumn(column=series.name, mean=mean, scale=scale)
    raise DataError(
        f"column '{series.name}' has type {kind}, which cannot be a feature; allowed: numbers, dates, "
        "booleans, strings, and lists of numbers or strings. Unpack or drop the column."
    )


class FeatureSet:
    """Several columns' features: numbers (n, F) and categories (n, C), in the order of ``columns``."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        """``columns``: what :func:`fit_column` returned, or what a file says it returned."""
        self.columns = columns
        self._vocab = {
            column.column: Vocab.of_values(column.values)
            for column in columns
            if isinstance(column, CategoryColumn | FlagsColumn)
        }

    @classmethod
    def fit(cls, frame: pl.DataFrame, names: Sequence[str]) -> FeatureSet:
        """Learn the named columns from training rows (see :func:`fit_column`)."""
        learned = [fit_column(frame[name]) for name in names]
        return cls(tuple(column for column in learned if column is not None))

    @property
    def numeric_names(self) -> tuple[str, ...]:
        """Name of each number, e.g. ``price``, ``genres=Drama``, ``vector[3]``."""
        return tuple(name for column in self.columns for name in number_names(column))

    @property
    def category_sizes(self) -> tuple[int, ...]:
        """Number of codes of each category, 0 = unknown included."""
        return tuple(len(column.values) + 1 for column in self.columns if isinstance(column, CategoryColumn))

    def numeric(self, frame: pl.DataFrame) -> NDArray[np.float32]:
        """(n, F) numbers; a column that the frame lacks is 0, the training mean.

        Raises:
            DataError: a column cannot be read as what it was in training.
        """
        parts = [np.zeros((frame.height, 0), np.float32)]
        for column in self.columns:
            width = len(number_names(column))
            present = column.column in frame.columns and frame[column.column].dtype != pl.Null
            parts.append(
                self._numbers(column, frame)
                if width and present
                else np.zeros((frame.height, width), np.float32)
            )
        return np.concatenate(parts, axis=1)

    def categories(self, frame: pl.DataFrame) -> NDArray[np.int32]:
        """(n, C) codes; a column that the frame lacks is 0, unknown."""
        columns = [column.column for column in self.columns if isinstance(column, CategoryColumn)]
        codes = np.zeros((frame.height, len(columns)), np.int32)
        for place, name in enumerate(columns):
            if name in frame.columns:
                codes[:, place] = self._vocab[name].encode(_plain(frame[name]))
        return codes

    def present(self, frame: pl.DataFrame) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(F,) and (C,) True where the frame has the column that the number or category comes from."""
        number = [column.column in frame.columns for column in self.columns for _ in number_names(column)]
        category = [c.column in frame.columns for c in self.columns if isinstance(c, CategoryColumn)]
        return np.array(number, bool), np.array(category, bool)

    def _numbers(self, column: Column, frame: pl.DataFrame) -> NDArray[np.float32]:
        series = frame[column.column]
        if isinstance(column, NumberColumn):
            return standardise(numbers(series)[:, None], column.mean, column.scale)
        if isinstance(column, VectorColumn):
            return standardise(_vectors(series, len(column.mean)), column.mean, column.scale)
        assert isinstance(column, FlagsColumn)
        return standardise(_flags(series, self._vocab[column.column]), column.mean, column.scale)


def number_names(column: Column) -> list[str]:
    """Names of the numbers that a column becomes; none for a category."""
    if isinstance(column, NumberColumn):
        return [column.column]
    if isinstance(column, VectorColumn):
        return [f"{column.column}[{place}]" for place in range(len(column.mean))]
    return [f"{column.column}={value}" for value in column.values] if isinstance(column, FlagsColumn) else []


def _few_integers(series: pl.Series) -> bool:
    return series.dtype.is_integer() and series.n_unique() <= min(FEW, len(series) // 2)


def _plain(series: pl.Series) -> pl.Series:
    return series.cast(pl.String) if series.dtype == pl.Boolean else series


def _frequent(series: pl.Series) -> tuple[int | str, ...]:
    """The values kept as categories, sorted; none where they cover less than a fifth of the rows (titles)."""
    series = _plain(series).drop_nulls()
    series = series if series.dtype.is_integer() else series.cast(pl.String)
    counts = (
        series.alias("value")
        .to_frame()
        .group_by("value")
        .len("count")
        .sort("count", "value", descending=[True, False])
    )
    if counts.height > FEW:
        counts = counts.filter(pl.col("count") > 1).head(MAX_CATEGORIES)
    rare = counts["count"].sum() < len(series) / 5
    return () if rare else tuple(counts["value"].sort().to_list())


def _fit_flags(series: pl.Series) -> FlagsColumn | None:
    flat = ragged(series).flat.drop_nulls()
    flat = flat if flat.dtype.is_integer() else flat.cast(pl.String)
    counts = flat.alias("value").to_frame().group_by("value").len("count")
    values = counts.sort("count", "value", descending=[True, False])["value"].head(MAX_FLAGS).sort().to_list()
    if not values:
        return None
    mean, scale = zip(*map(moments, _flags(series, Vocab.of_values(values)).T), strict=True)
    return FlagsColumn(column=series.name, values=tuple(values), mean=mean, scale=scale)


def _flags(series: pl.Series, values: Vocab) -> NDArray[np.float64]:
    lists = ragged(series)
    hot = np.zeros((len(series), len(values)))
    hot[lists.row, values.encode(lists.flat)] = 1.0
    hot[series.is_null().to_numpy()] = np.nan
    return hot[:, 1:]


def _fit_vector(series: pl.Series) -> VectorColumn | None:
    width = ragged(series).width
    if not width:
        return None
    mean, scale = zip(*map(moments, _vectors(series, width).T), strict=True)
    return VectorColumn(column=series.name, mean=mean, scale=scale)


def _vectors(series: pl.Series, width: int) -> NDArray[np.float64]:
    lists = ragged(series)
    if wrong := [int(count) for count in np.unique(lists.count) if count not in (0, width)]:
        raise DataError(
            f"column '{series.name}' has vectors of {wrong[0]} and {width} numbers; all must be equally long."
        )
    out = np.full((len(series), width), np.nan)
    out[lists.count > 0] = numbers(lists.flat).reshape(-1, width)
    return out
