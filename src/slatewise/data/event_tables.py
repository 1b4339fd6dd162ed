"""Blocks of events gathered into flat tables: items, users, rankings, ranked items, interactions."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl

from slatewise.data.event_fields import Fields, Longs
from slatewise.data.event_lines import (
    Block,
    Event,
    InteractionEvent,
    ItemEvent,
    RankedItem,
    RankingEvent,
    UserEvent,
    bad_line,
    read_blocks,
)
from slatewise.data.log_columns import iso_to_moment

NAMES = ("items", "users", "rankings", "ranked", "interactions")

Dated = list[tuple[Event, int]]


@dataclass
class Table:
    """One flat table, filled block by block, and the fields of its rows."""

    parts: list[pl.DataFrame] = field(default_factory=list)
    fields: Fields = field(default_factory=Fields)
    height: int = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Append rows (their fields first: those count on from ``height``)."""
        self.parts.append(rows)
        self.height += rows.height

    def frame(self) -> pl.DataFrame:
        """All rows."""
        return pl.concat(self.parts)


@dataclass
class Tables:
    """The five tables of a log of events.

    ``items``, ``users``, ``rankings`` and ``interactions`` have ids and ``timestamp``, one row an event;
    ``ranked`` has one row an item of a ranking: ``ranking`` (a row of ``rankings``), ``item``, ``relevancy``,
    ``label``.
    """

    items: Table = field(default_factory=Table)
    users: Table = field(default_factory=Table)
    rankings: Table = field(default_factory=Table)
    ranked: Table = field(default_factory=Table)
    interactions: Table = field(default_factory=Table)
    events: int = 0
    bad: int = 0

    def left_out(self) -> int:
        """Field values of a type that no feature can have."""
        return sum(getattr(self, name).fields.left_out for name in NAMES)


def gather(paths: Iterable[Path], *, skip_bad: bool) -> Tables:
    """Read files of events, in order.

    Raises:
        DataError: a file cannot be read, or a line is no event and ``skip_bad`` is False.
    """
    tables = Tables()
    _add(tables, [])  # so that every table is there, if empty
    with _no_cycles():
        for path in paths:
            for block in read_blocks(path, skip_bad=skip_bad):
                dated = _with_times(block, path, skip_bad)
                _add(tables, dated)
                tables.events += len(dated)
                tables.bad += block.bad
    return tables


@contextmanager
def _no_cycles() -> Iterator[None]:
    """Events hold no cycles, and looking for some takes as long as decoding."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _with_times(block: Block, path: Path, skip_bad: bool) -> Dated:
    """Events with their time; one without a readable time is a bad line."""
    moments = times([event.timestamp for event in block.events])
    wrong = moments.is_null().arg_true()
    if not len(wrong):
        return list(zip(block.events, moments.to_list(), strict=True))
    if not skip_bad:
        first = int(wrong[0])
        what = f"timestamp {block.events[first].timestamp!r} is neither milliseconds nor ISO 8601"
        raise bad_line(path, block.lines[first], what)
    block.bad += len(wrong)
    return [
        (event, time) for event, time in zip(block.events, moments.to_list(), strict=True) if time is not None
    ]


def times(values: list[str | int | float]) -> pl.Series:
    """Milliseconds since 1970, UTC, from numbers, digits and ISO 8601 strings; null where it is neither."""
    text = pl.Series("time", [v if type(v) is str else repr(v) for v in values], dtype=pl.String)
    found = text.cast(pl.Int64, strict=False)
    if not found.null_count():
        return found
    number = pl.col("time").cast(pl.Float64, strict=False)
    number = pl.when(number.is_finite()).then(number).cast(pl.Int64, strict=False)
    return text.to_frame().select(pl.coalesce(found, number, iso_to_moment(text).dt.epoch("ms"))).to_series()


def _add(tables: Tables, dated: Dated) -> None:
    _add_items(tables.items, [(e, t) for e, t in dated if type(e) is ItemEvent])
    _add_users(tables.users, [(e, t) for e, t in dated if type(e) is UserEvent])
    _add_rankings(tables, [(e, t) for e, t in dated if type(e) is RankingEvent])
    _add_interactions(tables.interactions, [(e, t) for e, t in dated if type(e) is InteractionEvent])


def _ids(values: Sequence[str | int | None]) -> pl.Series:
    if not set(map(type, values)) <= {str, type(None)}:
        values = [v if v is None else str(v) for v in values]
    return pl.Series(values, dtype=pl.String)


def _times_of(rows: Iterable[tuple[object, int]]) -> pl.Series:
    return pl.Series([time for _, time in rows], dtype=pl.Int64)


def _numbers(values: list[float | None]) -> pl.Series:
    return pl.Series(np.array(values, np.float64), nan_to_null=True)


def _add_items(table: Table, rows: list[tuple[ItemEvent, int]]) -> None:
    table.fields.add([e.fields for e, _ in rows], table.height)
    table.add(pl.DataFrame({"id": _ids([e.item for e, _ in rows]), "timestamp": _times_of(rows)}))


def _add_users(table: Table, rows: list[tuple[UserEvent, int]]) -> None:
    table.fields.add([e.fields for e, _ in rows], table.height)
    table.add(pl.DataFrame({"id": _ids([e.user for e, _ in rows]), "timestamp": _times_of(rows)}))


def _add_rankings(tables: Tables, rows: list[tuple[RankingEvent, int]]) -> None:
    table, events = tables.rankings, [event for event, _ in rows]
    counts = np.array([len(e.items) for e in events], np.int64)
    place = np.arange(table.height, table.height + len(events))
    _add_ranked(tables.ranked, list(chain.from_iterable(e.items for e in events)), np.repeat(place, counts))
    table.fields.add([e.fields for e in events], table.height)
    users = _ids([e.user if e.user is not None else e.session for e in events])
    table.add(pl.DataFrame({"id": _ids([e.id for e in events]), "user": users, "timestamp": _times_of(rows)}))


def _add_ranked(table: Table, items: list[RankedItem], ranking: Longs) -> None:
    table.fields.add([item.fields for item in items], table.height)
    frame = pl.DataFrame(
        {
            "ranking": pl.Series(ranking, dtype=pl.Int64),
            "item": _ids([item.id for item in items]),
            "relevancy": _numbers([item.relevancy for item in items]),
            "label": _numbers([item.label for item in items]),
        }
    )
    table.add(frame)


def _add_interactions(table: Table, rows: list[tuple[InteractionEvent, int]]) -> None:
    events = [event for event, _ in rows]
    table.fields.add([e.fields for e in events], table.height)
    frame = pl.DataFrame(
        {
            "ranking": _ids([e.ranking for e in events]),
            "item": _ids([e.item for e in events]),
            "user": _ids([e.user if e.user is not None else e.session for e in events]),
            "type": pl.Series([e.type for e in events], dtype=pl.String),
            "timestamp": _times_of(rows),
        }
    )
    table.add(frame)
