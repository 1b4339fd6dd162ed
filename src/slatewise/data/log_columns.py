"""The columns of the log schema: which there are, and the canonical type each is brought to."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from slatewise.data.log_faults import Fault
from slatewise.data.ragged import each, ragged
from slatewise.names import nearest

MAX_INT = 2**63 - 1
ISO_8601 = (
    r"^(?P<day>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?P<clock>\d\d:\d\d)(?P<seconds>:\d\d(?:\.\d+)?)?\s?(?P<offset>[zZ]|[+-]\d\d:?\d\d)?)?$"
)

ID, IDS, NUMBERS, PROPENSITY, SCALAR, TIME = "id", "ids", "numbers", "propensity", "scalar", "time"
SCALARS, TIMES = "scalars", "times"

FIXED = {
    "request_id": ID,
    "user_id": ID,
    "timestamp": TIME,
    "candidates": IDS,
    "candidate_scores": NUMBERS,
    "exposed": IDS,
    "propensity": PROPENSITY,
    "history": IDS,
    "history_feedback": NUMBERS,
    "history_timestamp": TIMES,
    "arm": ID,
    "model_version": ID,
}
PREFIXED = {"feedback_": NUMBERS, "context_": SCALAR, "candidate_": NUMBERS, "history_context_": SCALARS}
REQUIRED = ("request_id", "user_id", "timestamp", "candidates", "exposed")
REQUIRED_RANKING = ("request_id", "user_id", "candidates")

ALLOWED = {
    ID: "a string or an integer",
    IDS: "a list of strings or of integers",
    NUMBERS: "a list of numbers",
    PROPENSITY: "a number, or a list with one number an exposed item",
    SCALAR: "a number, a boolean or a string",
    TIME: "a number, a date or a datetime",
    SCALARS: "a list of numbers, of booleans or of strings",
    TIMES: "a list of numbers, of dates or of datetimes",
}


class WrongType(Exception):
    """A column cannot be brought to its canonical type: what came and, if a row is to blame, which."""

    def __init__(self, came: str, row: int | None = None, count: int = 1, kind: str = "wrong-type") -> None:
        super().__init__(came)
        self.came, self.row, self.count, self.kind = came, row, count, kind


def shape_of(name: str) -> str | None:
    """Which shape the column ``name`` has in the log schema, or None where the schema does not know it."""
    if name in FIXED:
        return FIXED[name]
    return next(
        (s for prefix, s in PREFIXED.items() if name.startswith(prefix) and len(name) > len(prefix)), None
    )


def is_outcome(name: str) -> bool:
    """True for what is only known after the list was shown; a request that is to be ranked has none of it."""
    return name in ("exposed", "propensity", "arm", "model_version") or name.startswith("feedback_")


def feedback_columns(frame: pl.DataFrame) -> list[str]:
    """Columns of feedback, in the frame's order."""
    return [name for name in frame.columns if name.startswith("feedback_")]


def beside_history(frame: pl.DataFrame) -> list[str]:
    """Columns with one entry for each of ``history``."""
    return [n for n in frame.columns if n.startswith("history_") and shape_of(n) is not None]


def feature_columns(frame: pl.DataFrame) -> list[str]:
    """Columns ``candidate_<feature>``, without the scores."""
    return [n for n in frame.columns if n.startswith("candidate_") and n != "candidate_scores"]


def typed(frame: pl.DataFrame, *, ranking: bool) -> tuple[pl.DataFrame, list[Fault]]:
    """Bring every known column to its canonical type; those that cannot be come back as faults."""
    faults = [*_missing(frame, ranking), *_unknown(frame)]
    columns: dict[str, pl.Series] = {}
    for name in frame.columns:
        shape = shape_of(name)
        if shape is None or (ranking and is_outcome(name)):
            continue
        try:
            columns[name] = CAST[shape](frame[name])
        except WrongType as wrong:
            faults.append(_type_fault(name, shape, wrong))
    faults += _one_id_type(columns)
    return pl.DataFrame(columns), faults


def _type_fault(name: str, shape: str, wrong: WrongType) -> Fault:
    message = f"{name} came as {wrong.came}; allowed is {ALLOWED[shape]}."
    return Fault(row=wrong.row, column=name, kind=wrong.kind, message=message, count=wrong.count)


def _missing(frame: pl.DataFrame, ranking: bool) -> list[Fault]:
    wanted = [name for name in (REQUIRED_RANKING if ranking else REQUIRED) if name not in frame.columns]
    if not ranking and not any(shape_of(n) == NUMBERS for n in feedback_columns(frame)):
        wanted.append("feedback_<kind>")
    unknown = [name for name in frame.columns if shape_of(name) is None]
    return [_missing_fault(name, unknown, frame.columns) for name in wanted]


def _missing_fault(name: str, unknown: list[str], columns: list[str]) -> Fault:
    close = nearest(name, unknown).replace(" Did you mean", " Rename")
    hint = (
        close.replace("?", f" to '{name}'?")
        if close
        else f" The table has: {', '.join(columns) or 'no columns'}."
    )
    return Fault(row=None, column=name, kind="missing-column", message=f"{name} is missing.{hint}")


def _unknown(frame: pl.DataFrame) -> list[Fault]:
    known = [*FIXED, "feedback_click", "context_hour", "candidate_price"]
    return [_unknown_fault(name, known) for name in frame.columns if shape_of(name) is None]


def _unknown_fault(name: str, known: list[str]) -> Fault:
    rule = (
        "allowed besides the fixed columns are feedback_<kind>, context_<name>, "
        "history_context_<name> and candidate_<feature>"
    )
    message = f"{name} is no column of the log schema, so it is not read; {rule}.{nearest(name, known)}"
    return Fault(row=None, column=name, kind="unknown-column", message=message, level="warning")


def _one_id_type(columns: dict[str, pl.Series]) -> list[Fault]:
    """Item ids must be all integers or all strings; a column of empty lists takes the candidates' type."""
    if "candidates" not in columns:
        return []
    faults, wanted = [], columns["candidates"].dtype
    for name in ("exposed", "history"):
        column = columns.get(name)
        if column is None or column.dtype == wanted:
            continue
        if not column.list.len().sum():
            columns[name] = column.cast(wanted)
            continue
        came = f"{_words(column.dtype)} where candidates is {_words(wanted)}; cast one of them"
        faults.append(Fault(row=None, column=name, kind="wrong-type", message=f"{name} came as {came}."))
        del columns[name]
    return faults


def _words(dtype: pl.DataType) -> str:
    """The type in words that need no polars."""
    if isinstance(dtype, pl.List | pl.Array):
        inner = dtype.inner if isinstance(dtype.inner, pl.DataType) else dtype.inner()
        return "an empty list" if inner == pl.Null else f"a list of {_word(inner)}s"
    return f"{'an' if _word(dtype)[0] in 'aeiou' else 'a'} {_word(dtype)}"


def _word(dtype: pl.DataType) -> str:
    names = {
        pl.String: "string",
        pl.Boolean: "boolean",
        pl.Struct: "struct",
        pl.Null: "null",
        pl.List: "list",
    }
    if dtype.is_integer():
        return "integer"
    if dtype.is_numeric():
        return "number"
    return names.get(dtype.base_type(), str(dtype).lower())


# One function a shape: bring a series to its canonical type, or say what came.


def as_id(column: pl.Series) -> pl.Series:
    """Int64 or String.

    Raises:
        WrongType: neither integers nor strings, or an integer that does not fit 64 bits.
    """
    dtype = column.dtype
    if dtype == pl.String:
        return column
    if dtype == pl.Null or dtype.base_type() in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    if not dtype.is_integer():
        raise WrongType(_words(dtype))
    small = column.cast(pl.Int64, strict=False)
    _fits(column.is_not_null() & small.is_null(), column)
    return small


def as_ids(column: pl.Series) -> pl.Series:
    """List(Int64) or List(String).

    Raises:
        WrongType: no list of ids, or an integer that does not fit 64 bits.
    """
    column, inner = _as_list(column)
    if inner in (pl.Int64, pl.String):
        return column
    if inner == pl.Null or inner.base_type() in (pl.Categorical, pl.Enum):
        return column.cast(pl.List(pl.String))
    if not inner.is_integer():
        raise WrongType(_words(column.dtype))
    small = column.cast(pl.List(pl.Int64), strict=False)
    nulls = pl.element().is_null().sum()
    _fits(small.list.eval(nulls).list.first() > column.list.eval(nulls).list.first(), column)
    return small


def _fits(too_large: pl.Series, column: pl.Series) -> None:
    rows = too_large.fill_null(False).arg_true()
    if len(rows):
        came = f"an integer beyond 64 bits (over {MAX_INT}), which has to be written as a string"
        raise WrongType(came, int(rows[0]), len(rows), "id-too-large")


def as_numbers(column: pl.Series) -> pl.Series:
    """List(Float64).

    Raises:
        WrongType: no list of numbers or booleans.
    """
    column, inner = _as_list(column)
    if inner.is_numeric() or inner in (pl.Boolean, pl.Null):
        return column.cast(pl.List(pl.Float64))
    raise WrongType(_words(column.dtype))


def _as_list(column: pl.Series) -> tuple[pl.Series, pl.DataType]:
    dtype = column.dtype
    if dtype == pl.Null:
        column = column.cast(pl.List(pl.Null))
    elif isinstance(dtype, pl.Array):
        column = column.arr.to_list()
    if not isinstance(column.dtype, pl.List):
        raise WrongType(_words(dtype))
    inner = column.dtype.inner
    return column, inner if isinstance(inner, pl.DataType) else inner()


def as_propensity(column: pl.Series) -> pl.Series:
    """Float64 or List(Float64).

    Raises:
        WrongType: neither numbers nor lists of numbers.
    """
    if isinstance(column.dtype, pl.List | pl.Array):
        return as_numbers(column)
    if column.dtype.is_numeric() or column.dtype == pl.Null:
        return column.cast(pl.Float64)
    raise WrongType(_words(column.dtype))


def as_scalar(column: pl.Series) -> pl.Series:
    """Float64, Int64, Boolean or String.

    Raises:
        WrongType: a list, struct, date or the like.
    """
    dtype = column.dtype
    if dtype.base_type() in (pl.Categorical, pl.Enum, pl.Null):
        return column.cast(pl.String)
    if dtype in (pl.String, pl.Boolean):
        return column
    if dtype.is_numeric():
        wide = dtype in (pl.UInt64, pl.Int128) or not dtype.is_integer()
        return column.cast(pl.Float64 if wide else pl.Int64)
    raise WrongType(_words(dtype))


def as_time(column: pl.Series) -> pl.Series:
    """Numbers as they are; dates, datetimes and ISO 8601 strings as microseconds since 1970, UTC.

    Raises:
        WrongType: anything else, or a string that is not ISO 8601.
    """
    dtype = column.dtype
    if dtype == pl.Null:
        return column.cast(pl.Int64)
    if dtype.is_numeric():
        return as_scalar(column)
    if dtype == pl.String:
        return _parse_time(column)
    if dtype.is_temporal() and dtype.base_type() in (pl.Date, pl.Datetime):
        return column.cast(pl.Datetime("us")).dt.epoch("us") if dtype == pl.Date else column.dt.epoch("us")
    raise WrongType(_words(dtype))


def as_times(column: pl.Series) -> pl.Series:
    """A list of what :func:`as_time` gives.

    Raises:
        WrongType: no list of times.
    """
    return _as_each(column, as_time)


def as_scalars(column: pl.Series) -> pl.Series:
    """A list of what :func:`as_scalar` gives.

    Raises:
        WrongType: no list of numbers, booleans or strings.
    """
    return _as_each(column, as_scalar)


def _as_each(column: pl.Series, cast: Callable[[pl.Series], pl.Series]) -> pl.Series:
    column, _ = _as_list(column)
    try:
        return each(column, cast)
    except WrongType as wrong:
        if wrong.row is None:
            raise WrongType(_words(column.dtype)) from None
        raise WrongType(wrong.came, int(ragged(column).row[wrong.row]), wrong.count) from None


def iso_to_moment(text: pl.Series) -> pl.Series:
    """ISO 8601 dates and datetimes to UTC moments (no offset means UTC); null where the string is neither."""
    parts = text.str.strip_chars().str.extract_groups(ISO_8601)
    day, clock, seconds, offset = (parts.struct.field(name) for name in ("day", "clock", "seconds", "offset"))
    whole = pl.select(
        pl.concat_str(
            day,
            pl.lit("T"),
            clock.fill_null("00:00"),
            seconds.fill_null(":00"),
            offset.fill_null("+00:00").str.replace("^[zZ]$", "+00:00"),
        )
    ).to_series()
    return whole.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", time_zone="UTC", strict=False)


def _parse_time(column: pl.Series) -> pl.Series:
    moment = iso_to_moment(column)
    bad = (column.is_not_null() & moment.is_null()).arg_true()
    if len(bad):
        came = f"the string {column[int(bad[0])]!r}, which is no ISO 8601 datetime"
        raise WrongType(came, int(bad[0]), len(bad))
    return moment.dt.epoch("us")


CAST: dict[str, Callable[[pl.Series], pl.Series]] = {
    ID: as_id,
    IDS: as_ids,
    NUMBERS: as_numbers,
    PROPENSITY: as_propensity,
    SCALAR: as_scalar,
    TIME: as_time,
    SCALARS: as_scalars,
    TIMES: as_times,
}
