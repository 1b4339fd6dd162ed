"""From request columns and entity tables to what a model is given: one description of every field of a batch.

Training takes all fields as a :class:`ListBatch`; serving takes those that an exported graph reads, as arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from slatewise.data.batch import ListBatch
from slatewise.data.tables import Array, Entities


@dataclass(frozen=True)
class Places:
    """Entities at the places of an array, with newer features laid over those of preparation where there are any.

    Attributes:
        table: of all entities.   index: their rows, of any shape.
        newer: features to be laid over, and as ``index`` the rows of theirs; 0 where they have none.
    """

    table: Entities
    index: NDArray[Any]
    newer: tuple[tuple[Entities, NDArray[Any]], ...] = ()

    def features(self, name: str) -> NDArray[Any]:
        """``numeric``, ``categories`` or ``organic`` of each."""
        values: NDArray[Any] = getattr(self.table, name)[self.index]
        for patch, row in self.newer:
            given = row > 0
            values = np.where(
                given.reshape(given.shape + (1,) * (values.ndim - given.ndim)),
                getattr(patch, name)[row],
                values,
            )
        return values

    def over(self, patch: Entities, row: NDArray[Any]) -> Places:
        """With newer features laid over; ``row`` is 0 where the patch has none."""
        return replace(self, newer=(*self.newer, (patch, row)))


@dataclass(frozen=True)
class Drawn:
    """Requests before they become tensors.

    Attributes:
        columns: of a split (:data:`~slatewise.data.prepared.REQUEST_COLUMNS`).
        users, items, history: the entities that its indices name.   row: (n,) of each request in its split.
    """

    columns: Mapping[str, Array]
    users: Places
    items: Places
    history: Places
    row: NDArray[np.int64]

    @classmethod
    def of(
        cls, columns: Mapping[str, Array], users: Entities, items: Entities, row: NDArray[np.int64]
    ) -> Drawn:
        """Requests with the features that their entities have in the tables."""
        return cls(
            columns=columns,
            users=Places(users, columns["user"]),
            items=Places(items, columns["candidates"]),
            history=Places(items, columns["history"]),
            row=row,
        )


def front(count: Array, width: int) -> NDArray[np.bool_]:
    """(n, width) True at the first ``count`` places of each row."""
    return np.arange(width, dtype=np.int32) < np.asarray(count, np.int32)[:, None]


def _column(name: str) -> Callable[[Drawn], Array]:
    return lambda drawn: drawn.columns[name]


def _front(count: str, like: str) -> Callable[[Drawn], NDArray[np.bool_]]:
    return lambda drawn: front(drawn.columns[count], drawn.columns[like].shape[1])


_history_mask = _front("num_history", "history")

# Integers become int64, numbers float32.
FIELDS: dict[str, Callable[[Drawn], Array]] = {
    "user_B": _column("user"),
    "user_numeric_BF": lambda drawn: drawn.users.features("numeric"),
    "user_categories_BC": lambda drawn: drawn.users.features("categories"),
    "time_B": _column("time"),
    "context_numeric_BF": _column("context_numeric"),
    "context_categories_BC": _column("context_categories"),
    "candidates_BN": _column("candidates"),
    "mask_BN": _front("num_candidates", "candidates"),
    "item_numeric_BNF": lambda drawn: drawn.items.features("numeric"),
    "item_categories_BNC": lambda drawn: drawn.items.features("categories"),
    "candidate_numeric_BNF": _column("candidate_numeric"),
    "history_BH": _column("history"),
    "history_mask_BH": _history_mask,
    "history_numeric_BHF": lambda drawn: drawn.history.features("numeric"),
    "history_categories_BHC": lambda drawn: drawn.history.features("categories"),
    "history_organic_BH": lambda drawn: drawn.history.features("organic") & _history_mask(drawn),
    "history_feedback_BH": _column("history_feedback"),
    "history_time_BH": _column("history_time"),
    "history_context_numeric_BHF": _column("history_context_numeric"),
    "history_context_categories_BHC": _column("history_context_categories"),
    "exposed_BE": _column("exposed"),
    "exposed_mask_BE": _front("num_exposed", "exposed"),
    "feedback_BEK": _column("feedback"),
    "request_B": lambda drawn: drawn.row,
}


def plain(array: Array) -> Array:
    """As batches and graphs have it: int64, float32 or bool, contiguous."""
    kinds = {"i": np.int64, "u": np.int64, "f": np.float32}
    return np.ascontiguousarray(array, kinds.get(array.dtype.kind, array.dtype))


def batch_of(drawn: Drawn) -> ListBatch:
    """All fields as tensors of their own."""
    return ListBatch(**{name: _tensor(make(drawn)) for name, make in FIELDS.items()})


def _tensor(array: Array) -> torch.Tensor:
    made = plain(array)
    return torch.from_numpy(made.copy() if made is array else made)  # columns may be mapped files
