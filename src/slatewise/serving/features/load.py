"""Filling a feature store from tables in the log schema."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from slatewise.errors import UnavailableError
from slatewise.serving.features import Store, StoreError
from slatewise.serving.features.events import WHOLE
from slatewise.serving.moments import micros

CHUNK = 50_000  # rows encoded at a time


def load_table(store: Store, table: str, frame: pl.DataFrame) -> int:
    """Set the features of users or items; a row that is there is replaced whole, others stay.

    Args:
        store: to fill.   table: ``users`` or ``items``.   frame: their table, checked, one row an id.

    Returns:
        How many rows there are.

    Raises:
        UnavailableError: the store does not answer.
    """
    key = table.removesuffix("s") + "_id"
    body = pl.struct(pl.exclude(key)).struct.json_encode() if frame.width > 1 else pl.lit("{}")
    return _put(store, table, frame, pl.col(key), body)


def load_interactions(store: Store, frame: pl.DataFrame, *, keep: int) -> int:
    """Set the past of all users in a table of interactions, checked; the last ``keep`` of each.

    What the store learns from serving up to the table's last moment is from now on taken from the table.

    Returns:
        How many users there are.

    Raises:
        UnavailableError: the store does not answer.
    """
    time = pl.Series("t", micros(frame["timestamp"]))
    kinds = [name for name in frame.columns if name == "feedback" or name.startswith("feedback_")]
    contexts = [name for name in frame.columns if name.startswith("context_")]
    kinds = ["feedback"] if "feedback" in kinds else kinds
    past = frame.with_columns(time).sort("t", maintain_order=True).group_by("user_id").tail(keep)
    grouped = past.group_by("user_id", maintain_order=True).agg("t", "item_id", *kinds, *contexts)
    feedback = [pl.col(k).alias(WHOLE if k == "feedback" else k.removeprefix("feedback_")) for k in kinds]
    context = [pl.col(c).alias(c.removeprefix("context_")) for c in contexts]
    body = pl.struct(
        "t",
        pl.col("item_id").alias("i"),
        pl.struct(feedback).alias("f"),
        pl.lit(time.max()).alias("until"),
        *([pl.struct(context).alias("c")] if context else []),
    )
    return _put(store, "past", grouped, pl.col("user_id"), body.struct.json_encode())


def _put(store: Store, table: str, frame: pl.DataFrame, key: pl.Expr, body: pl.Expr) -> int:
    try:
        return store.put(table, _encoded(frame, key, body))
    except StoreError as error:
        raise UnavailableError(f"the feature store does not answer: {error}.") from None


def _encoded(frame: pl.DataFrame, key: pl.Expr, body: pl.Expr) -> Iterator[tuple[str, bytes]]:
    """Id and JSON of each row that has an id."""
    for part in frame.iter_slices(CHUNK):
        for name, text in part.select(key.cast(pl.String), body.alias("\0")).drop_nulls().iter_rows():
            yield name, text.encode()
