"""The ``fields`` of events: from name-value pairs to one column a name, each of one type."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.data.event_lines import Field

NUMBER, TRUTH, TEXT, MANY, OTHER = range(5)
CODES: dict[type, int] = {float: NUMBER, int: NUMBER, bool: TRUTH, str: TEXT, list: MANY}

SCHEMA = {
    "owner": pl.Int64,
    "name": pl.String,
    "code": pl.Int8,
    "number": pl.Float64,
    "text": pl.String,
    "many": pl.List(pl.String),
}


@dataclass(frozen=True)
class Wide:
    """Columns, one a field name, aligned with the owners; ``left_out`` counts values that no column can hold."""

    columns: dict[str, pl.Series]
    left_out: int


def long(owners: Iterable[list[Field] | None], start: int = 0) -> pl.DataFrame:
    """One row a field, ``owner`` the place of its event (counted from ``start``), the value in the column of its type."""
    lists = list(owners)
    counts = np.fromiter((len(f) if f else 0 for f in lists), np.int64, len(lists))
    flat = [field for fields in lists if fields for field in fields]
    values = [field.value for field in flat]
    codes = [CODES.get(type(value), OTHER) for value in values]
    if MANY in codes:
        codes = [_list_code(v) if c == MANY else c for v, c in zip(values, codes, strict=True)]
    columns = {
        "owner": np.repeat(np.arange(start, start + len(lists)), counts),
        "name": [field.name for field in flat],
        "code": codes,
        "number": [float(v) if c <= TRUTH else None for v, c in zip(values, codes, strict=True)],
        "text": [v if c == TEXT else None for v, c in zip(values, codes, strict=True)],
        "many": [v if c == MANY else None for v, c in zip(values, codes, strict=True)],
    }
    kept = pl.DataFrame(columns, schema=SCHEMA)
    return kept.filter((pl.col("code") != OTHER) | pl.Series([v is not None for v in values], dtype=pl.Boolean))


def _list_code(value: list[object]) -> int:
    return MANY if all(type(entry) is str for entry in value) else OTHER


def wide(fields: pl.DataFrame, owners: int, *, list_values: int) -> Wide:
    """One column a field name; an owner's last value counts.

    A field that is always a number or boolean becomes one; where strings come too, all become strings. A list of
    strings becomes one yes-or-no column for each of its ``list_values`` most frequent values (``color=white``).
    """
    columns: dict[str, pl.Series] = {}
    left_out = int((fields["code"] == OTHER).sum())
    fields = fields.filter(pl.col("code") != OTHER).unique(["owner", "name"], keep="last", maintain_order=True)
    for (name,), part in fields.group_by(["name"], maintain_order=True):
        lists = part.filter(pl.col("code") == MANY)
        single = part.filter(pl.col("code") != MANY)
        if single.height:
            columns[str(name)] = _place(single["owner"], _one_type(single), owners)
        if lists.height:
            columns |= _expand(str(name), lists, owners, list_values)
    return Wide(columns, left_out)


def _one_type(part: pl.DataFrame) -> pl.Series:
    codes = set(part["code"].unique())
    if codes == {TRUTH}:
        return part["number"] == 1.0
    if TEXT not in codes:
        return part["number"]
    return part.select(pl.coalesce("text", _as_text(pl.col("number"), pl.col("code")))).to_series()


def _as_text(number: pl.Expr, code: pl.Expr) -> pl.Expr:
    truth = pl.when(number == 1.0).then(pl.lit("true")).otherwise(pl.lit("false"))
    return pl.when(code == TRUTH).then(truth).otherwise(number.cast(pl.String).str.replace(r"\.0$", ""))


def _place(owner: pl.Series, values: pl.Series, owners: int) -> pl.Series:
    place: NDArray[np.int64] = np.full(owners, -1, np.int64)
    place[owner.to_numpy()] = np.arange(len(owner))
    at = pl.Series(place)
    return values.gather(pl.select(pl.when(at >= 0).then(at)).to_series())


def _expand(name: str, lists: pl.DataFrame, owners: int, most: int) -> dict[str, pl.Series]:
    entries = lists.select("owner", "many").explode("many").drop_nulls().unique(maintain_order=True)
    counts = entries.group_by("many").len().sort(["len", "many"], descending=[True, False]).head(most)
    columns: dict[str, pl.Series] = {}
    for value in counts["many"].sort().to_list():
        has: NDArray[np.float64] = np.full(owners, np.nan)
        has[lists["owner"].to_numpy()] = 0.0
        has[entries.filter(pl.col("many") == value)["owner"].to_numpy()] = 1.0
        columns[f"{name}={value}"] = pl.Series(has, nan_to_null=True)
    return columns


def free_name(name: str, taken: Iterable[str]) -> str:
    """``name``, or ``name_field`` (and so on) where the schema or another column has it already."""
    taken = set(taken)
    while name in taken:
        name = f"{name}_field"
    return name


def times(values: list[str | int | float]) -> pl.Series:
    """Milliseconds since 1970, UTC, from numbers, strings of digits, and ISO 8601 strings; null where it is neither."""
    from slatewise.data.log_columns import iso_to_moment

    text = pl.Series("time", [v if type(v) is str else repr(v) for v in values], dtype=pl.String)
    number = text.cast(pl.Float64, strict=False)
    whole = text.cast(pl.Int64, strict=False)
    found = pl.select(pl.coalesce(whole, pl.when(number.is_finite()).then(number).cast(pl.Int64, strict=False))).to_series()
    if not found.null_count():
        return found
    return pl.select(pl.coalesce(found, iso_to_moment(text).dt.epoch("ms"))).to_series()
