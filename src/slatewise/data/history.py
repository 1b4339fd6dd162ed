"""What a user did before a request: the last H interactions, never one of the same moment or later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.data.ragged import aligned, numbers, pad, ragged
from slatewise.data.vocab import Vocab
from slatewise.errors import DataError


@dataclass(frozen=True)
class History:
    """For each of n requests a stretch of one flat run of interactions, oldest first.

    Attributes:
        items: (m,) item ids.   feedback: (m,) weighted feedback of each.
        start, end: (n,) the request's history is ``items[start:end]``.
    """

    items: pl.Series
    feedback: NDArray[np.float32]
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    def rows(self, rows: slice | NDArray[np.bool_]) -> History:
        """The histories of the chosen requests."""
        return History(self.items, self.feedback, self.start[rows], self.end[rows])

    def used(self) -> pl.Series:
        """The distinct items that stand in any request's history."""
        edges = np.zeros(len(self.items) + 1, np.int64)
        np.add.at(edges, self.start, 1)
        np.add.at(edges, self.end, -1)
        return self.items.filter(pl.Series(edges.cumsum()[:-1] > 0)).unique()

    def padded(
        self, codes: NDArray[np.int32], width: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
        """Fixed-width arrays of the last ``width``: number (n,), item codes (n, width), feedback (n, width).

        ``codes`` has one entry an interaction (the vocabulary's index of ``items``).
        """
        count = np.minimum(self.end - self.start, width)
        first = self.end - count
        flat = np.repeat(first - (count.cumsum() - count), count) + np.arange(count.sum())
        return count.astype(np.int32), pad(codes[flat], count, width), pad(self.feedback[flat], count, width)


def no_history(requests: int) -> History:
    """Empty histories."""
    nowhere = np.zeros(requests, np.int64)
    return History(pl.Series([], dtype=pl.Int64), np.zeros(0, np.float32), nowhere, nowhere)


def history_lists(requests: pl.DataFrame, length: int) -> History:
    """Histories that the requests bring along: ``history`` (oldest first) and, if there,
    ``history_feedback``.

    Without feedback every interaction counts 1.

    Raises:
        DataError: a row's two lists differ in length.
    """
    lists = ragged(requests["history"])
    end = lists.count.cumsum()
    if "history_feedback" in requests.columns:
        feedback = _finite(numbers(aligned(requests, "history_feedback", lists, "history").flat))
    else:
        feedback = np.ones(len(lists.flat), np.float32)
    return History(lists.flat, feedback, np.maximum(end - lists.count, end - length), end)


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
    return History(kept["item_id"], feedback, np.where(known, start, 0), np.where(known, end, 0))


def exposure_interactions(
    requests: pl.DataFrame, target: dict[str, float], *, positive: bool = False
) -> pl.DataFrame:
    """The requests' own exposures as interactions: every shown item, at its request's timestamp.

    ``feedback`` is the feedback weighted by ``target``, so a shown item without any has 0. With ``positive``
    only items with weighted feedback above 0 are kept.

    Raises:
        DataError: a feedback list is not as long as the exposed list.
    """
    shown = ragged(requests["exposed"])
    total = np.zeros(len(shown.flat), np.float64)
    for kind, weight in target.items():
        if f"feedback_{kind}" in requests.columns:
            values = numbers(aligned(requests, f"feedback_{kind}", shown, "exposed").flat)
            total += weight * _finite(values)
    frame = requests.select("user_id", "timestamp")[shown.row]
    frame = frame.with_columns(shown.flat.alias("item_id"), pl.Series("feedback", total))
    return frame.filter(pl.col("feedback") > 0) if positive else frame


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
    return history_windows(interactions, requests, length)


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
