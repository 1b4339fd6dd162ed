"""What a caller sends and gets: the bodies of ``/v1/rank`` and ``/v1/feedback``, read strictly.

Names are those of the log schema. A body that is not what it should be is answered with the path to the field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from slatewise.config import Frozen
from slatewise.errors import RequestError
from slatewise.serving.checks import check_history, check_question
from slatewise.serving.records import Feedback, Id, Scalar
from slatewise.serving.rules import Rule, check_rules


class RankRequest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A list is wanted.

    Attributes:
        candidates: ids of what may be shown, each once.
        user_id: who asks; null or left out: nobody is known.
        request_id: the caller's; left out, the server makes one. Feedback refers to it. The first list under an id is the
            one that is logged; a server that waits for its log answers a repetition with it.
        scores: of the stage before, aligned with the candidates.
        features: of candidates that vary by request (``{"price": [9.5, null]}``), aligned.
        context: what is known of the request (``{"device": "phone"}``).
        user: features of the user, where the store has none or older ones.   items: features of candidates, by id.
        history: what the user met before, oldest first, instead of what the store knows; ``history_feedback`` and
            ``history_timestamp`` (seconds) stand beside it.
        timestamp: of the request, as in the log schema; left out: now.
        length: of the list; left out: as long as the ranker writes.
        deadline_ms: from the arrival; what cannot be ranked by then is answered by the candidates' own order.
        record: false: the list is not written to the feedback log.
        rules: business rules, the most important first; ``groups`` of the candidates that they may name, aligned.
    """

    candidates: list[Id]
    user_id: Id | None = None
    request_id: str | None = None
    scores: list[float] | None = None
    features: dict[str, list[float | None]] = {}
    context: dict[str, Scalar] = {}
    user: dict[str, Any] | None = None
    items: dict[str, dict[str, Any]] = {}
    history: list[Id] | None = None
    history_feedback: list[float] | None = None
    history_timestamp: list[int] | None = None
    timestamp: int | float | str | None = None
    length: int | None = None
    deadline_ms: float | None = None
    record: bool = True
    rules: list[Rule] = []
    groups: dict[str, list[Id | None]] = {}


class RankAnswer(msgspec.Struct, frozen=True):
    """The list.

    Attributes:
        items: first position first, in the caller's own ids.
        scores: of the items, as the ranker thinks of each at the first position; null with a fallback.
        log_prob: of the list under the ranker, in nats; null where it has none.
        ranker: which arm answered.   model: its version.
        fallback: why the list is the candidates' own order (``deadline``); null: the ranker wrote it.
        dropped_rules: paths of rules that no full list can keep beside the others.
        recorded: ``yes``: it is in the feedback log. ``soon``: it was handed over. ``no``: it is not logged.
            ``conflict``: nor is it; another question was asked under this request id, and feedback is on that one's list.
    """

    request_id: str
    items: list[Id]
    scores: list[float] | None
    log_prob: float | None
    ranker: str
    model: str
    fallback: str | None
    dropped_rules: list[str]
    recorded: str


class FeedbackAnswer(msgspec.Struct, frozen=True):
    """What became of an event (see ``docs/howto/feedback-log.md``)."""

    request_id: str
    outcome: str


class Fault(msgspec.Struct, frozen=True):
    """Why a request is refused; ``field`` is the path to what is wrong, ``body`` where it is all of it."""

    field: str
    message: str


class ErrorAnswer(msgspec.Struct, frozen=True):
    """The body of every answer that is no success."""

    error: Fault


RankBody = RankRequest | list[RankRequest]
FeedbackBody = Feedback | list[Feedback]

encode = msgspec.json.Encoder().encode
_rank = msgspec.json.Decoder(RankBody).decode
_feedback = msgspec.json.Decoder(FeedbackBody).decode
_PATH = re.compile(r" - at `(?:key in )?\$(.*)`$")


class MalformedError(RequestError):
    """A body that is no JSON at all."""


def read_rank(body: bytes) -> tuple[list[RankRequest], bool]:
    """The requests of a body, and whether it was a list of them.

    Raises:
        MalformedError: no JSON.   RequestError: not what is allowed, with the path to the field.
    """
    found = _read(_rank, body)
    return (found, True) if isinstance(found, list) else ([found], False)


def read_feedback(body: bytes) -> tuple[list[Feedback], bool]:
    """The events of a body, and whether it was a list of them.

    Raises:
        MalformedError, RequestError: as :func:`read_rank`.
    """
    found = _read(_feedback, body)
    return (found, True) if isinstance(found, list) else ([found], False)


def _read(decode: Any, body: bytes) -> Any:
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        text = str(error)
        found = _PATH.search(text)
        path = (found[1] if found else "").removeprefix(".") or "body"
        raise RequestError(path, f"is not allowed: {text[: found.start()] if found else text}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError("body", f"is no JSON: {error}.") from None


class Limits(Frozen):
    """What one call may ask for.

    Attributes:
        requests: of one call.   candidates: of one request.   history: items of a history that is sent along.
        names: features, or values of context, of one request, of its user, or of one of its items.
        kinds: different sets of features that the ``items`` of one request name; each set is encoded by itself.
    """

    requests: int = 256
    candidates: int = 1024
    history: int = 2000
    names: int = 256
    kinds: int = 32


def check_rank(asked: RankRequest, limits: Limits, most: int, longest: int) -> None:
    """Hold a request to the log schema and the limits.

    Args:
        most: candidates that the ranker takes.   longest: list that it writes.

    Raises:
        RequestError: the first fault, with its field.
    """
    _at_most("candidates", asked.candidates, min(limits.candidates, most))
    _at_most("features", asked.features, limits.names)
    _at_most("context", asked.context, limits.names)
    _at_most("groups", asked.groups, limits.names)
    _at_most("user", asked.user or {}, limits.names)
    _check_items(asked.items, limits)
    check_question(asked)
    if asked.length is not None and not 1 <= asked.length <= longest:
        raise RequestError("length", f"is {asked.length}; allowed are 1 to {longest}.")
    if asked.deadline_ms is not None and not 0 < asked.deadline_ms <= 60_000:
        raise RequestError(
            "deadline_ms", f"is {asked.deadline_ms}; allowed are numbers above 0, at most 60000."
        )
    check_rules(asked.rules, len(asked.candidates))
    for name, values in asked.groups.items():
        if len(values) != len(asked.candidates):
            raise RequestError(
                f"groups.{name}",
                f"has {len(values)} entries for {len(asked.candidates)} candidates; they must be aligned.",
            )
    if asked.history is None:
        for name in ("history_feedback", "history_timestamp"):
            if getattr(asked, name) is not None:
                raise RequestError(name, "is given without a history; it is aligned with one.")
        return
    _at_most("history", asked.history, limits.history)
    check_history(asked.history, asked.history_feedback, asked.history_timestamp)


def _check_items(items: Mapping[str, Mapping[str, Any]], limits: Limits) -> None:
    _at_most("items", items, limits.candidates)
    for name, features in items.items():
        _at_most(f"items.{name}", features, limits.names)
    kinds = len({frozenset(features) for features in items.values()})
    if kinds > limits.kinds:
        raise RequestError(
            "items",
            f"name {kinds} different sets of features; at most {limits.kinds} are allowed here, so give all items the same.",
        )


def _at_most(field: str, values: Any, most: int) -> None:
    if len(values) > most:
        raise RequestError(field, f"has {len(values)} entries; at most {most} are allowed here.")
