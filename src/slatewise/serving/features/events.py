"""A user's recent history: what the store keeps of it, and how its events become the columns of a request.

Three records: what was loaded (``Past``), a list that was shown (``Shown``), and what came of one of its items
(``Done``). They are only ever added; folding them when they are read is what keeps two writers from harming each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

from slatewise.serving.combine import Rule, rule_of
from slatewise.serving.records import Id, Scalar

WHOLE = ""  # the kind of feedback that is one number already
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Past(msgspec.Struct):
    """Interactions that were loaded, aligned, oldest first.

    Attributes:
        t: microseconds since 1970.   i: items.   f: feedback by kind.   c: context by name.
        until: the last moment that the loaded table speaks for: events up to it are in it, if they were at all.
    """

    t: list[int]
    i: list[Id]
    f: dict[str, list[float | None]]
    until: int
    c: dict[str, list[Scalar]] = {}


class Shown(msgspec.Struct, tag="s"):
    """A served list: request, time, items, context."""

    r: str
    t: int
    i: list[Id]
    c: dict[str, Scalar]


class Done(msgspec.Struct, tag="d"):
    """Feedback on an item of a served list: request, place in the list, kind, value, time if known."""

    r: str
    p: int
    k: str
    v: float
    t: int | None = None


@dataclass(slots=True)
class Met:
    """An item that a user met; ``last`` is when each kind's value was given."""

    time: int
    item: Id
    context: Mapping[str, Scalar]
    feedback: Mapping[str, float]
    last: Mapping[str, int]
    loaded: bool


encode = msgspec.json.Encoder().encode
_read_past = msgspec.json.Decoder(Past).decode
_read_event = msgspec.json.Decoder(Shown | Done).decode


def history_of(
    past: bytes | None, events: Iterable[bytes], rules: Mapping[str, Rule], before: int | None
) -> list[Met]:
    """What a user met strictly before a moment (None: ever), oldest first.

    Raises:
        msgspec.DecodeError: a record is none.
    """
    loaded = _read_past(past) if past is not None else None
    met = _loaded(loaded) if loaded is not None else []
    met += _served(map(_read_event, events), rules, loaded.until if loaded is not None else None)
    met = [one for one in met if before is None or one.time < before]
    return sorted(met, key=lambda one: one.time)


def _loaded(past: Past) -> list[Met]:
    def at(columns: Mapping[str, Sequence[Any]], row: int) -> dict[str, Any]:
        return {name: values[row] for name, values in columns.items()}

    feedback = [{k: float(v or 0.0) for k, v in at(past.f, row).items()} for row in range(len(past.i))]
    return [
        Met(time, item, at(past.c, row), feedback[row], NOTHING, True)
        for row, (time, item) in enumerate(zip(past.t, past.i, strict=True))
    ]


def _served(events: Iterable[Shown | Done], rules: Mapping[str, Rule], until: int | None) -> list[Met]:
    """Served lists with their feedback; those that the loaded table speaks for are left to it."""
    lists: dict[str, list[Met]] = {}
    for event in events:
        if isinstance(event, Done):
            if event.r in lists:
                _take_in(lists[event.r][event.p], event, rules)
        elif event.r not in lists:
            lists[event.r] = [Met(event.t, item, event.c, NOTHING, NOTHING, False) for item in event.i]
    return [one for shown in lists.values() for one in shown if until is None or one.time > until]


def _take_in(met: Met, event: Done, rules: Mapping[str, Rule]) -> None:
    """Combine an event with those before it, as an export of the log would."""
    rule, before, value = rule_of(event.k, rules), met.feedback.get(event.k), event.v
    if before is not None and rule == "max":
        value = max(before, value)
    elif before is not None and rule == "sum":
        value = before + value
    elif before is not None and event.t is not None and event.t < met.last.get(event.k, event.t):
        value = before
    met.feedback = {**met.feedback, event.k: value}
    if event.t is not None:
        met.last = {**met.last, event.k: max(event.t, met.last.get(event.k, event.t))}
