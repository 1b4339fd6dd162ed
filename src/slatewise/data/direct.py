"""Requests in plain Python values straight to the columns of a batch, without a table in between: what a server does.

It is :meth:`FeatureTransform.columns` for requests of a moment: the same statistics, vocabularies and score geometry,
the same numbers (a test holds them equal), at a tenth of the time for one request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slatewise.data.columns import CategoryColumn, Column, NumberColumn, number_names, standardise
from slatewise.data.features import FeatureTransform
from slatewise.data.geometry import GEOMETRY, score_geometry
from slatewise.data.prepared import REQUEST_COLUMNS, request_shapes
from slatewise.data.ragged import pad
from slatewise.data.requests import SCORES
from slatewise.data.tables import Array
from slatewise.data.vocab import Vocab
from slatewise.errors import DataError

Id = int | str
Scalar = bool | int | float | str | None
HISTORY = tuple(name for name in REQUEST_COLUMNS if "history" in name)
OUTCOME = ("num_exposed", "exposed", "feedback")


@dataclass(frozen=True, slots=True)
class Past:
    """What a user met before, oldest first, all lists aligned.

    Attributes:
        items: ids.   feedback: weighted.   time: seconds since 1970.   context: one mapping an item, or nothing.
    """

    items: Sequence[Id] = ()
    feedback: Sequence[float] = ()
    time: Sequence[int] = ()
    context: Sequence[Mapping[str, Scalar]] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One request.

    Attributes:
        candidates: ids.   scores: of the stage before, aligned; None: there are none.
        features: of candidates that vary by request, by name (``price``), aligned; None = missing.
        user: None: nobody is known.   time: seconds since 1970, 0 = unknown.   context: by name (``device``).
    """

    candidates: Sequence[Id]
    scores: Sequence[float] | None = None
    features: Mapping[str, Sequence[float | None]] | None = None
    user: Id | None = None
    time: int = 0
    context: Mapping[str, Scalar] | None = None
    past: Past | None = None


class DirectEncoder:
    """The requests' columns of one transform."""

    def __init__(self, transform: FeatureTransform) -> None:
        self.transform = transform
        self._shapes = request_shapes(transform.schema())
        self._numbers, self._codes = _readers(transform.context.columns)

    def columns(self, rows: Sequence[Row], width: int = 0) -> dict[str, Array]:
        """The columns of requests: those of a split, where nothing was shown yet.

        Args:
            width: N at least; else that of the widest request.

        Raises:
            DataError: a request without candidates, or a list that is not aligned with them.
        """
        count_R = np.array([len(row.candidates) for row in rows], np.int64)
        if not count_R.all():
            raise DataError("a request has no candidates; every request needs at least one.")
        width = max(width, int(count_R.max(initial=1)))
        find, users = self.transform.items.vocab.lookup, self.transform.users.vocab
        code_m = np.array([find(item) for row in rows for item in row.candidates], np.int32)
        contexts = [row.context or {} for row in rows]
        return {
            "user": np.array([users.lookup(row.user) for row in rows], np.int32),
            "time": np.array([row.time for row in rows], np.int64),
            "context_numeric": self._numbers(contexts),
            "context_categories": self._codes(contexts),
            "num_candidates": count_R,
            "candidates": pad(code_m, count_R, width),
            "candidate_numeric": self._candidates(rows, count_R, width),
            **self._history(rows),
            **self._zeros(OUTCOME, len(rows)),
        }

    def _candidates(self, rows: Sequence[Row], count_R: NDArray[np.int64], width: int) -> NDArray[np.float32]:
        out = np.zeros((len(rows), width, self._shapes["candidate_numeric"][-1]), np.float32)
        place = 0
        for column in self.transform.candidate:
            scores = column.column == SCORES
            end = place + (1 + len(GEOMETRY) if scores else 1)
            name = column.column.removeprefix("candidate_")
            given = [row.scores if scores else (row.features or {}).get(name) for row in rows]
            if any(values is not None for values in given):
                flat = _aligned(given, count_R, name)
                out[:, :, place] = pad(standardise(flat, column.mean, column.scale), count_R, width)
                if scores:
                    mask_RN = np.arange(width) < count_R[:, None]
                    out[:, :, place + 1 : end] = score_geometry(pad(flat, count_R, width), mask_RN)
            place = end
        return out

    def _history(self, rows: Sequence[Row]) -> dict[str, Array]:
        length = self.transform.history
        pasts = [row.past for row in rows]
        if not length or not any(past is not None and past.items for past in pasts):
            return self._zeros(HISTORY, len(rows))
        last = [_last(past, length) for past in pasts]
        count_R, find = np.array([len(past.items) for past in last]), self.transform.items.vocab.lookup
        contexts = [context for past in last for context in past.context or [{}] * len(past.items)]
        flat: dict[str, Array] = {
            "history": np.array([find(item) for past in last for item in past.items], np.int32),
            "history_feedback": _finite(list(chain.from_iterable(past.feedback for past in last))),
            "history_time": np.array(list(chain.from_iterable(past.time for past in last)), np.int64),
            "history_context_numeric": self._numbers(contexts),
            "history_context_categories": self._codes(contexts),
        }
        columns = {name: pad(values, count_R, length) for name, values in flat.items()}
        return {"num_history": count_R, **columns}

    def _zeros(self, names: Sequence[str], rows: int) -> dict[str, Array]:
        return {name: np.zeros((rows, *self._shapes[name]), REQUEST_COLUMNS[name]) for name in names}


def _last(past: Past | None, length: int) -> Past:
    """The last so many; without feedback each counts 1, without times none is known."""
    if past is None:
        return Past()
    size = len(past.items)
    feedback, time = past.feedback or [1.0] * size, past.time or [0] * size
    return Past(past.items[-length:], feedback[-length:], time[-length:], past.context[-length:])


def _aligned(given: Sequence[Sequence[float | None] | None], count_R: NDArray[np.int64], name: str) -> Any:
    flat: list[float | None] = []
    for values, count in zip(given, count_R.tolist(), strict=True):
        if values is not None and len(values) != count:
            raise DataError(
                f"'{name}' has {len(values)} values for {count} candidates; they must be equally many."
            )
        flat += [None] * count if values is None else values
    return np.array(flat, np.float64)  # None becomes NaN


def _finite(values: Sequence[float]) -> NDArray[np.float32]:
    array = np.array(values, np.float64)
    return np.where(np.isfinite(array), array, 0.0).astype(np.float32)


Reader = Callable[[Sequence[Mapping[str, Scalar]]], Array]


def _readers(columns: tuple[Column, ...]) -> tuple[Reader, Reader]:
    """Contexts to (n, F) numbers and (n, C) codes; what is no number or no known value is missing."""
    numbers = [
        (column.column.removeprefix("context_"), column.mean, column.scale)
        if isinstance(column, NumberColumn)
        else ("", 0.0, 0.0)
        for column in columns
        for _ in number_names(column)
    ]  # a list is no context
    names, mean, scale = zip(*numbers, strict=True) if numbers else ((), (), ())
    codes = [
        (column.column.removeprefix("context_"), Vocab.of_values(column.values).lookup)
        for column in columns
        if isinstance(column, CategoryColumn)
    ]

    def numeric(contexts: Sequence[Mapping[str, Scalar]]) -> Array:
        values = [[_number(context.get(name)) for name in names] for context in contexts]
        return standardise(np.array(values, np.float64).reshape(len(contexts), len(names)), mean, scale)

    def categories(contexts: Sequence[Mapping[str, Scalar]]) -> Array:
        found = [[lookup(context.get(name)) for name, lookup in codes] for context in contexts]
        return np.array(found, np.int32).reshape(len(contexts), len(codes))

    return numeric, categories


def _number(value: Scalar) -> float:
    if isinstance(value, str):
        try:
            return float(value) if value.strip() == value and "_" not in value else np.nan
        except ValueError:
            return np.nan
    return np.nan if value is None else float(value)
