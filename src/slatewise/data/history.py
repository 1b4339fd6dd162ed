"""What a user did before a request: the last H interactions, never one of the same moment or later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.data.clock import seconds
from slatewise.data.ragged import aligned, numbers, pad, ragged, relist
from slatewise.data.vocab import Vocab
from slatewise.errors import DataError

FEEDBACK, TIMESTAMP = "history_feedback", "history_timestamp"


@dataclass(frozen=True)
class History:
    """For each of n requests a stretch of one flat run of interactions, oldest first.

    Attributes:
        items: (m,) item ids.   feedback: (m,) weighted feedback of each.
        time: (m,) seconds since 1970, 0 = unknown.
        context: (m,) rows of ``context_<name>`` columns; no column where nothing is known.
        start, end: (n,) the request's history is ``items[start:end]``.
    """

    items: pl.Series
    feedback: NDArray[np.float32]
    time: NDArray[np.int64]
    context: pl.DataFrame
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    def rows(self, rows: slice | NDArray[np.bool_]) -> History:
        """The histories of the chosen requests."""
        return replace(self, start=self.start[rows], end=self.end[rows])

    def used(self) -> pl.Series:
        """The distinct items that stand in any request's history."""
        edges = np.zeros(len(self.items) + 1, np.int64)
        np.add.at(edges, self.start, 1)
        np.add.at(edges, self.end, -1)
        return self.items.filter(pl.Series(edges.cumsum()[:-1] > 0)).unique()

    def places(self, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many interactions each request has, at most the last ``width``, and where in the flat run they stand."""
        count = np.minimum(self.end - self.start, width)
        first = self.end - count
        return count, np.repeat(first - (count.cumsum() - count), count) + np.arange(count.sum())

    def padded(self, flat: Mapping[str, NDArray[Any]], width: int) -> dict[str, NDArray[Any]]:
        """``num_history`` (n,) and each of the ``flat`` (m, ...) arrays as (n, width, ...), the last ``width`` of a
        request, zero behind its end."""
        count, place = self.places(width)
        columns = {name: pad(values[place], count, width) for name, values in flat.items()}
        return {"num_history": count.astype(np.int32), **columns}


def no_history(requests: int) -> History:
    """Empty histories."""
    nowhere = np.zeros(requests, np.int64)
    nothing = np.zeros(0, np.float32), np.zeros(0, np.int64)
    return History(pl.Series([], dtype=pl.Int64), *nothing, pl.DataFrame(), nowhere, nowhere)


def history_lists(requests: pl.DataFrame, length: int) -> History:
    """Histories that the requests bring along: ``history`` (oldest first) and, if there,
    ``history_feedback``, ``history_timestamp`` and ``history_context_<name>``.

    Without feedback every interaction counts 1; times and contexts that are not there are unknown.

    Raises:
        DataError: a row's lists differ in length.
    """
    lists = ragged(requests["history"])

    def beside(column: str) -> pl.Series:
        return aligned(requests, column, lists, "history").flat

    given, size = requests.columns, len(lists.flat)
    feedback = _finite(numbers(beside(FEEDBACK))) if FEEDBACK in given else np.ones(size, np.float32)
    time = seconds(beside(TIMESTAMP)) if TIMESTAMP in given else np.zeros(size, np.int64)
    context = {
        name.removeprefix("history_"): beside(name) for name in given if name.startswith("history_context_")
    }
    end = lists.count.cumsum()
    start = np.maximum(end - lists.count, end - length)
    return History(lists.flat, feedback, time, pl.DataFrame(context), start, end)


def history_columns(histories: History) -> list[pl.Series]:
    """Histories as the list columns that a caller sends: ``history``, ``history_feedback``, ``history_timestamp`` (in
    seconds) and each ``history_context_<name>``; the inverse of :func:`history_lists`."""
    count, place = histories.places(int((histories.end - histories.start).max(initial=0)))
    flat = {
        "history": histories.items.gather(place),
        FEEDBACK: pl.Series(histories.feedback[place].astype(np.float64)),
        TIMESTAMP: pl.Series(histories.time[place]),
        **{f"history_{column.name}": column.gather(place) for column in histories.context},
    }
    return [relist(values, count, name) for name, values in flat.items()]


def history_windows(interactions: pl.DataFrame, requests: pl.DataFrame, length: int) -> History:
    """The last ``length`` interactions of each request's user strictly before the request's timestamp.

    Interactions of one moment keep the order of their rows. Without user or timestamp there is no history.

    Args:
        interactions: ``user_id, item_id, timestamp`` and optionally ``feedback`` (else 1 for each).
        requests: ``user_id, timestamp``.
        length: H.

    Raises:
        DataError: a column is missing, or the two tables' timestamps cannot be compared.
    """
    for name, frame, columns in (
        ("interactions", interactions, ("user_id", "item_id", "timestamp")),
        ("requests", requests, ("user_id", "timestamp")),
    ):
        if missing := [column for column in columns if column not in frame.columns]:
            raise DataError(f"{name} have no column '{missing[0]}', which the history is built from.")
    done, asked = _ranks(interactions["timestamp"], requests["timestamp"])
    timed = done >= 0
    interactions, done = interactions.filter(pl.Series(timed)), done[timed]
    users = Vocab.of(interactions["user_id"])
    moments = int(max(done.max(initial=0), asked.max(initial=0))) + 1
    key = users.encode(interactions["user_id"]).astype(np.int64) * moments + done
    order = np.argsort(key, kind="stable")
    user = users.encode(requests["user_id"]).astype(np.int64) * moments
    key = key[order]
    end = np.searchsorted(key, user + np.maximum(asked, 0), side="left")
    start = np.maximum(np.searchsorted(key, user, side="left"), end - length)
    known = (user > 0) & (asked >= 0)
    kept = interactions[order]
    feedback = (
        _finite(numbers(kept["feedback"])) if "feedback" in kept.columns else np.ones(len(order), np.float32)
    )
    return History(
        items=kept["item_id"],
        feedback=feedback,
        time=seconds(kept["timestamp"]),
        context=kept.select(pl.col("^context_.*$")),
        start=np.where(known, start, 0),
        end=np.where(known, end, 0),
    )


def exposure_interactions(
    requests: pl.DataFrame, target: dict[str, float], *, positive: bool = False
) -> pl.DataFrame:
    """The requests' own exposures as interactions: every shown item, at its request's timestamp and in its context.

    ``feedback`` is the feedback weighted by ``target``, so a shown item without any has 0; each
    ``feedback_<kind>`` is there too, 0 where it is missing. With ``positive`` only items with weighted feedback above 0 are kept.

    Raises:
        DataError: a feedback list is not as long as the exposed list.
    """
    shown = ragged(requests["exposed"])
    kinds = {
        name: pl.Series(_finite(numbers(aligned(requests, name, shown, "exposed").flat)))
        for name in requests.columns
        if name.startswith("feedback_")
    }
    frame = requests.select("user_id", "timestamp", pl.col("^context_.*$"))[shown.row]
    frame = frame.with_columns(shown.flat.alias("item_id"), **kinds).with_columns(
        feedback=weighted(pl.DataFrame(kinds), target) if kinds else pl.lit(0.0)
    )
    return frame.filter(pl.col("feedback") > 0) if positive else frame


def weighted(kinds: pl.DataFrame, target: dict[str, float]) -> pl.Series:
    """The feedback of each row as one number: its ``feedback_<kind>`` columns, weighed by ``target``."""
    total = np.zeros(kinds.height)
    for kind, weight in target.items():
        if f"feedback_{kind}" in kinds.columns:
            total += weight * _finite(numbers(kinds[f"feedback_{kind}"]))
    return pl.Series("feedback", total)


def with_feedback(interactions: pl.DataFrame, target: dict[str, float]) -> pl.DataFrame:
    """Interactions with the column ``feedback``: their own, else their kinds weighed by ``target``, else 1 each."""
    if "feedback" in interactions.columns:
        return interactions
    if any(name.startswith("feedback_") for name in interactions.columns):
        return interactions.with_columns(weighted(interactions, target))
    return interactions.with_columns(feedback=pl.lit(1.0))


def request_history(
    requests: pl.DataFrame, interactions: pl.DataFrame | None, target: dict[str, float], length: int
) -> History:
    """Histories from the best source there is.

    That is the requests' own ``history`` lists; else the interactions; else the exposures of the user's
    earlier requests; else none (no timestamps).

    Raises:
        DataError: lists that must be aligned are not, or timestamps cannot be compared.
    """
    if "history" in requests.columns:
        return history_lists(requests, length)
    if not {"user_id", "timestamp"} <= set(requests.columns):
        return no_history(requests.height)
    if interactions is None:
        interactions = exposure_interactions(requests, target)
    return history_windows(with_feedback(interactions, target), requests, length)


def _ranks(done: pl.Series, asked: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both series' times on one integer scale, equal where the times are equal; -1 for a missing time."""
    times = pl.concat([_comparable(done, asked), _comparable(asked, done)])
    rank = times.rank("dense").cast(pl.Int64).fill_null(-1).to_numpy()
    return rank[: len(done)], rank[len(done) :]


def _comparable(times: pl.Series, other: pl.Series) -> pl.Series:
    kinds = (times.dtype, other.dtype)
    if all(kind.is_numeric() for kind in kinds):
        whole = all(kind.is_integer() for kind in kinds)
        return times.cast(pl.Int64) if whole else times.cast(pl.Float64).fill_nan(None)
    if all(kind == pl.Date or kind == pl.Datetime for kind in kinds) and _zone(times) == _zone(other):
        return times.cast(pl.Datetime("ns", _zone(times)))
    if pl.Null in kinds:
        return (
            times.cast(pl.Int64)
            if times.dtype == pl.Null
            else times.to_physical().cast(pl.Int64, strict=False)
        )
    raise DataError(
        f"timestamps have types {kinds[0]} and {kinds[1]}; "
        "they must be numbers in both tables, or dates of one time zone."
    )


def _zone(times: pl.Series) -> str | None:
    return times.dtype.time_zone if isinstance(times.dtype, pl.Datetime) else None


def _finite(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
