"""What every row of a request log must keep: a rule is a polars mask and a sentence on a row it catches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from slatewise.data.log_columns import (
    NUMBERS,
    SCALARS,
    TIMES,
    beside_history,
    feature_columns,
    feedback_columns,
    shape_of,
)
from slatewise.data.log_faults import Fault, show

Row = dict[str, Any]

SLICE = 100_000  # rows looked at together: bounds the memory of the intermediate lists


@dataclass(frozen=True)
class Rule:
    """A kind of fault in a column: ``when`` is True on rows at fault, ``say`` describes such a row."""

    kind: str
    column: str
    when: pl.Expr
    say: Callable[[Row], str]


def rules_for(frame: pl.DataFrame) -> list[Rule]:
    """Every rule that the columns of ``frame`` (canonical types) can be held to."""
    have = set(frame.columns)
    rules: list[Rule] = []
    for name in ("request_id", "user_id", "timestamp", "candidates"):
        rules += [_null(name)] if name in have else []
    if "request_id" in have:
        rules.append(_duplicate_request())
    if "timestamp" in have and frame["timestamp"].dtype.is_float():
        rules.append(_scalar_not_finite("timestamp"))
    rules += [_null_element(name) for name in ("candidates", "exposed", "history") if name in have]
    if "candidates" in have:
        rules += _candidate_rules(frame)
    if "exposed" in have:
        rules += _exposed_rules(frame)
    if "propensity" in have:
        rules += _propensity_rules(frame)
    if "history" in have:
        rules += [_length(name, "history") for name in beside_history(frame)]
    return rules + _number_rules(frame)


def broken(frame: pl.DataFrame, rules: list[Rule], *, key: str, table: str, examples: int) -> list[Fault]:
    """Hold ``frame`` to the rules; up to ``examples`` faults a rule, each with the count of all."""
    masks = [pl.concat(_masks(part, rules)) for part in _slices(frame)] if rules else []
    faults: list[Fault] = []
    for at, rule in enumerate(rules):
        rows = pl.concat([mask.filter(pl.col("rule") == at) for mask in masks])["row"]
        for row in rows.head(examples).to_list():
            values = frame.row(row, named=True)
            own = f"{key} {show(values[key])}" if values.get(key) is not None else ""
            fault = Fault(
                row=row,
                column=rule.column,
                kind=rule.kind,
                message=f"{rule.column} {rule.say(values)}",
                count=len(rows),
                table=table,
                key=own,
            )
            faults.append(fault)
    return faults


def _slices(frame: pl.DataFrame) -> list[pl.DataFrame]:
    indexed = frame.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("\0row"))
    if "request_id" in frame.columns:  # a duplicate may lie in another slice
        first = pl.col("request_id").is_first_distinct()
        indexed = indexed.with_columns((~first & pl.col("request_id").is_not_null()).alias("\0repeat"))
    return list(indexed.iter_slices(SLICE)) or [indexed]


def _masks(part: pl.DataFrame, rules: list[Rule]) -> list[pl.DataFrame]:
    masks = part.select("\0row", *[rule.when.alias(f"\0{at}") for at, rule in enumerate(rules)])
    return [
        masks.filter(pl.col(f"\0{at}").fill_null(False)).select(row="\0row", rule=pl.lit(at, pl.Int64))
        for at in range(len(rules))
    ]


def _null(name: str) -> Rule:
    return Rule("null", name, pl.col(name).is_null(), lambda row: "is empty (null); every request needs one.")


def _null_element(name: str) -> Rule:
    when = pl.col(name).list.eval(pl.element().is_null()).list.any()
    return Rule(
        "null-id",
        name,
        when,
        lambda row: f"has no id (null) at position {row[name].index(None)}; leave the item out of the list.",
    )


def _duplicate_request() -> Rule:
    return Rule(
        "duplicate-request",
        "request_id",
        pl.col("\0repeat"),
        lambda row: (
            f"{show(row['request_id'])} stands on an earlier row too; every request needs its own id."
        ),
    )


def _scalar_not_finite(name: str) -> Rule:
    when = pl.col(name).is_not_null() & ~pl.col(name).is_finite()
    return Rule("not-finite", name, when, lambda row: f"is {row[name]}; allowed are finite numbers.")


def _first_repeat(values: list[Any]) -> Any:
    return next(value for at, value in enumerate(values) if value is not None and value in values[:at])


def _repeats(name: str, kind: str) -> Rule:
    real = pl.col(name).list.drop_nulls()
    when = real.list.n_unique() != real.list.len()
    return Rule(
        kind,
        name,
        when,
        lambda row: (
            f"holds {show(_first_repeat(row[name]))} more than once; an item may stand in a list only once."
        ),
    )


def _candidate_rules(frame: pl.DataFrame) -> list[Rule]:
    empty = Rule(
        "empty-candidates",
        "candidates",
        pl.col("candidates").list.len() == 0,
        lambda row: "is an empty list; a request needs at least one candidate.",
    )
    rules = [empty, _repeats("candidates", "duplicate-candidate")]
    return rules + [_length(name, "candidates") for name in _candidate_lists(frame)]


def _candidate_lists(frame: pl.DataFrame) -> list[str]:
    return [name for name in ("candidate_scores", *feature_columns(frame)) if name in frame.columns]


def _length(name: str, other: str) -> Rule:
    """``name`` has one entry for each of ``other``; where ``name`` is null, other rules speak."""
    size, wanted = pl.col(name).list.len(), pl.col(other).list.len().fill_null(0)
    # A null list is a fault of its own (feedback, scores) or says that nothing is known (the others).
    return Rule(
        "length",
        name,
        size != wanted,
        lambda row: (
            f"has {len(row[name])} entries, but {other} has {len(row[other] or [])}; they must be aligned."
        ),
    )


def _exposed_rules(frame: pl.DataFrame) -> list[Rule]:
    rules = [_repeats("exposed", "duplicate-exposed")]
    if "candidates" in frame.columns:
        rules += [_not_candidate(), _too_long()]
    for name in feedback_columns(frame):
        rules += [_length(name, "exposed"), _feedback_null(name)]
    return rules


def _not_candidate() -> Rule:
    strange = pl.col("exposed").list.set_difference("candidates").list.drop_nulls().list.len() > 0

    def say(row: Row) -> str:
        item = next(i for i in row["exposed"] if i is not None and i not in set(row["candidates"]))
        return f"holds {show(item)}, which is not among the candidates; add it there, with its score."

    return Rule("exposed-not-candidate", "exposed", strange, say)


def _too_long() -> Rule:
    when = pl.col("exposed").list.len() > pl.col("candidates").list.len()
    return Rule(
        "too-long",
        "exposed",
        when,
        lambda row: (
            f"has {len(row['exposed'])} items, but there are only {len(row['candidates'])} candidates; "
            "a list is chosen from its candidates."
        ),
    )


def _feedback_null(name: str) -> Rule:
    when = pl.col(name).is_null() & (pl.col("exposed").list.len() > 0)
    return Rule(
        "null",
        name,
        when,
        lambda row: (
            f"is empty (null), but {len(row['exposed'])} items were exposed; write 0 where nothing happened."
        ),
    )


def _number_rules(frame: pl.DataFrame) -> list[Rule]:
    rules: list[Rule] = []
    for name in frame.columns:
        shape, dtype = shape_of(name), frame[name].dtype
        if shape in (SCALARS, TIMES):
            rules += [_elements_not_finite(name, missing_allowed=True)] if _float_list(dtype) else []
        elif shape == NUMBERS:
            rules.append(_elements_not_finite(name, missing_allowed=name in feature_columns(frame)))
        elif name.startswith("context_") and dtype.is_float():
            rules.append(_infinite_context(name))
    if "candidate_scores" in frame.columns:
        rules.append(_scores_null())
    return rules


def _float_list(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.List) and dtype.inner in (pl.Float32, pl.Float64)


def _elements_not_finite(name: str, *, missing_allowed: bool) -> Rule:
    """Features may be missing (null or NaN); scores and feedback may not."""
    element = pl.element()
    bad = element.is_infinite() if missing_allowed else element.is_null() | ~element.is_finite()
    when = pl.col(name).list.eval(bad.fill_null(False)).list.any()
    allowed = "finite numbers, and null for a missing one" if missing_allowed else "finite numbers"

    def say(row: Row) -> str:
        at = next(i for i, v in enumerate(row[name]) if _is_bad(v, missing_allowed))
        value = "null" if row[name][at] is None else row[name][at]
        return f"holds {value} at position {at}; allowed are {allowed}."

    return Rule("not-finite", name, when, say)


def _is_bad(value: float | None, missing_allowed: bool) -> bool:
    missing = value is None or value != value
    return (missing and not missing_allowed) or value in (float("inf"), float("-inf"))


def _infinite_context(name: str) -> Rule:
    return Rule(
        "not-finite",
        name,
        pl.col(name).is_infinite(),
        lambda row: f"is {row[name]}; allowed are finite numbers, and null for a missing one.",
    )


def _scores_null() -> Rule:
    return Rule(
        "null",
        "candidate_scores",
        pl.col("candidate_scores").is_null(),
        lambda row: "is empty (null); give every request its scores, or leave the column out.",
    )


def _propensity_rules(frame: pl.DataFrame) -> list[Rule]:
    name, column = "propensity", pl.col("propensity")
    if not isinstance(frame.schema[name], pl.List):
        out = column.is_finite() & ((column <= 0) | (column > 1))
        say = lambda row: f"is {row[name]}; allowed is above 0 and at most 1, and null where it is unknown."  # noqa: E731
        return [_scalar_not_finite(name), Rule("propensity", name, out, say)]
    return _propensity_list_rules(frame)


def _propensity_list_rules(frame: pl.DataFrame) -> list[Rule]:
    element = pl.element()
    bad = element.is_null() | ~element.is_finite()
    out = element.is_finite() & ((element <= 0) | (element > 1))
    rules = [
        Rule(
            "not-finite",
            "propensity",
            pl.col("propensity").list.eval(bad).list.any(),
            lambda row: "holds a value that is no finite number; allowed is above 0 and at most 1.",
        ),
        Rule(
            "propensity",
            "propensity",
            pl.col("propensity").list.eval(out.fill_null(False)).list.any(),
            lambda row: (
                f"holds {next(p for p in row['propensity'] if p is not None and not 0 < p <= 1)}; "
                "allowed is above 0 and at most 1."
            ),
        ),
    ]
    return [*rules, _length("propensity", "exposed")] if "exposed" in frame.columns else rules
