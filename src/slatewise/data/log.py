"""The log: tables in the schema of `docs/log-schema.md`, between a data set (which reads) and a protocol (which cuts)."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl


@dataclass(frozen=True)
class Log:
    """What a data set hands over.

    Attributes:
        requests: one row a request in the log schema, or None where the data has no lists (ratings).
        users, items: ``user_id`` / ``item_id`` and one column a feature (number, boolean or string). Items may have
            the boolean ``organic``: content that is not to be recommended, met in histories only; and the time
            ``available_from``: before it an item is not to be recommended.
        interactions: ``user_id, item_id, timestamp`` and any of ``feedback`` (one number), ``feedback_<kind>`` and
            ``context_<name>``; one row an impression (no feedback at all: it was shown, nothing more).
        counts: what was read, what was left out, and why; printed by ``prepare``.
        truth: name and options of the simulator that knows the true value of a list, where there is one.
    """

    requests: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    items: pl.DataFrame | None = None
    interactions: pl.DataFrame | None = None
    counts: dict[str, int] = field(default_factory=dict)
    truth: dict[str, object] | None = None


@dataclass(frozen=True)
class Lists:
    """What a protocol hands over: requests cut, labelled and split, still in the caller's own ids.

    Attributes:
        requests: log schema plus ``split`` (``train``, ``validation``, ``test``); optionally ``history: list<id>``,
            ``history_feedback``, ``history_timestamp`` and ``history_context_<name>`` beside it (oldest first), else
            history is built from ``interactions``.
        users, items, interactions: as in :class:`Log`.
        training_interactions: the interactions that may be trained on: of each user, what lies before his first
            request to validate or test on. None: the exposures of the training requests.
        item_vectors: ``item_id, vector: list<float>``: start vectors for item embeddings, fitted on training data.
        length: L.   history: H, the longest history kept.
        target: weight of each feedback kind in a list's value.
        unexposed_is_negative: the protocol labels candidates without feedback 0.
        counts: ``Log.counts`` and the protocol's own.
        truth: passed through from :class:`Log`.
    """

    requests: pl.DataFrame
    users: pl.DataFrame | None
    items: pl.DataFrame | None
    interactions: pl.DataFrame | None
    item_vectors: pl.DataFrame | None
    length: int
    history: int
    target: dict[str, float]
    unexposed_is_negative: bool
    counts: dict[str, int]
    truth: dict[str, object] | None = None
    training_interactions: pl.DataFrame | None = None
