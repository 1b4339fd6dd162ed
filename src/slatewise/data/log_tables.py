"""The tables beside the requests (users, items, interactions), and a source of all four, checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from slatewise.data.check import examine
from slatewise.data.entities import AVAILABLE
from slatewise.data.log_columns import ALLOWED, ID, SCALAR, TIME, WrongType, as_id, as_scalar, as_time
from slatewise.data.log_faults import Fault
from slatewise.data.log_files import find_table, read_frame
from slatewise.data.log_rules import Rule, broken
from slatewise.errors import DataError

Cast = Callable[[pl.Series], pl.Series]

KEYS = {"users": ("user_id",), "items": ("item_id",), "interactions": ("user_id", "item_id", "timestamp")}


@dataclass(frozen=True)
class Source:
    """Everything a file or folder of logs holds, in canonical types where it has no fault.

    Attributes:
        requests: the requests; columns at fault are left out.
        others: ``users``, ``items`` and ``interactions``, those that are there.
        faults: of all tables.
    """

    requests: pl.DataFrame
    others: dict[str, pl.DataFrame]
    faults: list[Fault]


def read_source(path: Path, *, ranking: bool = False, examples: int = 3) -> Source:
    """Read and check a file of requests, or a folder with ``requests.*`` and what stands beside it.

    Raises:
        DataError: there is no such file, or it is no table or damaged.
    """
    if not path.is_dir():
        return _source(read_frame(path), {}, ranking, examples)
    found = {table: find_table(path, table) for table in ("requests", *KEYS)}
    if found["requests"] is None:
        raise DataError(f"{path} has no requests.parquet, requests.csv or requests.jsonl.")
    frames = {table: read_frame(file) for table, file in found.items() if file}
    return _source(frames.pop("requests"), frames, ranking, examples)


def _source(requests: pl.DataFrame, others: dict[str, pl.DataFrame], ranking: bool, examples: int) -> Source:
    requests, faults = examine(requests, ranking=ranking, examples=examples)
    canonical: dict[str, pl.DataFrame] = {}
    for table, frame in others.items():
        canonical[table], found = check_table(frame, table, ids_of(requests), examples=examples)
        faults += found
    return Source(requests, canonical, faults)


def ids_of(requests: pl.DataFrame) -> dict[str, pl.DataType]:
    """The types that ``user_id`` and ``item_id`` must have to match the requests."""
    ids = {}
    if "user_id" in requests.columns:
        ids["user_id"] = requests.schema["user_id"]
    candidates = requests.schema.get("candidates")
    if isinstance(candidates, pl.List):
        ids["item_id"] = candidates.inner if isinstance(candidates.inner, pl.DataType) else candidates.inner()
    return ids


def check_table(
    frame: pl.DataFrame, table: str, ids: dict[str, pl.DataType] | None = None, *, examples: int = 3
) -> tuple[pl.DataFrame, list[Fault]]:
    """Check ``users``, ``items`` or ``interactions`` and bring it to canonical types.

    Args:
        frame: the table.
        table: which of the three it is.
        ids: types that ``user_id`` and ``item_id`` are brought to (the requests').
        examples: faults reported for each kind and column.

    Returns:
        The table, without the columns at fault, and the faults.
    """
    keys = KEYS[table]
    missing = [name for name in keys if name not in frame.columns]
    have = ", ".join(frame.columns) or "no columns"
    faults = [
        Fault(
            row=None,
            column=name,
            kind="missing-column",
            table=table,
            message=f"{name} is missing. The table has: {have}.",
        )
        for name in missing
    ]
    columns: dict[str, pl.Series] = {}
    for name in frame.columns:
        try:
            columns[name] = _cast(frame[name], keys, ids or {})
        except WrongType as wrong:
            allowed = ALLOWED[TIME if _is_time(name, keys) else ID if name in keys else SCALAR]
            message = f"{name} came as {wrong.came}; allowed is {allowed}."
            faults.append(
                Fault(
                    row=wrong.row,
                    column=name,
                    kind=wrong.kind,
                    message=message,
                    count=wrong.count,
                    table=table,
                )
            )
    canonical = pl.DataFrame(columns)
    if table == "interactions":
        canonical, wrong_feedback = _feedback(canonical)
        faults += wrong_feedback
    found = broken(canonical, _rules(canonical, table), key=keys[0], table=table, examples=examples)
    return canonical, faults + found


def _cast(column: pl.Series, keys: tuple[str, ...], ids: dict[str, pl.DataType]) -> pl.Series:
    if _is_time(column.name, keys):
        return as_time(column)
    if column.name not in keys:
        return as_scalar(column)
    column = as_id(column)
    wanted = ids.get(column.name, column.dtype)
    if column.dtype == wanted:
        return column
    same = column.cast(wanted, strict=False)
    lost = (
        column.is_not_null() & (same.is_null() | (same.cast(pl.String) != column.cast(pl.String)))
    ).arg_true()
    if len(lost):
        came = f"the string {column[int(lost[0])]!r} where requests has integers"
        raise WrongType(came, int(lost[0]), len(lost))
    return same


def _is_time(name: str, keys: tuple[str, ...]) -> bool:
    return (name == "timestamp" and name in keys) or (name == AVAILABLE and keys == KEYS["items"])


def _feedback(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[Fault]]:
    """The keys, feedback as numbers, contexts; a table without any feedback says only that it happened: 1.0."""
    kinds = [name for name in frame.columns if name == "feedback" or name.startswith("feedback_")]
    if not kinds:
        frame, kinds = frame.with_columns(feedback=pl.lit(1.0)), ["feedback"]
    context = [name for name in frame.columns if name.startswith("context_")]
    kept = [*(name for name in KEYS["interactions"] if name in frame.columns), *kinds, *context]
    faults = [_not_read(name, kept) for name in frame.columns if name not in kept]
    strings = [name for name in kinds if frame.schema[name] == pl.String]
    faults += [_no_number(name) for name in strings]
    numbers = [name for name in kinds if name not in strings]
    return frame.select(kept).drop(strings).with_columns(pl.col(numbers).cast(pl.Float64)), faults


def _not_read(name: str, kept: list[str]) -> Fault:
    message = f"{name} is not read; interactions has {', '.join(kept)}; feedback_<kind> and context_<name> would be."
    return Fault(
        row=None, column=name, kind="unknown-column", level="warning", table="interactions", message=message
    )


def _no_number(name: str) -> Fault:
    message = f"{name} came as a string; allowed is a number."
    return Fault(row=None, column=name, kind="wrong-type", message=message, table="interactions")


def _rules(frame: pl.DataFrame, table: str) -> list[Rule]:
    have = [name for name in KEYS[table] if name in frame.columns]
    rules = [
        Rule("null", name, pl.col(name).is_null(), lambda row: "is empty (null); every row needs one.")
        for name in have
    ]
    if table != "interactions" and have:
        rules.append(_duplicate(have[0]))
    floats = [name for name, dtype in frame.schema.items() if dtype.is_float()]
    strict = [name for name in floats if table == "interactions" and not name.startswith("context_")]
    return rules + [_not_finite(name, strict=name in strict) for name in floats]


def _duplicate(key: str) -> Rule:
    when = pl.col(key).is_not_null() & pl.col(key).is_duplicated()
    return Rule(
        f"duplicate-{key.removesuffix('_id')}",
        key,
        when,
        lambda row: f"{row[key]!r} has more than one row; allowed is one row an id.",
    )


def _not_finite(name: str, *, strict: bool) -> Rule:
    """Features may be missing (null or NaN); times and feedback of interactions may not."""
    column = pl.col(name)
    when = (
        column.is_null() | ~column.is_finite()
        if strict and name != "timestamp"
        else (column.is_not_null() & ~column.is_finite() if strict else column.is_infinite())
    )
    rest = "." if strict else ", and null for a missing one."
    return Rule("not-finite", name, when, lambda row: f"is {row[name]}; allowed are finite numbers{rest}")
