"""What a ranker reads of a request, of what a store knows now: histories and features as if prepared a moment ago."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from slatewise.data.batch import ListBatch
from slatewise.data.direct import DirectEncoder, Past, Row
from slatewise.data.features import FeatureTransform
from slatewise.data.fields import Drawn, batch_of
from slatewise.data.tables import Entities
from slatewise.errors import RequestError
from slatewise.serving.combine import Rule
from slatewise.serving.features import Kept
from slatewise.serving.features.encoded import Encoder, Newer, own_key
from slatewise.serving.features.events import WHOLE, Met, encode, history_of
from slatewise.serving.features.reader import Reader
from slatewise.serving.moments import MICRO


@dataclass(frozen=True)
class Reading:
    """How a ranker reads histories: as it was trained.

    Attributes:
        target: weights of the kinds of feedback.   positive: only items with feedback are in them.
        rules: how several events of a kind are combined: those that its log was exported with.
    """

    target: Mapping[str, float]
    positive: bool = False
    rules: Mapping[str, Rule] = field(default_factory=dict)


class Given(Protocol):
    """Features that a request brings along: of its user, and of candidates by id."""

    @property
    def user(self) -> Mapping[str, Any] | None: ...
    @property
    def items(self) -> Mapping[str, Mapping[str, Any]]: ...


class OnlineFeatures:
    """The features of one ranker, from a store that may serve several."""

    def __init__(self, reader: Reader | None, transform: FeatureTransform, reading: Reading) -> None:
        """``reader``: of the store; None: there is none, and all is as prepared.   ``transform``: the ranker's."""
        self.reader, self.transform, self.reading = reader, transform, reading
        self._encoder = DirectEncoder(transform)
        self._items, self._users = (
            Encoder(entity, self._damaged) for entity in (transform.items, transform.users)
        )

    def batch(self, rows: Sequence[Row], moments: Sequence[int] | None = None) -> ListBatch:
        """Requests as tensors, as wide as prepared ones; see :meth:`draw`."""
        return batch_of(self.draw(rows, moments, self.transform.num_candidates))

    def draw(
        self,
        rows: Sequence[Row],
        moments: Sequence[int] | None = None,
        width: int = 0,
        given: Sequence[Given] | None = None,
    ) -> Drawn:
        """Requests as the ranker takes them, with the store's features.

        A request that brings its own past or features keeps them. What the store does not have is as it was prepared,
        or cold.

        Args:
            moments: of the requests in microseconds since 1970, 0 = unknown; default: their seconds.   width: N at least.
            given: features that the requests bring along.

        Raises:
            DataError: as :meth:`DirectEncoder.columns`; never because of the store.
            RequestError: features that a request brings along cannot be read.
        """
        kept = Kept() if self.reader is None else self._fetch(self.reader, rows)
        if self.transform.history and (kept.past or kept.events):
            moments = [row.time * MICRO for row in rows] if moments is None else moments
            rows = [self._with_past(row, at, kept) for row, at in zip(rows, moments, strict=True)]
        if self.reader is not None:
            kept = self._with_items_of_history(self.reader, rows, kept)
        items, users = self._items.newer(kept.items), self._users.newer(kept.users)
        drawn = self._drawn(rows, width, items, users)
        return drawn if given is None else self._with_given(drawn, rows, given)

    def _fetch(self, reader: Reader, rows: Sequence[Row]) -> Kept:
        users = dict.fromkeys(str(row.user) for row in rows if row.user is not None)
        return reader.get(
            list(users), list(dict.fromkeys(str(item) for row in rows for item in row.candidates))
        )

    def _drawn(self, rows: Sequence[Row], width: int, items: Newer | None, users: Newer | None) -> Drawn:
        columns, transform = self._encoder.columns(rows, width), self.transform
        drawn = Drawn.of(columns, transform.users.table, transform.items.table, np.arange(len(rows)))
        if items is not None:
            known = [items.row] * len(rows)
            offered = _rows_of(known, [row.candidates for row in rows], columns["candidates"].shape[1])
            met = [row.past.items[-transform.history :] if row.past else () for row in rows]
            before = _rows_of(known, met, columns["history"].shape[1])
            drawn = replace(
                drawn,
                items=drawn.items.over(items.table, offered),
                history=drawn.history.over(items.table, before),
            )
        if users is not None:
            row_R = np.array([users.row.get(str(row.user), 0) if row.user is not None else 0 for row in rows])
            drawn = replace(drawn, users=drawn.users.over(users.table, row_R))
        return drawn

    def _with_given(self, drawn: Drawn, rows: Sequence[Row], given: Sequence[Given]) -> Drawn:
        """Features that requests bring along, over those of the store."""
        users: list[dict[str, bytes]] = []
        items: list[dict[str, bytes]] = []
        for row, one in zip(rows, given, strict=True):
            users.append(
                {} if not one.user else {str("" if row.user is None else row.user): encode(one.user)}
            )
            items.append({name: encode(features) for name, features in one.items.items()})
        drawn_users = _own(self._users, users, "user")
        if drawn_users is not None:
            row_R = np.array([next(iter(own.values()), 0) for own in drawn_users[1]])
            drawn = replace(drawn, users=drawn.users.over(drawn_users[0], row_R))
        drawn_items = _own(self._items, items, "items")
        if drawn_items is not None:
            width = drawn.items.index.shape[1]
            row_RN = _rows_of(drawn_items[1], [row.candidates for row in rows], width)
            drawn = replace(drawn, items=drawn.items.over(drawn_items[0], row_RN))
        return drawn

    def _damaged(self) -> None:
        if self.reader is not None:
            self.reader.count(damaged=1)

    def _with_past(self, row: Row, moment: int, kept: Kept) -> Row:
        if row.past is not None or row.user is None:
            return row
        try:
            name, rules = str(row.user), self.reading.rules
            met = history_of(kept.past.get(name), kept.events.get(name, ()), rules, moment or None)
        except msgspec.DecodeError:
            self._damaged()
            return row
        return replace(row, past=self._past(met))

    def _past(self, met: Sequence[Met]) -> Past:
        if not self.reading.positive:
            met = met[-self.transform.history :]
        feedback = [_weighted(one, self.reading.target) for one in met]
        if self.reading.positive:
            kept = [at for at, one in enumerate(met) if one.loaded or feedback[at] > 0]
            kept = kept[-self.transform.history :]
            met, feedback = [met[at] for at in kept], [feedback[at] for at in kept]
        times, contexts = [one.time // MICRO for one in met], [one.context for one in met]
        return Past([one.item for one in met], feedback, times, contexts)

    def _with_items_of_history(self, reader: Reader, rows: Sequence[Row], kept: Kept) -> Kept:
        """Items of the history that preparation never met, from a second round trip; rare."""
        find, length = self.transform.items.vocab.lookup, self.transform.history
        pasts = [row.past.items[-length:] for row in rows if row.past is not None] if length else []
        strange = dict.fromkeys(str(item) for past in pasts for item in past if not find(item))
        if names := [name for name in strange if name not in kept.items]:
            more = reader.get([], names, history=False)
            return replace(kept, items={**kept.items, **more.items})
        return kept


def _own(
    encoder: Encoder, given: Sequence[Mapping[str, bytes]], field: str
) -> tuple[Entities, list[dict[str, int]]] | None:
    """Features that requests bring along: a table, and for each request the rows of its entities in it."""
    keys = [{name: own_key(name, body) for name, body in rows.items()} for rows in given]
    together: dict[str, bytes] = {}
    for rows, named in zip(given, keys, strict=True):
        own = {named[name]: body for name, body in rows.items()}
        encoder.newer(own)  # one request at a time: in the table that is encoded an entity stands once
        together |= own
    found = encoder.newer(together)
    if len(found.row if found else ()) < len(together):
        raise RequestError(field, "has features that cannot be read as what they were in training.")
    if found is None:
        return None
    return found.table, [{name: found.row[key] for name, key in named.items()} for named in keys]


def _rows_of(
    known: Sequence[Mapping[str, int]], lists: Sequence[Sequence[int | str]], width: int
) -> NDArray[np.int64]:
    """(R, width) each item's row in its request's own mapping; 0 where it has none."""
    row_RN = np.zeros((len(lists), width), np.int64)
    for at, (rows, items) in enumerate(zip(known, lists, strict=True)):
        row_RN[at, : len(items)] = [rows.get(str(item), 0) for item in items]
    return row_RN


def _weighted(met: Met, target: Mapping[str, float]) -> float:
    """The feedback on an item as one number: as it was loaded, else its kinds weighed by the target."""
    if WHOLE in met.feedback:
        return met.feedback[WHOLE]
    # products of single precision, as preparation forms them
    given = [(weight, met.feedback.get(kind, 0.0)) for kind, weight in target.items()]
    return sum(float(np.float32(weight) * np.float32(value)) for weight, value in given if value)
