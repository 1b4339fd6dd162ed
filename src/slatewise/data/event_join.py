"""Flat tables of events joined into requests in the log schema, entity features and the users' history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa

from slatewise.data.event_fields import Longs, free_name, widen
from slatewise.data.event_tables import Table, Tables
from slatewise.data.log_columns import FIXED
from slatewise.errors import ConfigError
from slatewise.names import nearest

LABEL = "label"


@dataclass(frozen=True)
class Options:
    """How to join; the names mean what they mean in ``slatewise.data.datasets.events.Config``."""

    types: list[str]
    amounts: dict[str, str]
    exposed_length: int | None
    score_field: str
    list_values: int


@dataclass(frozen=True)
class Joined:
    """Requests in the log schema, and what was found on the way.

    Attributes:
        requests: one row a ranking.
        interactions: ``user_id, item_id, timestamp, feedback`` of every interaction whose user is known.
        counts: what was kept, what was left out, and why.
    """

    requests: pl.DataFrame
    interactions: pl.DataFrame
    counts: dict[str, int]


def feedback_types(tables: Tables, wanted: tuple[str, ...], named: tuple[str, ...]) -> list[str]:
    """Interaction types that become feedback, sorted; ``label`` is one if any ranked item has a label.

    Raises:
        ConfigError: a wanted or named type does not occur.
    """
    have = set(tables.interactions.frame()["type"].unique())
    if tables.ranked.frame()[LABEL].count():
        have.add(LABEL)
    for name in (*wanted, *named):
        if name not in have:
            there = ", ".join(sorted(have)) or "none"
            raise ConfigError(
                f"no interaction has the type '{name}'; there are: {there}.{nearest(name, sorted(have))}"
            )
    return sorted(wanted or have)


def join(tables: Tables, options: Options) -> Joined:
    """Rankings, their items and their interactions as requests."""
    rankings, ranked, counts = _kept(tables)
    shown = ranked
    if options.exposed_length is not None:
        shown = ranked.filter(pl.int_range(pl.len()).over("ranking") < options.exposed_length)
    acts = _acts(tables.interactions, options)
    feedback, lost = _feedback(acts, rankings, shown, options)
    columns, left_out = _candidate_columns(tables.ranked, ranked, options)
    order = rankings["row"]
    requests = pl.DataFrame(
        {
            "request_id": rankings["id"],
            "user_id": rankings["user"],
            "timestamp": rankings["timestamp"],
            **_lists(ranked["ranking"], order, {"candidates": ranked["item"], **columns}),
            **_lists(shown["ranking"], order, {"exposed": shown["item"], **feedback}),
            **_context(tables.rankings, order, options.list_values),
        }
    )
    others = tables.interactions.height - acts.height
    rest = {"interactions_of_other_types": others, "candidate_texts_left_out": left_out}
    return Joined(requests, _history(acts, tables), counts | lost | rest)


def _kept(tables: Tables) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, int]]:
    """Rankings with an id of their own and some item; their items, each once, ``at`` a row of the table."""
    every = tables.rankings.frame().with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    ranked = tables.ranked.frame().with_row_index("at")
    first = every.filter(pl.col("id").is_first_distinct())
    filled = first.filter(_among(first["row"], ranked["ranking"]))
    if filled.height < every.height:
        ranked = ranked.filter(_among(ranked["ranking"], filled["row"]))
    once = _each_once(ranked, filled["row"])
    counts = {
        "rankings": every.height,
        "rankings_of_an_earlier_id": every.height - first.height,
        "rankings_without_items": first.height - filled.height,
        "rankings_without_user": filled["user"].null_count(),
        "items_repeated_in_a_ranking": ranked.height - once.height,
        "requests": filled.height,
    }
    # A ranking without user or session is its own user, else all anonymous visitors would share one history.
    return filled.with_columns(pl.col("user").fill_null(pl.col("id"))), once, counts


def _among(rows: pl.Series, wanted: pl.Series) -> pl.Series:
    """For each row number whether it is one of ``wanted``; a lookup, since both count rows of one table."""
    here = np.zeros(max(_top(rows), _top(wanted)), bool)
    here[wanted.to_numpy()] = True
    return pl.Series(here[rows.to_numpy()])


def _top(rows: pl.Series) -> int:
    return int(rows.to_numpy().max(initial=-1)) + 1


def _each_once(ranked: pl.DataFrame, order: pl.Series) -> pl.DataFrame:
    items = _lists(ranked["ranking"], order, {"item": ranked["item"]})["item"]
    if (items.list.n_unique() == items.list.len()).all():  # an order of magnitude faster than the general way
        return ranked
    return ranked.unique(["ranking", "item"], keep="first", maintain_order=True)


def _acts(table: Table, options: Options) -> pl.DataFrame:
    """Interactions of the kept types with their ``amount``: a field's value (null if it has none) or 1."""
    acts = table.frame()
    amount = np.ones(acts.height)
    numbers = widen(table.fields, acts.height, list_values=1) if options.amounts else {}
    for name, column in options.amounts.items():
        values = numbers.get(column)
        given = (
            values.cast(pl.Float64, strict=False).to_numpy()
            if values is not None
            else np.full(acts.height, np.nan)
        )
        amount = np.where((acts["type"] == name).to_numpy(), given, amount)
    acts = acts.with_columns(pl.Series("amount", amount, nan_to_null=True))
    return acts.filter(pl.col("type").is_in(options.types))


def _feedback(
    acts: pl.DataFrame, rankings: pl.DataFrame, shown: pl.DataFrame, options: Options
) -> tuple[dict[str, pl.Series], dict[str, int]]:
    """One column ``feedback_<type>`` a type, aligned with ``shown``, and what could not be joined."""
    known = acts.join(rankings.select(ranking="id", request="row"), on="ranking", how="inner")
    place = shown.select("item", request="ranking").with_row_index("place")
    place = place.filter(_among(place["request"], known["request"]))
    matched = known.join(place, on=["request", "item"], how="inner")
    outside = acts["ranking"].null_count()
    counts = {
        "interactions": acts.height,
        "interactions_outside_rankings": outside,
        "interactions_with_unknown_ranking": acts.height - outside - known.height,
        "interactions_with_item_not_shown": known.height - matched.height,
        "interactions_without_amount": acts["amount"].null_count(),
    }
    columns = {}
    for name in options.types:
        of_type = matched.filter(pl.col("type") == name)
        columns[f"feedback_{name}"] = _column(of_type, shown.height, adds_up=name in options.amounts)
    if LABEL in options.types:
        own = f"feedback_{LABEL}"
        columns[own] = shown[LABEL].zip_with(shown[LABEL].is_not_null(), columns[own])
    return columns, counts


def _column(matched: pl.DataFrame, size: int, *, adds_up: bool) -> pl.Series:
    """Amounts add up; what only happened happened once, however often."""
    amount = pl.col("amount").fill_null(0.0)
    values = matched.group_by("place").agg(amount.sum() if adds_up else amount.max())
    column = np.zeros(size)
    column[values["place"].to_numpy()] = values["amount"].to_numpy()
    return pl.Series(column)


def _candidate_columns(
    table: Table, ranked: pl.DataFrame, options: Options
) -> tuple[dict[str, pl.Series], int]:
    """Scores (if every item has one), ``candidate_<name>`` of the kept, and a count of texts left out."""
    wide = widen(table.fields, table.height, list_values=options.list_values)
    if ranked.height < table.height:
        wide = {name: values.gather(ranked["at"]) for name, values in wide.items()}
    lost = sum(values.count() for values in wide.values() if values.dtype == pl.String)
    numeric = {name: values.cast(pl.Float64) for name, values in wide.items() if values.dtype != pl.String}
    score = ranked["relevancy"]
    given = numeric.pop(options.score_field, None)
    if given is not None:
        score = score.zip_with(score.is_not_null(), given)
    columns: dict[str, pl.Series] = {}
    if score.count() == len(score):
        columns["candidate_scores"] = score
    elif score.count():  # scores of some items only are a feature with missing values
        numeric[options.score_field] = score
    for name, values in numeric.items():
        columns[free_name(f"candidate_{name}", [*FIXED, *columns])] = values
    return columns, lost


def _context(table: Table, order: pl.Series, list_values: int) -> dict[str, pl.Series]:
    wide = widen(table.fields, table.height, list_values=list_values)
    return {f"context_{name}": values.gather(order) for name, values in wide.items()}


def _lists(ranking: pl.Series, order: pl.Series, columns: dict[str, pl.Series]) -> dict[str, pl.Series]:
    """One list a ranking in ``order``, of flat columns whose rows stand in that order already."""
    counts = np.bincount(ranking.to_numpy(), minlength=_top(order))[order.to_numpy()]
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int64())
    old = pl.CompatLevel.oldest()  # older versions of polars crash on lists of Arrow's newer strings
    lists = {
        name: pa.LargeListArray.from_arrays(offsets, values.rechunk().to_arrow(compat_level=old))
        for name, values in columns.items()
    }
    return cast(pl.DataFrame, pl.from_arrow(pa.table(lists))).to_dict(as_series=True)


def last_known(table: Table, key: str, list_values: int) -> pl.DataFrame:
    """``key`` and one column a field: each one's last value in time, over all events of the same id."""
    events = table.frame()
    ids = events["id"].unique(maintain_order=True)
    entity = events.join(
        pl.DataFrame({"id": ids}).with_row_index("entity"), on="id", how="left", maintain_order="left"
    )
    rows: Longs = entity["entity"].cast(pl.Int64).to_numpy()
    spread = widen(
        table.fields, len(ids), list_values=list_values, order=(events["timestamp"].to_numpy(), rows)
    )
    columns = {key: ids}
    for column, values in spread.items():
        columns[free_name(column, columns)] = values
    return pl.DataFrame(columns)


def _history(acts: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    """In time; an interaction without user or session is its ranking's user's, if that is known."""
    viewers = (
        tables.rankings.frame()
        .select(ranking="id", viewer="user")
        .filter(pl.col("ranking").is_first_distinct())
    )
    joined = acts.join(viewers, on="ranking", how="left", maintain_order="left").sort(
        "timestamp", maintain_order=True
    )
    columns = {
        "user_id": pl.coalesce("user", "viewer"),
        "item_id": pl.col("item"),
        "timestamp": pl.col("timestamp"),
    }
    return joined.select(**columns, feedback=pl.col("amount").fill_null(0.0)).drop_nulls("user_id")
