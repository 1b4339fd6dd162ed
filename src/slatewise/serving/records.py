"""What serving writes down: the lists that it showed, and what users did with them."""

from __future__ import annotations

import hashlib
import time

import msgspec

from slatewise.config import Frozen

Id = int | str
Scalar = bool | int | float | str | None


class Exposure(Frozen):
    """One served request: a row of the log schema (``docs/log-schema.md``) before its feedback.

    Attributes:
        request_id: the caller's or the server's; one request, one id.
        timestamp: of the request, microseconds since 1970, UTC.
        candidates: what the stage before handed over.   scores: its scores, aligned.
        features: of candidates that vary by request (``price`` becomes ``candidate_price``), aligned; None = missing.
        context: what is known of the request (``device`` becomes ``context_device``).
        served: the list that was shown, first position first.
        propensity: probability with which the arm's policy shows this list; None where unknown.
        arm: which ranker (arm of an experiment) served; None where there is only one.
        model_version: of the ranker's artifact.
        fallback: why the list is the candidates' own order; None: the ranker wrote it.
        dropped_rules: paths of rules of the request that no full list could keep.
    """

    request_id: str
    user_id: Id
    timestamp: int
    candidates: tuple[Id, ...]
    served: tuple[Id, ...]
    scores: tuple[float, ...] | None = None
    features: dict[str, tuple[float | None, ...]] = {}
    context: dict[str, Scalar] = {}
    propensity: float | None = None
    arm: str | None = None
    model_version: str | None = None
    fallback: str | None = None
    dropped_rules: tuple[str, ...] = ()

    def asked(self) -> str:
        """Digest of what was asked; the answer and the time of asking leave it as it is.

        A caller who tries again sends the same question, and gets the answer of the first time even if a new model
        would answer otherwise by now.
        """
        question = (self.user_id, self.candidates, self.scores, self.features, self.context)
        return hashlib.blake2b(msgspec.json.encode(question, order="sorted"), digest_size=16).hexdigest()


class Feedback(Frozen):
    """One thing that a user did with one item of a served list.

    The item is named by ``item_id``, by ``position`` (from 1), or by both. ``event_id`` or else ``timestamp`` tells an
    event from its repetition; an event with neither is the only one of its kind for its item.

    Attributes:
        kind: ``click``, ``value``, ``seconds`` …: becomes ``feedback_<kind>``.
        value: how much; 1 for what only happened.
        timestamp: of the event, microseconds since 1970, UTC; None: not known.
    """

    request_id: str
    kind: str
    item_id: Id | None = None
    position: int | None = None
    value: float = 1.0
    timestamp: int | None = None
    event_id: str | None = None

    def event(self) -> str:
        """What tells this event from others of its kind and item."""
        if self.event_id is not None:
            return f"id {self.event_id}"
        return "" if self.timestamp is None else f"at {self.timestamp}"


class Chosen(Frozen):
    """Which exposures of a log are meant: all but those that a field leaves out.

    Attributes:
        since, until: at or after, and before, microseconds since 1970.   arms: of these; empty = all.
    """

    since: int | None = None
    until: int | None = None
    arms: tuple[str, ...] = ()


Record = Exposure | Feedback


def now() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000
