"""Ids to indices: the caller's integers or strings, and ``int32`` rows of a table; 0 = unknown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from slatewise.errors import DataError

_SMALL = 4096  # below this many ids a dict is faster than a join (serving)


class Vocab:
    """A fixed set of ids, each with an index from 1 on; index 0 stands for every id that is not in the set.

    Ids are all integers or all strings. The two are compared by their decimal writing: ``12`` and ``"12"``
    are the same id, ``"012"`` and ``"12.0"`` are other ones. Nulls and values that cannot be an id are
    unknown, never an error.
    """

    def __init__(self, ids: pl.Series) -> None:
        """``ids``: distinct, without nulls, Int64 or String; the first gets index 1."""
        self.ids = ids.alias("id")

    @classmethod
    def of(cls, *groups: pl.Series) -> Vocab:
        """The ids of every group, the first group's first, sorted within a group."""
        given = [group.drop_nulls() for group in groups if group.dtype != pl.Null]
        kind = pl.Int64() if all(map(_is_integer, given)) else pl.String()
        parts = [as_ids(group, kind).drop_nulls().unique().sort().alias("id") for group in given]
        joined = pl.concat([pl.Series("id", [], kind), *parts])
        return cls(joined.unique(maintain_order=True))

    @classmethod
    def of_values(cls, values: Sequence[int | str]) -> Vocab:
        """The values in the order they are given."""
        return cls(pl.Series("id", values))

    def __len__(self) -> int:
        """Number of indices, the unknown one included."""
        return len(self.ids) + 1

    def encode(self, values: pl.Series) -> NDArray[np.int32]:
        """(n,) index of each value, 0 where it is unknown."""
        values = as_ids(values, self.ids.dtype)
        if self.ids.dtype == pl.Int64:
            return self._encode_integers(values)
        return self._encode_few(values) if len(values) <= _SMALL else self._encode_many(values)

    def lookup(self, value: object) -> int:
        """The index of one value, 0 where it is unknown: :meth:`encode` without a series (serving)."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool):
            return self._index.get("true" if value else "false", 0)
        if self.ids.dtype == pl.Int64:
            return self._index.get(_integer(value) if isinstance(value, str) else value, 0)
        return self._index.get(str(value) if isinstance(value, int) else value, 0)

    def decode(self, index: ArrayLike) -> pl.Series:
        """The id of each index, null for 0."""
        rows = pl.Series(np.asarray(index, np.int64) - 1)
        return self.ids.gather(rows.set(rows < 0, None))

    def save(self, path: Path) -> None:
        """Write the ids as an Arrow file."""
        table = pa.table({"id": self.ids.to_arrow()})
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    @classmethod
    def load(cls, path: Path) -> Vocab:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: the file is missing or damaged.
        """
        try:
            with pa.OSFile(str(path), "rb") as source:
                table = pa.ipc.open_file(source).read_all()
            return cls(pl.Series("id", table.column("id")))
        except (OSError, KeyError, pa.ArrowException) as error:
            raise DataError(
                f"{path} cannot be read as a vocabulary: {error}. Prepare the data again."
            ) from None

    @cached_property
    def _by_value(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        values = self.ids.to_numpy()
        order = np.argsort(values, kind="stable")
        return values[order], (order + 1).astype(np.int32)

    @cached_property
    def _direct(self) -> tuple[int, int, NDArray[np.int32]] | None:
        """Lowest and highest id and a table of all between (entry 0 unknown), where that is not wasteful."""
        values = self.ids.to_numpy()
        low, high = int(values.min()), int(values.max())
        if high - low > 4 * len(values) + _SMALL:
            return None
        table = np.zeros(high - low + 2, np.int32)
        table[values - low + 1] = np.arange(1, len(self))
        return low, high, table

    @cached_property
    def _index(self) -> dict[Any, int]:
        return {value: index for index, value in enumerate(self.ids.to_list(), 1)}

    def _encode_integers(self, values: pl.Series) -> NDArray[np.int32]:
        if not len(self.ids):
            return np.zeros(len(values), np.int32)
        wanted = (values.fill_null(0) if values.null_count() else values).to_numpy()
        if self._direct is not None:
            return self._encode_directly(values, wanted)
        known, index = self._by_value
        place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        hit = known[place] == wanted
        if values.null_count():
            hit &= values.is_not_null().to_numpy()
        return np.where(hit, index[place], 0).astype(np.int32)

    def _encode_directly(self, values: pl.Series, wanted: NDArray[np.int64]) -> NDArray[np.int32]:
        assert self._direct is not None
        low, high, table = self._direct
        inside = (wanted >= low) & (wanted <= high)
        if values.null_count():
            inside &= values.is_not_null().to_numpy()
        return table[np.where(inside, wanted - low + 1, 0)]

    def _encode_few(self, values: pl.Series) -> NDArray[np.int32]:
        index = self._index
        return np.array([index.get(value, 0) for value in values.to_list()], np.int32)

    def _encode_many(self, values: pl.Series) -> NDArray[np.int32]:
        table = pl.DataFrame({"id": self.ids, "index": np.arange(1, len(self), dtype=np.int32)})
        found = values.alias("id").to_frame().join(table, on="id", how="left", maintain_order="left")
        return found["index"].fill_null(0).to_numpy().astype(np.int32)


def _integer(text: str) -> int | None:
    """The integer that a string writes as we would write it; None for ``"007"`` or ``"1.0"``."""
    try:
        number = int(text)
    except ValueError:
        return None
    return number if str(number) == text else None


def _is_integer(values: pl.Series) -> bool:
    top = np.iinfo(np.int64).max
    return values.dtype.is_integer() and not (values.dtype == pl.UInt64 and (values > top).any())


def as_ids(values: pl.Series, kind: pl.DataType) -> pl.Series:
    """The values as ids of the type ``kind`` (Int64 or String); null where a value cannot be one."""
    if values.dtype == kind:
        return values
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.dtype.is_float():  # 3.0 is what an integer column with gaps becomes in other tools
        whole = values.cast(pl.Int64, strict=False)
        values = whole.set((whole.cast(pl.Float64) != values.cast(pl.Float64)).fill_null(True), None)
    if kind == pl.String:
        return values.cast(pl.String) if not values.dtype.is_nested() else _unknown(values, kind)
    if values.dtype == pl.String:
        whole = values.cast(pl.Int64, strict=False)
        return whole.set((whole.cast(pl.String) != values).fill_null(True), None)
    return values.cast(pl.Int64, strict=False) if values.dtype.is_integer() else _unknown(values, kind)


def _unknown(values: pl.Series, kind: pl.DataType) -> pl.Series:
    return pl.Series(values.name, [None] * len(values), kind)
