"""Refusing records that would not pass ``slatewise check`` later: every fault named with the path to its field."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from slatewise.data.geometry import GEOMETRY
from slatewise.errors import RequestError
from slatewise.serving.moments import MICRO
from slatewise.serving.records import Exposure, Feedback, Id, Record, Scalar

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")  # becomes a part of a column's name
MAX_ID = 512  # characters
MAX_INT = 2**63
MAX_FEEDBACK = 1e12  # a network squares it, in 32 bits
MAX_SECONDS = MAX_INT // MICRO
MAX_RECORDS = 10_000  # of one call: a statement has no room for more


def check_records(records: Sequence[Record]) -> None:
    """Hold the records of one call to what can be logged.

    Raises:
        RequestError: the first fault, with its field, or there are too many.
    """
    if len(records) > MAX_RECORDS:
        raise RequestError("body", f"has {len(records)} records; send at most {MAX_RECORDS} at a time.")
    for record in records:
        check_exposure(record) if isinstance(record, Exposure) else check_feedback(record)


class Question(Protocol):
    """What an exposure and a request to rank have in common."""

    @property
    def request_id(self) -> str | None: ...
    @property
    def user_id(self) -> Id | None: ...
    @property
    def candidates(self) -> Sequence[Id]: ...
    @property
    def scores(self) -> Sequence[float] | None: ...
    @property
    def features(self) -> Mapping[str, Sequence[float | None]]: ...
    @property
    def context(self) -> Mapping[str, Scalar]: ...


def check_question(asked: Question) -> None:
    """Hold what is asked to the log schema.

    Raises:
        RequestError: the first fault, with its field.
    """
    if asked.request_id is not None:
        _request_id(asked.request_id)
    if asked.user_id is not None:
        _id("user_id", asked.user_id)
    _ids("candidates", asked.candidates)
    if asked.scores is not None:
        _aligned("scores", asked.scores, len(asked.candidates), missing=False)
    for name, values in asked.features.items():
        _name("features", name, taken=("scores", "score", *GEOMETRY))
        _aligned(f"features.{name}", values, len(asked.candidates), missing=True)
    for name, value in asked.context.items():
        _name("context", name)
        _scalar(f"context.{name}", value)


def check_history(
    history: Sequence[Id], feedback: Sequence[float] | None, timestamp: Sequence[int] | None
) -> None:
    """Hold a history to the log schema; what stands beside it is aligned, or None.

    Raises:
        RequestError: the first fault, with its field.
    """
    for at, item in enumerate(history):
        _id(f"history[{at}]", item)
    if feedback is not None:
        _aligned("history_feedback", feedback, len(history), missing=False, of="items of the history")
        _within("history_feedback", feedback, MAX_FEEDBACK, f"numbers up to {MAX_FEEDBACK:g}")
    if timestamp is not None:
        _aligned("history_timestamp", timestamp, len(history), missing=False, of="items of the history")
        _within("history_timestamp", timestamp, MAX_SECONDS, "seconds since 1970")


def check_exposure(exposure: Exposure) -> None:
    """Hold an exposure to the log schema.

    Raises:
        RequestError: the first fault, with its field.
    """
    check_question(exposure)
    for name in ("arm", "model_version", "fallback"):
        if (value := getattr(exposure, name)) is not None:
            _id(name, value)
    for at, rule in enumerate(exposure.dropped_rules):
        _id(f"dropped_rules[{at}]", rule)
    _integer("timestamp", exposure.timestamp)
    _ids("served", exposure.served)
    _chosen(exposure)
    _propensity(exposure.propensity)


def check_feedback(feedback: Feedback) -> None:
    """Hold an event to what can be logged.

    Raises:
        RequestError: the first fault, with its field.
    """
    _request_id(feedback.request_id)
    _name("kind", feedback.kind)
    if feedback.item_id is None and feedback.position is None:
        raise RequestError("item_id", "is missing; name the item by item_id or by position (from 1).")
    if feedback.item_id is not None:
        _id("item_id", feedback.item_id)
    if feedback.position is not None and not 1 <= feedback.position < MAX_INT:
        raise RequestError("position", f"is {feedback.position}; positions count from 1.")
    if not math.isfinite(feedback.value):
        raise RequestError("value", f"is {feedback.value}; allowed are finite numbers.")
    if feedback.timestamp is not None:
        _integer("timestamp", feedback.timestamp)
    if feedback.event_id is not None:
        _id("event_id", feedback.event_id)


def _chosen(exposure: Exposure) -> None:
    offered = set(map(str, exposure.candidates))
    strange = next((at for at, item in enumerate(exposure.served) if str(item) not in offered), None)
    if strange is not None:
        raise RequestError(
            f"served[{strange}]",
            f"is {exposure.served[strange]!r}, which is no candidate; a list is made of them.",
        )


def _ids(field: str, ids: Sequence[Id]) -> None:
    if not ids:
        raise RequestError(field, "is empty; at least one item is needed.")
    for at, value in enumerate(ids):
        _id(f"{field}[{at}]", value)
    texts = list(map(str, ids))
    if len(set(texts)) < len(texts):
        at = next(at for at, text in enumerate(texts) if text in texts[:at])
        raise RequestError(f"{field}[{at}]", f"is {ids[at]!r} once more; an item stands in a list only once.")


def _request_id(value: str) -> None:
    if not value:
        raise RequestError("request_id", "is empty; name the request, by a name that no other has.")
    _id("request_id", value)


def _id(field: str, value: Id) -> None:
    if isinstance(value, int):
        return _integer(field, value)
    if len(value) > MAX_ID:
        raise RequestError(field, f"has {len(value)} characters; an id has at most {MAX_ID}.")
    return _text(field, value)


def _text(field: str, value: str) -> None:
    """No database stores a NUL in a text, and none a half of a surrogate pair."""
    if "\0" in value or (not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value)):
        raise RequestError(field, f"is {value!r}; a NUL or an unpaired surrogate is no text.")


def _integer(field: str, value: int) -> None:
    if isinstance(value, bool) or not -MAX_INT <= value < MAX_INT:
        raise RequestError(field, f"is {value}; allowed are integers of 64 bits, larger ids as strings.")


def _name(field: str, name: str, taken: tuple[str, ...] = ()) -> None:
    if not NAME.fullmatch(name) or name in taken:
        rule = "a name begins with a letter and has at most 63 letters, digits and _"
        but = f"; {', '.join(taken)} are taken" if taken else ""
        raise RequestError(field, f"has the name {name!r}; {rule}{but}.")


def _aligned(
    field: str, values: Sequence[float | None], count: int, *, missing: bool, of: str = "candidates"
) -> None:
    if len(values) != count:
        raise RequestError(field, f"has {len(values)} entries for {count} {of}; they must be aligned.")
    for at, value in enumerate(values):
        if value is None and missing:
            continue
        if value is None or not math.isfinite(value):
            raise RequestError(f"{field}[{at}]", f"is {value}; allowed are finite numbers.")


def _within(field: str, values: Sequence[float], most: float, allowed: str) -> None:
    far = next((at for at, value in enumerate(values) if abs(value) > most), None)
    if far is not None:
        raise RequestError(f"{field}[{far}]", f"is {values[far]}; allowed are {allowed}.")


def _scalar(field: str, value: Scalar) -> None:
    if isinstance(value, str):
        _text(field, value)
    elif isinstance(value, int) and not isinstance(value, bool):
        _integer(field, value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise RequestError(field, f"is {value}; allowed are finite numbers, and null for a missing one.")


def _propensity(value: float | None) -> None:
    if value is not None and not 0 < value <= 1:
        raise RequestError(
            "propensity", f"is {value}; allowed is above 0 and at most 1, null where it is unknown."
        )
