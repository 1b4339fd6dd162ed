"""From a log's impressions to coded events in the order of time, and negatives for those that are targets.

Shapes, besides the legend in :mod:`slatewise.types`: n interactions, R requests, U users, I items, S negatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.candidates.retrieval import Bools, Ints
from slatewise.data.clock import known
from slatewise.data.entities import ORGANIC
from slatewise.data.history import exposure_interactions
from slatewise.data.log import Log
from slatewise.data.vocab import Vocab
from slatewise.errors import ConfigError, DataError
from slatewise.protocols._chunks import in_order

FUNNEL = ("click", "conversion", "value")
ROUNDS = 24  # of drawing before a request is left with fewer negatives
CHUNK = 8192  # requests drawn for at once


@dataclass(frozen=True)
class Events:
    """Interactions sorted by user, time and row.

    Attributes:
        frame: ``user_id, item_id, timestamp, feedback``, ``feedback_<kind>`` and ``context_<name>``.
        users, items: the ids; codes are their places. Items hold those of the log's table, too.
        user_n, item_n: codes.   time_n: rank of the time among all, equal where times are.
        organic_I: True for content that is not to be recommended.
    """

    frame: pl.DataFrame
    users: pl.Series
    items: pl.Series
    user_n: Ints
    item_n: Ints
    time_n: Ints
    organic_I: Bools

    @cached_property
    def _pairs(self) -> tuple[Ints, Ints]:
        """Every user and item that met, as one number, sorted; and the row in which they first did."""
        keys, first = np.unique(self.user_n * len(self.items) + self.item_n, return_index=True)
        return keys, first

    def first_n(self) -> Bools:
        """True where the user meets the item for the first time."""
        first_n = np.zeros(len(self.user_n), dtype=bool)
        first_n[self._pairs[1]] = True
        return first_n

    def met(self, row_R: Ints, items_RS: Ints) -> Bools:
        """True where the user of the row met the item before it, or at the same moment."""
        keys, first = self._pairs
        wanted = self.user_n[row_R][:, None] * len(self.items) + items_RS
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        earlier: Bools = self.time_n[first[place]] <= self.time_n[row_R][:, None]
        return (keys[place] == wanted) & earlier


def read_events(
    log: Log, thresholds: tuple[float, ...], counts: dict[str, int], *, clock: bool = False
) -> Events:
    """The log's interactions, or else the exposures of its requests.

    Where there are only ratings, ``thresholds`` cut them into the funnel, and unless ``clock`` their times become places.

    ``feedback`` becomes how far down the funnel it went: the share of its kinds that are positive. ``counts`` is told
    what was left out.

    Raises:
        DataError: the log has neither interactions nor requests with users and timestamps.
        ConfigError: ``thresholds`` are not one to three rising numbers.
    """
    given = _interactions(log)
    placed = given.filter(
        pl.col("user_id").is_not_null(), pl.col("item_id").is_not_null(), pl.Series(known(given["timestamp"]))
    )
    if placed.height < given.height:
        counts["interactions left out: no user, item or time"] = given.height - placed.height
    if not placed.height:
        raise DataError(
            "the log has no interaction with a user, an item and a time; there is nothing to learn from."
        )
    if not _kinds(placed):
        placed = _funnel(placed if clock else _places(placed), thresholds)
    depth = pl.mean_horizontal(pl.col(name) > 0 for name in _kinds(placed))
    return _coded(placed.with_columns(feedback=depth), log.items)


def _kinds(frame: pl.DataFrame) -> list[str]:
    return [name for name in frame.columns if name.startswith("feedback_")]


def _places(ratings: pl.DataFrame) -> pl.DataFrame:
    """The ratings with their place in their user's order, from 1 on, as their time (0 would be an unknown one)."""
    return in_order(ratings).with_columns(pl.col("timestamp") + 1)


def _interactions(log: Log) -> pl.DataFrame:
    if log.interactions is not None:
        return log.interactions
    if log.requests is None or not {"user_id", "timestamp", "exposed"} <= set(log.requests.columns):
        raise DataError(
            "this protocol follows users through time, but the log has no interactions, and its requests lack one of "
            "user_id, timestamp and exposed; give a table of interactions."
        )
    return exposure_interactions(log.requests, {}).drop("feedback")


def _funnel(ratings: pl.DataFrame, thresholds: tuple[float, ...]) -> pl.DataFrame:
    """Ratings with the kinds of feedback that they are a proxy of."""
    if not 1 <= len(thresholds) <= len(FUNNEL) or list(thresholds) != sorted(set(thresholds)):
        raise ConfigError(
            f"thresholds are {list(thresholds)}, but must be one to three rising numbers: from which feedback on an "
            f"interaction counts as {', '.join(FUNNEL)}."
        )
    rating = pl.col("feedback") if "feedback" in ratings.columns else pl.lit(1.0)
    cut = {f"feedback_{kind}": rating >= least for kind, least in zip(FUNNEL, thresholds, strict=False)}
    return ratings.with_columns(**{name: is_met.cast(pl.Float32) for name, is_met in cut.items()})


def _coded(frame: pl.DataFrame, table: pl.DataFrame | None) -> Events:
    none = pl.Series("item_id", [], pl.Null)
    users, items = (
        Vocab.of(frame["user_id"]),
        Vocab.of(frame["item_id"], none if table is None else table["item_id"]),
    )
    user_n = users.encode(frame["user_id"]).astype(np.int64) - 1
    time_n = frame["timestamp"].rank("dense").to_numpy().astype(np.int64)
    order = np.lexsort((time_n, user_n))
    frame = frame[order]
    organic_I = np.zeros(len(items.ids), dtype=bool)
    if table is not None and ORGANIC in table.columns:
        content = table.filter(pl.col(ORGANIC).cast(pl.Boolean))["item_id"]
        organic_I[items.encode(content) - 1] = True
    item_n = items.encode(frame["item_id"]).astype(np.int64) - 1
    return Events(frame, users.ids, items.ids, user_n[order], item_n, time_n[order], organic_I)


def negatives(
    events: Events, row_R: Ints, pool: Ints, number: int, rng: np.random.Generator, *, met: bool
) -> Ints:
    """(R, S) distinct items drawn from ``pool`` (an item that stands in it twice comes twice as often); -1 where they
    run out.

    Never the row's own item, nor, unless ``met``, one that its user met before.
    """
    items_RS = np.full((len(row_R), number), -1, dtype=np.int64)
    for start in range(0, len(row_R), CHUNK):
        part = slice(start, start + CHUNK)
        items_RS[part] = _draw(events, row_R[part], pool, number, rng, met=met)
    return items_RS


def _draw(
    events: Events, row_R: Ints, pool: Ints, number: int, rng: np.random.Generator, *, met: bool
) -> Ints:
    items_RS = np.full((len(row_R), number), -1, dtype=np.int64)
    open_R = np.arange(len(row_R))
    for _ in range(ROUNDS):
        if not number or not len(open_R):
            break
        row_O = row_R[open_R]
        drawn_OM = pool[rng.integers(0, len(pool), (len(open_R), 2 * number))]
        bad_OM = drawn_OM == events.item_n[row_O][:, None]
        if not met:
            bad_OM |= events.met(row_O, drawn_OM)
        both = np.concatenate([items_RS[open_R], np.where(bad_OM, -1, drawn_OM)], axis=1)
        items_RS[open_R] = _distinct(both)[:, :number]
        open_R = open_R[items_RS[open_R, -1] < 0]
    return items_RS


def _distinct(items_RM: Ints) -> Ints:
    """Each row's items in their order, each once, -1 behind them."""
    order_RM = np.argsort(items_RM, axis=1, kind="stable")
    sorted_RM = np.take_along_axis(items_RM, order_RM, axis=1)
    again_RM = np.zeros(items_RM.shape, dtype=bool)
    np.put_along_axis(again_RM, order_RM[:, 1:], sorted_RM[:, 1:] == sorted_RM[:, :-1], axis=1)
    kept_RM: NDArray[np.bool_] = (items_RM >= 0) & ~again_RM
    front_RM = np.argsort(~kept_RM, axis=1, kind="stable")
    return np.take_along_axis(np.where(kept_RM, items_RM, -1), front_RM, axis=1)
