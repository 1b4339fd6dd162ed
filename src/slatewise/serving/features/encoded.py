"""Rows of a store as the numbers a model reads: each row is encoded when it is first seen, and again when it changed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.data.entities import EntityFeatures
from slatewise.data.tables import Entities
from slatewise.errors import DataError

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_Row = tuple[NDArray[Any], NDArray[Any], bool]  # numbers, category codes, organic


@dataclass(frozen=True)
class Newer:
    """Features of some entities: their rows in a table by id (as a string), from 1 on."""

    row: Mapping[str, int]
    table: Entities


class Encoder:
    """Users' or items' rows to features, through the ranker's own transform; remembers what it encoded.

    Encoding is what the time goes to (a table of fifty rows costs milliseconds, whatever its size), and most rows of a
    request were in an earlier one.
    """

    def __init__(self, entity: EntityFeatures, damaged: Callable[[], None], size: int = 100_000) -> None:
        """``entity``: of the ranker's transform.   ``damaged``: is told of a row that cannot be read, which is then
        as missing.   ``size``: rows remembered at most."""
        self._entity, self._damaged, self._size = entity, damaged, size
        self._known: dict[str, tuple[bytes, _Row | None]] = {}
        self._lock = threading.Lock()

    def newer(self, rows: Mapping[str, bytes]) -> Newer | None:
        """Features of these entities, by id; None where there is none, or none can be read.

        What stands behind a NUL is not of the id: so rows of one entity can lie side by side (:func:`own_key`).
        """
        if not rows:
            return None
        with self._lock:
            fresh = {name: body for name, body in rows.items() if self._known.get(name, (b"",))[0] != body}
            if fresh:
                self._learn(fresh)
            found = {name: row for name in rows if (row := self._known[name][1]) is not None}
            self._forget()
        if not found:
            return None
        return Newer(
            dict(zip(found, range(1, len(found) + 1), strict=True)), self._table(list(found.values()))
        )

    def _learn(self, fresh: Mapping[str, bytes]) -> None:
        """Encode rows, those with the same columns together: what a row does not name stays as prepared."""
        alike: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
        for name, body in fresh.items():
            self._known.pop(name, None)  # it goes to the end of those that are remembered
            self._known[name] = body, None
            if (row := self._read(body)) is not None:
                alike.setdefault(tuple(sorted(row)), {})[name] = row
        for columns, group in alike.items():
            self._encode(columns, group, fresh)

    def _encode(
        self, columns: Sequence[str], group: Mapping[str, Mapping[str, Any]], fresh: Mapping[str, bytes]
    ) -> None:
        try:
            patch = self._entity.patch(_frame(self._entity.key, columns, group))
        except (DataError, pl.exceptions.PolarsError, TypeError, OverflowError):
            if len(group) == 1:
                return self._damaged()
            for name, row in group.items():  # what is wrong with one row must not cost the others
                self._encode(columns, {name: row}, fresh)
            return None
        ids = patch.ids.encode(pl.Series([_id_of(name) for name in group]))
        for name, at in zip(group, ids, strict=True):
            features = patch.table.numeric[at], patch.table.categories[at], bool(patch.table.organic[at])
            self._known[name] = fresh[name], features
        return None

    def _forget(self) -> None:
        """The rows that were encoded longest ago go first."""
        while len(self._known) > self._size:
            del self._known[next(iter(self._known))]

    def _table(self, rows: Sequence[_Row]) -> Entities:
        numbers, codes, organic = zip(*rows, strict=True)
        prepared = self._entity.table
        return Entities(
            np.stack([np.zeros_like(prepared.numeric[0]), *numbers]),
            np.stack([np.zeros_like(prepared.categories[0]), *codes]),
            np.zeros((len(rows) + 1, 0), np.float32),
            np.array([False, *organic]),
        )

    def _read(self, body: bytes) -> dict[str, Any] | None:
        try:
            return _decode(body)
        except msgspec.DecodeError:
            self._damaged()
            return None


def _frame(key: str, columns: Sequence[str], rows: Mapping[str, Mapping[str, Any]]) -> pl.DataFrame:
    table = {name: series([row[name] for row in rows.values()]) for name in columns}
    return pl.DataFrame({**table, key: [_id_of(name) for name in rows]})


def own_key(name: str, body: bytes) -> str:
    """What a row of an entity is called that a request brings along: it is of this request alone."""
    return f"{name}\0{hashlib.blake2b(body, digest_size=12).hexdigest()}"


def _id_of(key: str) -> str:
    return key.partition("\0")[0]


def series(values: Sequence[Any]) -> pl.Series:
    """Values of one type as they are; of several, as strings."""
    types = {type(value) for value in values} - {type(None)}
    if types <= {int, float} or len(types) == 1:
        return pl.Series(values, strict=False)
    return pl.Series([None if value is None else str(value) for value in values], dtype=pl.String)
