"""Logs of ranking events: ``item``, ``user``, ``ranking`` and ``interaction``, joined into lists.

The form is the one ranking services such as Metarank take in (docs.metarank.ai/reference/event-schema).
``source`` is a file (``.jsonl``, ``.ndjson`` or ``.json``, also ``.gz``, ``.xz`` or ``.zst``) or a folder of
such files, read in the order of their names.

* A ranking's items in their order are the candidates, and also the exposed list (its first ``exposed_length``
  items, if set).
* An interaction of type ``click`` with an item of the ranking makes ``feedback_click`` 1; items' ``label``
  becomes ``feedback_label``. Interactions outside any ranking go only into the users' history.
* Fields of a ranking become ``context_<name>``, fields of its items ``candidate_<name>``, the relevancy
  ``candidate_scores``; fields of item and user events become features.

Item and user features are the *last value known* in the whole log, not the value at the time of the ranking.
Where that matters (a price that changes, a counter), log the value with the ranking's items, as a field: that
one is kept as it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import polars as pl

from slatewise.config import Frozen
from slatewise.data.check import normalise
from slatewise.data.event_join import Options, feedback_types, join, last_known
from slatewise.data.event_tables import Tables, gather
from slatewise.data.log import Log
from slatewise.data.log_files import PACKED, suffix_of
from slatewise.errors import DataError

SUFFIXES = (".jsonl", ".ndjson", ".json")

AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]

DEFAULT_PROTOCOL = "log-v1"


class Config(Frozen):
    """How to join events into lists.

    Attributes:
        exposed_length: how many items of a ranking were really shown; None means all of them.
        feedback: interaction types to keep; empty keeps all. ``label`` stands for the items' explicit labels.
        amounts: for an interaction type, its field with an amount (``purchase = "price"``), summed over the
            interactions with an item; other types are 1 if they happened, however often.
        score_field: field of a ranking's items that holds the score of the stage before, where an item has no
            ``relevancy``.
        list_values: a field that is a list of strings becomes yes-or-no features, one for each of its most
            frequent values.
        bad_lines: whether a line that is no event stops the reading, or is left out and counted.
    """

    exposed_length: AtLeastOne | None = None
    feedback: tuple[str, ...] = ()
    amounts: dict[str, str] = msgspec.field(default_factory=dict)
    score_field: str = "relevancy"
    list_values: AtLeastOne = 32
    bad_lines: Literal["stop", "skip"] = "stop"


def load(config: Config, source: Path | None) -> Log:
    """Read events and join them.

    Raises:
        DataError: no source was named, it cannot be read, a line is no event, or there is nothing to learn
        from. ConfigError: ``feedback`` or ``amounts`` names an interaction type that does not occur.
    """
    tables = gather(_files(source), skip_bad=config.bad_lines == "skip")
    if not tables.rankings.height:
        raise DataError(f"{source} has no ranking event; at least one is needed to know what was shown.")
    types = feedback_types(tables, config.feedback, tuple(config.amounts))
    if not types:
        raise DataError(f"{source} has no interaction event and no label; feedback is needed to learn from.")
    return _log(config, tables, types, str(source))


def _log(config: Config, tables: Tables, types: list[str], source: str) -> Log:
    options = Options(types, config.amounts, config.exposed_length, config.score_field, config.list_values)
    joined = join(tables, options)
    if not joined.requests.height:
        raise DataError(f"{source} has no ranking event with an item; at least one is needed.")
    users = last_known(tables.users, "user_id", config.list_values)
    items = last_known(tables.items, "item_id", config.list_values)
    ranked = joined.requests.select(item_id=pl.col("candidates").explode().unique())
    counts = {
        "events": tables.events,
        "bad_lines_left_out": tables.bad,
        **joined.counts,
        "interactions_in_history": joined.interactions.height,
        "field_values_left_out": tables.left_out(),
        "items_without_features": ranked.join(items, on="item_id", how="anti").height,
    }
    requests = normalise(joined.requests, source=source)
    return Log(requests, _or_none(users), _or_none(items), _or_none(joined.interactions), counts)


def _or_none(frame: pl.DataFrame) -> pl.DataFrame | None:
    return frame if frame.height else None


def _files(source: Path | None) -> list[Path]:
    if source is None:
        raise DataError(
            "the data set 'events' needs --source: a file of JSON lines, or a folder of such files."
        )
    if not source.is_dir():
        if not source.exists():
            raise DataError(f"there is no file {source}.")
        return [source]
    found = sorted(path for path in source.iterdir() if path.is_file() and suffix_of(path) in SUFFIXES)
    if not found:
        raise DataError(
            f"{source} has no events; allowed are {', '.join(SUFFIXES)}, also with {', '.join(PACKED)}."
        )
    return found
