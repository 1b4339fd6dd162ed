"""What a source of logs holds: counts, feedback kinds, features; what is left out, and why."""

from __future__ import annotations

from typing import Any

import polars as pl

from slatewise.data.entities import AVAILABLE, ORGANIC
from slatewise.data.log_columns import feature_columns, feedback_columns
from slatewise.data.log_tables import Source


def counts(source: Source) -> dict[str, int]:
    """Whole numbers about the source; those of columns that are missing or at fault are left out.

    ``requests_without_exposure`` cannot be learned from and are left out by the data set ``parquet``;
    ``requests_without_positive_feedback`` are kept (a protocol may drop them).
    """
    frame = source.requests
    found = {"requests": frame.height}
    if "exposed" in frame.columns:
        found["requests_without_exposure"] = frame.height - exposed_requests(frame).height
    if "exposed" in frame.columns and feedback_columns(frame):
        found["requests_without_positive_feedback"] = _without_positive(exposed_requests(frame))
    if "user_id" in frame.columns:
        found["users_in_requests"] = frame["user_id"].drop_nulls().n_unique()
    if "candidates" in frame.columns:
        found["items_in_requests"] = frame["candidates"].explode().drop_nulls().n_unique()
    return found | {table: other.height for table, other in source.others.items()} | _unseen(source)


def exposed_requests(frame: pl.DataFrame) -> pl.DataFrame:
    """The requests with at least one exposed item."""
    return frame.filter(pl.col("exposed").list.len().fill_null(0) > 0)


def _without_positive(frame: pl.DataFrame) -> int:
    positive = pl.any_horizontal(
        (pl.col(name).list.max().fill_null(0) > 0) for name in feedback_columns(frame)
    )
    return int(frame.select((~positive).sum()).item())


def _unseen(source: Source) -> dict[str, int]:
    """Users and items of the requests without a row of features; they are served cold: no fault."""
    found: dict[str, int] = {}
    for table, key, column in (("users", "user_id", "user_id"), ("items", "item_id", "candidates")):
        other = source.others.get(table)
        if other is None or key not in other.columns or column not in source.requests.columns:
            continue
        ids = source.requests[column].alias(key)
        ids = (ids.explode() if isinstance(ids.dtype, pl.List) else ids).drop_nulls().unique()
        found[f"{table}_without_features"] = ids.to_frame().join(other, on=key, how="anti").height
    return found


def schema(source: Source) -> dict[str, Any]:
    """What was recognised: id types, feedback kinds, widths, features.

    Returns:
        ``ids`` (types of ``request_id``, ``user_id`` and items), ``feedback`` (one entry a kind: name,
        binary, mean), ``candidates``, ``exposed`` and ``history`` (min, median, max length),
        ``candidate_features``, ``context``, ``user_features``, ``item_features``, ``scores``, ``propensity``
        (None, "list" or "position").
    """
    frame = source.requests
    return {
        "ids": _id_types(frame),
        "feedback": [_feedback(frame[name]) for name in feedback_columns(frame)],
        **{
            name: _lengths(frame[name])
            for name in ("candidates", "exposed", "history")
            if name in frame.columns
        },
        "candidate_features": [name.removeprefix("candidate_") for name in feature_columns(frame)],
        "context": [n.removeprefix("context_") for n in frame.columns if n.startswith("context_")],
        "user_features": _features(source, "users", "user_id"),
        "item_features": _features(source, "items", "item_id"),
        "scores": "candidate_scores" in frame.columns,
        "propensity": _propensity(frame),
    }


def _id_types(frame: pl.DataFrame) -> dict[str, str]:
    names = {"request_id": "request_id", "user_id": "user_id", "candidates": "item_id"}
    words = {True: "string", False: "integer"}
    return {
        key: words[frame.schema[name] in (pl.String, pl.List(pl.String))]
        for name, key in names.items()
        if name in frame.columns
    }


def is_binary(column: pl.Series) -> bool:
    """True where every value in the lists is 0 or 1, so that it is an event and no amount."""
    return bool(column.explode().drop_nulls().is_in([0.0, 1.0]).all())


def _feedback(column: pl.Series) -> dict[str, Any]:
    mean = column.explode().drop_nulls().mean()
    name = column.name.removeprefix("feedback_")
    return {
        "name": name,
        "binary": is_binary(column),
        "mean": float(mean) if isinstance(mean, float) else None,
    }


def _lengths(column: pl.Series) -> dict[str, int]:
    size = column.list.len().fill_null(0)
    low, middle, high = size.min(), size.median(), size.max()
    return {} if low is None else {"min": int(low), "median": int(middle or 0), "max": int(high)}  # type: ignore[arg-type]


def _features(source: Source, table: str, key: str) -> list[str]:
    no_features = (key, *((ORGANIC, AVAILABLE) if table == "items" else ()))
    columns = source.others[table].columns if table in source.others else []
    return [name for name in columns if name not in no_features]


def _propensity(frame: pl.DataFrame) -> str | None:
    if "propensity" not in frame.columns:
        return None
    return "position" if isinstance(frame.schema["propensity"], pl.List) else "list"
