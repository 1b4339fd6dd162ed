"""Requests in; requests with their history, and patches of features, out: what ``FeatureTransform.batch`` takes.

The vectors that a model sees are made by the transform, as in training; a store only brings the tables to it
(``tests/unit/serving/test_offline_is_online.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.data.batch import ListBatch
from slatewise.data.entities import Patch
from slatewise.data.features import FeatureTransform
from slatewise.data.history import FEEDBACK, TIMESTAMP, weighted
from slatewise.data.ragged import ragged, relist
from slatewise.data.schema import Manifest
from slatewise.serving.combine import Rule
from slatewise.serving.features import Kept
from slatewise.serving.features.encoded import Encoder, series
from slatewise.serving.features.events import WHOLE, Met, history_of
from slatewise.serving.features.reader import Reader
from slatewise.serving.moments import MICRO, micros


@dataclass(frozen=True)
class Dressed:
    """Requests with what the store knows, ready for a transform.

    Attributes:
        requests: with ``history`` and what stands beside it, where users have one.
        items, users: features of those that the store has; None where it has none of them.
    """

    requests: pl.DataFrame
    items: Patch | None
    users: Patch | None


class OnlineFeatures:
    """The features of one ranker, from a store that may serve several."""

    def __init__(
        self,
        reader: Reader,
        transform: FeatureTransform,
        manifest: Manifest,
        rules: Mapping[str, Rule] | None = None,
    ) -> None:
        """Features as the ranker was trained on.

        Args:
            reader: of the store.   transform, manifest: the ranker's.
            rules: how several events of a kind are combined: those that its log was exported with.
        """
        self.reader, self.transform, self.rules = reader, transform, rules or {}
        self._items, self._users = Encoder(transform.items, reader), Encoder(transform.users, reader)
        self._target = manifest.target
        self._positive = manifest.source.get("protocol_options", {}).get("history_from") == "positive"
        self._contexts = [column.column for column in transform.context.columns]

    def batch(self, requests: pl.DataFrame) -> ListBatch:
        """Requests as the ranker takes them, with the store's features.

        Raises:
            DataError: as :meth:`FeatureTransform.batch`; never because of the store.
        """
        dressed = self.dress(requests, self.fetch(requests))
        return self.transform.batch(dressed.requests, items=dressed.items, users=dressed.users)

    def fetch(self, requests: pl.DataFrame) -> Kept:
        """One round trip: everything the store has for these requests, for any ranker to dress them with."""
        users = _names(requests["user_id"]) if "user_id" in requests.columns else []
        return self.reader.get(users, _names(ragged(requests["candidates"]).flat))

    def dress(self, requests: pl.DataFrame, kept: Kept) -> Dressed:
        """The requests with the history that this ranker reads, and their features.

        A request that brings its own ``history`` keeps it. What the store does not have is left out, so that the
        transform falls back to what was prepared, or cold.
        """
        if self.transform.history and "history" not in requests.columns and (kept.past or kept.events):
            requests = self._with_history(requests, kept)
        kept = self._with_items_of_history(requests, kept)
        return Dressed(requests, self._items.patch(kept.items), self._users.patch(kept.users))

    def _with_history(self, requests: pl.DataFrame, kept: Kept) -> pl.DataFrame:
        timed = "timestamp" in requests.columns
        before = micros(requests["timestamp"]) if timed else np.zeros(requests.height, np.int64)
        lists = [
            [] if user is None else self._met(str(user), kept, int(time) or None)
            for user, time in zip(requests["user_id"].to_list(), before, strict=True)
        ]
        flat = [one for met in lists for one in met]
        feedback = _weighted(flat, self._target)
        kept_M = np.array([one.loaded for one in flat], bool) | (feedback > 0 if self._positive else True)
        rows = np.flatnonzero(kept_M & _among_last(lists, kept_M, self.transform.history))
        owner = np.repeat(np.arange(len(lists)), [len(met) for met in lists])
        count = np.bincount(owner[rows], minlength=len(lists))
        return requests.hstack(self._columns([flat[row] for row in rows], feedback[rows], count))

    def _met(self, user: str, kept: Kept, before: int | None) -> list[Met]:
        try:
            met = history_of(kept.past.get(user), kept.events.get(user, ()), self.rules, before)
            return met if self._positive else met[-self.transform.history :]
        except msgspec.DecodeError:
            self.reader.count(damaged=1)
            return []

    def _columns(
        self, met: Sequence[Met], feedback: NDArray[np.float64], count: NDArray[np.int64]
    ) -> list[pl.Series]:
        flat = {
            "history": series([one.item for one in met]),
            FEEDBACK: pl.Series(feedback),
            TIMESTAMP: pl.Series([one.time // MICRO for one in met], dtype=pl.Int64),
        }
        for column in self._contexts:
            name = column.removeprefix("context_")
            flat[f"history_{column}"] = series([one.context.get(name) for one in met])
        return [relist(values, count, name) for name, values in flat.items()]

    def _with_items_of_history(self, requests: pl.DataFrame, kept: Kept) -> Kept:
        """Items of the history that preparation never met, from a second round trip; rare."""
        if "history" not in requests.columns:
            return kept
        met = ragged(requests["history"]).flat
        strange = np.flatnonzero(self.transform.items.vocab.encode(met) == 0)
        if not len(strange):
            return kept
        if names := [name for name in _names(met.gather(strange)) if name not in kept.items]:
            more = self.reader.get([], names, history=False)
            return replace(kept, items={**kept.items, **more.items})
        return kept


def _names(ids: pl.Series) -> list[str]:
    """The distinct ids as strings, nulls left out."""
    return [str(name) for name in dict.fromkeys(ids.to_list()) if name is not None]


def _weighted(met: Sequence[Met], target: Mapping[str, float]) -> NDArray[np.float64]:
    """(m,) the feedback of each as one number: as it was loaded, else its kinds weighed by the target."""
    kinds = {f"feedback_{kind}": [one.feedback.get(kind, 0.0) for one in met] for kind in target}
    total = weighted(pl.DataFrame(kinds, schema=dict.fromkeys(kinds, pl.Float64)), dict(target)).to_numpy()
    whole = np.array([one.feedback.get(WHOLE, np.nan) for one in met], np.float64)
    return np.where(np.isnan(whole), total, whole)


def _among_last(lists: Sequence[Sequence[Met]], kept_M: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
    """(m,) True for those of which fewer than ``length`` kept ones of the same request come after."""
    ends = np.cumsum([len(met) for met in lists])
    after = np.concatenate([kept_M[::-1].cumsum()[::-1], [0]])  # kept ones from here to the end of all
    ends_M = np.repeat(after[ends], [len(met) for met in lists])
    return after[:-1] - ends_M <= length
