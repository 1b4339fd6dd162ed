"""CSV has neither lists nor types; this page says how its cells are read.

A list cell is JSON (``[1, 2]``, ``["a b", "c"]``) or holds its entries between ``|`` or ``,``. Which of the
three is decided once a column: JSON if any cell begins with ``[``, else ``|`` if any cell has one, else
    ``,``. Spaces around
entries are dropped, except inside JSON strings. An empty cell is null; an empty list is written ``[]``. Item
ids are integers if every entry of every list of ids is written as one (``7``, not ``007``), else all are
strings; other ids go by column.
"""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec
import polars as pl

from slatewise.data.log_columns import ID, IDS, NUMBERS, PROPENSITY, SCALARS, TIMES, shape_of
from slatewise.data.ragged import each
from slatewise.errors import DataError

INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"  # at most 18 digits always fit 64 bits
NUMBER = r"^[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$|^[+-]?([nN]a[nN]|[iI]nf(inity)?)$"
BOOLEAN = r"^(true|false|True|False|TRUE|FALSE)$"
ENTITY_IDS = ("user_id", "item_id", "request_id")


def read_csv(raw: bytes, source: str) -> pl.DataFrame:
    """Read a CSV of requests, users, items or interactions; types as the page above says.

    Raises:
        DataError: it is no CSV, or a list cell cannot be read; the sentence has the row.
    """
    if not raw.strip():
        return pl.DataFrame()
    try:
        frame = pl.read_csv(raw, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{source}{_ragged(raw) or f' is not a CSV file: {_first_line(error)}.'}") from None
    # items and interactions have no lists: one item a row, one value a cell
    flat = "item_id" in frame.columns
    columns = {name: _column(frame[name], None if flat else shape_of(name), source) for name in frame.columns}
    return pl.DataFrame(_integer_ids(columns))


def _column(text: pl.Series, shape: str | None, source: str) -> pl.Series:
    if shape == IDS:
        return _lists(text, source)
    if shape == NUMBERS or (shape == PROPENSITY and text.str.contains(r"[\[|,]").any()):
        return _number_lists(text, source)
    if shape in (SCALARS, TIMES):
        return each(_lists(text, source), infer)
    if shape == ID or text.name in ENTITY_IDS:
        return as_integers(text)
    return infer(text)


def as_integers(text: pl.Series) -> pl.Series:
    """Int64 if every value is written as an integer, else the strings as they are."""
    return text.cast(pl.Int64) if text.drop_nulls().str.contains(INTEGER).all() and text.count() else text


def infer(text: pl.Series) -> pl.Series:
    """Int64, Float64, Boolean or String, the first that fits every value."""
    values = text.drop_nulls()
    if not len(values) or values.str.contains(INTEGER).all():
        return as_integers(text)
    if values.str.contains(NUMBER).all():
        return text.cast(pl.Float64, strict=False)
    if values.str.contains(BOOLEAN).all():
        return text.str.to_lowercase() == "true"
    return text


def _lists(text: pl.Series, source: str) -> pl.Series:
    """List(String)."""
    cells = text.str.strip_chars()
    cells = pl.select(pl.when(cells != "").then(cells).alias(text.name)).to_series()
    if cells.str.starts_with("[").any():
        return _json_lists(cells, source)
    mark = "|" if cells.str.contains("|", literal=True).any() else ","
    return cells.str.split(mark).list.eval(pl.element().str.strip_chars())


def _json_lists(cells: pl.Series, source: str) -> pl.Series:
    try:
        return cells.str.json_decode(pl.List(pl.String))
    except pl.exceptions.PolarsError:
        raise DataError(f"{source}: {_bad_cell(cells)}") from None


def _bad_cell(cells: pl.Series) -> str:
    decoder = msgspec.json.Decoder(list[Any])
    for row, cell in enumerate(cells):
        try:
            if cell is not None:
                decoder.decode(cell)
        except msgspec.DecodeError as error:
            return f"row {row}, column '{cells.name}': the cell is no JSON list ({error}): {cell[:60]}"
    return f"column '{cells.name}' cannot be read as JSON lists."


def _number_lists(text: pl.Series, source: str) -> pl.Series:
    """List(Float64); an entry that is no number raises, an empty one or ``null`` is null."""
    lists = _lists(text, source)
    words = lists.list.eval(pl.when(~pl.element().is_in(["", "null"])).then(pl.element()))
    numbers = words.cast(pl.List(pl.Float64), strict=False)
    lost = words.list.drop_nulls().list.len() != numbers.list.drop_nulls().list.len()
    rows = lost.fill_null(False).arg_true()
    if len(rows):
        row = int(rows[0])
        raise DataError(
            f"{source}: row {row}, column '{text.name}': {text[row][:60]!r} is no list of numbers."
        )
    return numbers


def _integer_ids(columns: dict[str, pl.Series]) -> dict[str, pl.Series]:
    """Item ids to Int64 if all of them, in every column, are written as integers."""
    names = [name for name in columns if shape_of(name) == IDS]
    entries = [columns[name].explode().drop_nulls() for name in names]
    if any(len(e) for e in entries) and all(e.str.contains(INTEGER).all() for e in entries):
        return columns | {name: columns[name].cast(pl.List(pl.Int64)) for name in names}
    return columns


def _ragged(raw: bytes) -> str:
    """The first record with another number of cells than the header, as the end of a sentence."""
    try:
        records = csv.reader(io.StringIO(raw.decode()))
        width = len(next(records))
        for row, record in enumerate(records):
            if record and len(record) != width:
                return f", row {row}: {len(record)} cells where the header has {width}."
    except (UnicodeDecodeError, csv.Error) as error:
        return f" is not a CSV file: {_first_line(error)}."
    return ""


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
