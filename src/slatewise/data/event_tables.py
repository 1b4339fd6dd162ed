"""Blocks of events gathered into flat tables: one row an item event, user event, ranking, ranked item, interaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from slatewise.data.event_fields import long, times
from slatewise.data.event_lines import (
    Block,
    InteractionEvent,
    ItemEvent,
    RankedItem,
    RankingEvent,
    UserEvent,
    bad_line,
    read_blocks,
)


@dataclass
class Tables:
    """Flat tables, filled block by block; ``owner`` columns count rows of the table that the fields belong to.

    Attributes:
        items, users, rankings, interactions: ids and ``timestamp``, one row an event.
        ranked: one row an item of a ranking: ``ranking`` (a row of ``rankings``), ``item``, ``relevancy``, ``label``.
        fields: for each of the five tables, its events' fields in long form.
    """

    parts: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    heights: dict[str, int] = field(default_factory=dict)
    events: int = 0
    bad: int = 0

    def add(self, name: str, rows: pl.DataFrame, fields: pl.DataFrame) -> None:
        """Append rows and the fields that belong to them (owners already counted on from :meth:`height`)."""
        self.parts.setdefault(name, []).append(rows)
        self.parts.setdefault(f"{name}.fields", []).append(fields)
        self.heights[name] = self.height(name) + rows.height

    def height(self, name: str) -> int:
        """Rows so far."""
        return self.heights.get(name, 0)

    def table(self, name: str) -> pl.DataFrame:
        """All rows of one of the five tables, or of its ``<name>.fields``."""
        return pl.concat(self.parts[name])


def gather(paths: Iterable[Path], *, skip_bad: bool) -> Tables:
    """Read files of events, in order.

    Raises:
        DataError: a file cannot be read, or a line is no event and ``skip_bad`` is False.
    """
    tables = Tables()
    _add_block(tables, [], pl.Series(dtype=pl.Int64))  # so that every table is there, if empty
    for path in paths:
        for block in read_blocks(path, skip_bad=skip_bad):
            moments = times([event.timestamp for event in block.events])
            _refuse_times(block, moments, path, skip_bad)
            tables.events += len(block.events)
            tables.bad += block.bad
            _add_block(tables, block.events, moments)
    return tables


def _refuse_times(block: Block, moments: pl.Series, path: Path, skip_bad: bool) -> None:
    """Events without a readable time get dropped from the block (they are null in ``moments``), or stop the reading."""
    wrong = moments.is_null().arg_true()
    if len(wrong) and not skip_bad:
        first = int(wrong[0])
        what = f"timestamp {block.events[first].timestamp!r} is neither milliseconds nor ISO 8601"
        raise bad_line(path, block.lines[first], what)
    block.bad += len(wrong)


def _add_block(tables: Tables, events: Sequence[object], moments: pl.Series) -> None:
    when = moments.to_list()
    both = [(e, t) for e, t in zip(events, when, strict=True) if t is not None]
    _add_entities(tables, "items", [(e, e.item, t) for e, t in both if type(e) is ItemEvent])
    _add_entities(tables, "users", [(e, e.user, t) for e, t in both if type(e) is UserEvent])
    _add_rankings(tables, [(e, t) for e, t in both if type(e) is RankingEvent])
    _add_interactions(tables, [(e, t) for e, t in both if type(e) is InteractionEvent])


def _ids(values: Iterable[str | int | None]) -> pl.Series:
    return pl.Series([v if type(v) is str or v is None else str(v) for v in values], dtype=pl.String)


def _numbers(values: Iterable[float | None]) -> pl.Series:
    return pl.Series(list(values), dtype=pl.Float64)


def _add_entities(tables: Tables, name: str, rows: list[tuple[ItemEvent | UserEvent, str | int, int]]) -> None:
    fields = long((event.fields for event, _, _ in rows), tables.height(name))
    ids = _ids(key for _, key, _ in rows)
    frame = pl.DataFrame({"id": ids, "timestamp": pl.Series([t for _, _, t in rows], dtype=pl.Int64)})
    tables.add(name, frame, fields)


def _add_rankings(tables: Tables, rows: list[tuple[RankingEvent, int]]) -> None:
    start = tables.height("rankings")
    events = [event for event, _ in rows]
    frame = pl.DataFrame({
        "id": _ids(e.id for e in events),
        "user": _ids(e.user if e.user is not None else e.session for e in events),
        "timestamp": pl.Series([t for _, t in rows], dtype=pl.Int64),
    })  # fmt: skip
    tables.add("rankings", frame, long((e.fields for e in events), start))
    counts = np.fromiter((len(e.items) for e in events), np.int64, len(events))
    _add_ranked(tables, [item for e in events for item in e.items], np.repeat(np.arange(start, start + len(events)), counts))


def _add_ranked(tables: Tables, items: list[RankedItem], ranking: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    frame = pl.DataFrame({
        "ranking": pl.Series(ranking, dtype=pl.Int64),
        "item": _ids(item.id for item in items),
        "relevancy": _numbers(item.relevancy for item in items),
        "label": _numbers(item.label for item in items),
    })  # fmt: skip
    tables.add("ranked", frame, long((item.fields for item in items), tables.height("ranked")))


def _add_interactions(tables: Tables, rows: list[tuple[InteractionEvent, int]]) -> None:
    events = [event for event, _ in rows]
    frame = pl.DataFrame({
        "ranking": _ids(e.ranking for e in events),
        "item": _ids(e.item for e in events),
        "user": _ids(e.user if e.user is not None else e.session for e in events),
        "type": pl.Series([e.type for e in events], dtype=pl.String),
        "timestamp": pl.Series([t for _, t in rows], dtype=pl.Int64),
    })  # fmt: skip
    tables.add("interactions", frame, long((e.fields for e in events), tables.height("interactions")))
