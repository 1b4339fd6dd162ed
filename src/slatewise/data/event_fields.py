"""The ``fields`` of events: from name-value pairs to one column a name, each of one type."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain, compress
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.data.event_lines import Field

NUMBER, TRUTH, TEXT, MANY, OTHER = range(5)
CODES: dict[type, int] = {float: NUMBER, int: NUMBER, bool: TRUTH, str: TEXT, list: MANY}

Longs = NDArray[np.int64]


@dataclass
class Fields:
    """Fields of one table's rows, by name: ``owner`` (a row), ``code`` (a type) and the value.

    Attributes:
        parts: for each name, a frame a block; a column of values is there only where the block has such
            values.
        left_out: values of a type that no feature can have (objects, lists of other things than strings).
    """

    parts: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    left_out: int = 0

    def add(self, lists: list[list[Field] | None], start: int) -> None:
        """Append the fields of rows ``start``, ``start + 1`` …; null values say nothing and are dropped."""
        flat = list(chain.from_iterable(filter(None, lists)))
        if not flat:
            return
        owner = np.repeat(
            np.arange(start, start + len(lists)), [len(entries) if entries else 0 for entries in lists]
        )
        values = [entry.value for entry in flat]
        codes = _codes(values)
        written = [entry.name for entry in flat]
        names = {own: at for at, own in enumerate(dict.fromkeys(written))}
        name = np.fromiter(map(names.__getitem__, written), np.int32, len(flat))
        other = int((codes == OTHER).sum())
        self.left_out += other - values.count(None) if other else 0
        frame = _typed_values(values, codes).with_columns(pl.Series("owner", owner))
        for own, at in names.items():
            self._append(own, frame.filter(pl.Series((name == at) & (codes != OTHER))))

    def _append(self, name: str, part: pl.DataFrame) -> None:
        empty = [column for column in ("text", "many") if column in part.columns and not part[column].count()]
        if part.height:
            self.parts.setdefault(name, []).append(part.drop(empty))

    def of(self, name: str) -> pl.DataFrame | None:
        """All fields of a name, in the order they came, or None."""
        return pl.concat(self.parts[name], how="diagonal") if name in self.parts else None


def _codes(values: list[Any]) -> NDArray[np.int8]:
    kinds = list(map(type, values))
    table = {kind: CODES.get(kind, OTHER) for kind in set(kinds)}
    codes = np.fromiter(map(table.__getitem__, kinds), np.int8, len(kinds))
    for at in np.flatnonzero(codes == MANY):
        if not all(type(entry) is str for entry in values[at]):
            codes[at] = OTHER
    return codes


def _typed_values(values: list[Any], codes: NDArray[np.int8]) -> pl.DataFrame:
    is_number = codes <= TRUTH
    number = np.full(len(values), np.nan)
    number[is_number] = np.array(list(values if is_number.all() else compress(values, is_number)), np.float64)
    columns = [pl.Series("code", codes), pl.Series("number", number)]
    for name, code, dtype in (("text", TEXT, pl.String), ("many", MANY, pl.List(pl.String))):
        mask = codes == code
        if mask.any():
            columns.append(
                _scatter(
                    name,
                    pl.Series(list(compress(values, mask)), dtype=dtype),
                    np.flatnonzero(mask),
                    len(values),
                )
            )
    return pl.DataFrame(columns)


def _scatter(name: str, values: pl.Series, at: Longs, size: int) -> pl.Series:
    """``size`` rows with ``values`` at the places ``at`` (the last one counts), null elsewhere."""
    place = np.full(size, -1, np.int64)
    place[at] = np.arange(len(at))
    index = pl.Series(place)
    return values.gather(pl.select(pl.when(index >= 0).then(index)).to_series()).alias(name)


def widen(
    fields: Fields, size: int, *, list_values: int, order: tuple[Longs, Longs] | None = None
) -> dict[str, pl.Series]:
    """One column of ``size`` rows for each field name.

    A field that is always a number or always a boolean becomes one; where kinds differ, all become strings (a
    boolean among numbers becomes 0 or 1). A list of strings becomes one 0-or-1 column for each of its
    ``list_values`` most frequent values (``color=white``). Of several values for a row, the last counts.

    Args:
        fields: the fields.
        size: rows of the result.
        list_values: see above.
        order: for each owner its place in time, and the row of the result it belongs to; None if owners are
            rows.
    """
    columns: dict[str, pl.Series] = {}
    for name in fields.parts:
        part = fields.of(name)
        assert part is not None
        owner = part["owner"].to_numpy()
        if order is not None:
            sort = np.argsort(order[0][owner], kind="stable")
            part, owner = part[sort], order[1][owner[sort]]
        columns |= _columns(name, part, owner, size, list_values)
    return columns


def _columns(
    name: str, part: pl.DataFrame, owner: Longs, size: int, list_values: int
) -> dict[str, pl.Series]:
    columns: dict[str, pl.Series] = {}
    is_list = (part["code"] == MANY).to_numpy()
    if not is_list.all():
        single = part.filter(pl.Series(~is_list)) if is_list.any() else part
        columns[name] = _one_type(name, single, owner[~is_list], size)
    if is_list.any():
        columns |= _expand(name, part.filter(pl.Series(is_list))["many"], owner[is_list], size, list_values)
    return columns


def _one_type(name: str, part: pl.DataFrame, owner: Longs, size: int) -> pl.Series:
    if "text" in part.columns:
        text = part.select(pl.coalesce("text", _as_text(pl.col("number"), pl.col("code")))).to_series()
        return _scatter(name, text, owner, size)
    number = np.full(size, np.nan)
    number[owner] = part["number"].to_numpy()
    column = pl.Series(name, number, nan_to_null=True)
    return column == 1.0 if (part["code"] == TRUTH).all() else column


def _as_text(number: pl.Expr, code: pl.Expr) -> pl.Expr:
    truth = pl.when(number == 1.0).then(pl.lit("true")).otherwise(pl.lit("false"))
    return pl.when(code == TRUTH).then(truth).otherwise(number.cast(pl.String).str.replace(r"\.0$", ""))


def _expand(name: str, lists: pl.Series, owner: Longs, size: int, most: int) -> dict[str, pl.Series]:
    last = _scatter(name, lists, owner, size)
    entries = (
        pl.DataFrame({"row": pl.int_range(size, eager=True), "value": last})
        .explode("value")
        .drop_nulls()
        .unique()
    )
    counts = entries.group_by("value").len().sort(["len", "value"], descending=[True, False]).head(most)
    columns: dict[str, pl.Series] = {}
    for value in counts["value"].sort().to_list():
        has = np.where(last.is_not_null().to_numpy(), 0.0, np.nan)
        has[entries.filter(pl.col("value") == value)["row"].to_numpy()] = 1.0
        columns[f"{name}={value}"] = pl.Series(f"{name}={value}", has, nan_to_null=True)
    return columns


def free_name(name: str, taken: Iterable[str]) -> str:
    """``name``, or ``name_field`` (and so on) where the schema or another column has it already."""
    taken = set(taken)
    while name in taken:
        name = f"{name}_field"
    return name
