"""What users did, one after the other: windows of their sequences, for models that learn from all of it.

``interactions.arrow`` holds every interaction of the training part, flat, sorted by user, time and row:
``item``, ``time`` (seconds), ``feedback`` (the number that histories show), ``kinds`` (M, K), ``context_numeric`` and
``context_categories``. ``sequences.arrow`` says where each ``user``'s begin (``start``) and end (``end``). A batch is
index arithmetic on the mapped columns.

Shapes, besides the legend in :mod:`slatewise.types`: T places of a window, M interactions, S sequences, W windows.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slatewise.data.schema import Schema
from slatewise.data.tables import Array, Entities, float_tensor, long_tensor, read_table
from slatewise.errors import ConfigError, DataError

FILES = ("interactions.arrow", "sequences.arrow")
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class InteractionBatch:
    """B stretches of at most T consecutive interactions of one user each, oldest first, real ones in front.

    Attributes:
        user_B, item_BT: vocabulary indices, 0 = unknown (and 0 behind a mask's end).
        mask_BT: True where an interaction is real.   organic_BT: content that is never recommended.
        new_BT: True where this window is the one in which the interaction is a target: over all windows each
            interaction is so once.
        time_BT: seconds since 1970 (UTC), 0 = unknown.   feedback_BT: the weighted feedback, as in histories.
        kinds_BTK: each kind of feedback, in the schema's order.
    """

    user_B: Tensor
    user_numeric_BF: Tensor
    user_categories_BC: Tensor
    item_BT: Tensor
    item_numeric_BTF: Tensor
    item_categories_BTC: Tensor
    organic_BT: Tensor
    mask_BT: Tensor
    new_BT: Tensor
    time_BT: Tensor
    feedback_BT: Tensor
    kinds_BTK: Tensor
    context_numeric_BTF: Tensor
    context_categories_BTC: Tensor

    @property
    def size(self) -> int:
        """B."""
        return self.user_B.shape[0]

    def to(self, device: torch.device | str) -> InteractionBatch:
        """The batch on ``device``."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return InteractionBatch(**moved)


@dataclass(frozen=True)
class InteractionLog:
    """All interactions that may be trained on, memory-mapped, and the tables that a batch draws features from.

    Attributes:
        columns: of ``interactions.arrow``, (M, ...) each.
        user_S, start_S, end_S: user index of each sequence; its interactions are the rows ``start`` to ``end``.
        users, items: features of all users and items.
    """

    columns: dict[str, Array]
    user_S: Ints
    start_S: Ints
    end_S: Ints
    users: Entities
    items: Entities

    def __len__(self) -> int:
        """M."""
        return len(self.columns["item"])

    def windows(self, length: int) -> Windows:
        """Every sequence in windows of ``length`` interactions.

        Raises:
            ConfigError: ``length`` is below 1.
        """
        if length < 1:
            raise ConfigError(f"a window of {length} interactions holds none; it must be 1 or longer.")
        return Windows(self, length, *_cut(self.start_S, self.end_S, length))


@dataclass(frozen=True)
class Windows:
    """Every user's sequence cut into windows that overlap by half, so that each interaction is a target once.

    A user's first window has only new interactions; each later one begins with ``length - length // 2`` that were
    targets in the window before, and ends with new ones. What the training loop takes in place of a split.

    Attributes:
        log: where the interactions come from.   length: T.
        sequence_W: the sequence that each window is of.   start_W, end_W: rows of its first interaction and behind its last.
        first_W: place in the window from which on its interactions are new.
    """

    log: InteractionLog
    length: int
    sequence_W: Ints
    start_W: Ints
    end_W: Ints
    first_W: Ints

    def __len__(self) -> int:
        """W."""
        return len(self.start_W)

    def batch(self, rows: NDArray[np.int64] | slice) -> InteractionBatch:
        """The windows at ``rows`` as a batch."""
        place_T = np.arange(self.length)
        row_BT = self.start_W[rows, None] + place_T
        mask_BT = row_BT < self.end_W[rows, None]
        row_BT = np.where(mask_BT, row_BT, 0)
        c = {name: _behind_end(column[row_BT], mask_BT) for name, column in self.log.columns.items()}
        user_B, item_BT = self.log.user_S[self.sequence_W[rows]], c["item"]
        users, items = self.log.users, self.log.items
        return InteractionBatch(
            user_B=long_tensor(user_B),
            user_numeric_BF=float_tensor(users.numeric[user_B]),
            user_categories_BC=long_tensor(users.categories[user_B]),
            item_BT=long_tensor(item_BT),
            item_numeric_BTF=float_tensor(items.numeric[item_BT]),
            item_categories_BTC=long_tensor(items.categories[item_BT]),
            organic_BT=torch.from_numpy(items.organic[item_BT] & mask_BT),
            mask_BT=torch.from_numpy(mask_BT),
            new_BT=torch.from_numpy(mask_BT & (place_T >= self.first_W[rows, None])),
            time_BT=long_tensor(c["time"]),
            feedback_BT=float_tensor(c["feedback"]),
            kinds_BTK=float_tensor(c["kinds"]),
            context_numeric_BTF=float_tensor(c["context_numeric"]),
            context_categories_BTC=long_tensor(c["context_categories"]),
        )


def open_interactions(folder: Path, schema: Schema, users: Entities, items: Entities) -> InteractionLog:
    """Map the interactions of a prepared data set.

    Raises:
        DataError: it has none, or a file is damaged.
    """
    if not (folder / FILES[0]).exists():
        raise DataError(
            f"{folder} has no interactions with users and timestamps, which models of sequences learn from; "
            "prepare a log whose requests or interactions have both."
        )
    shapes = {
        "item": (),
        "time": (),
        "feedback": (),
        "kinds": (len(schema.feedback),),
        "context_numeric": (len(schema.context_numeric),),
        "context_categories": (len(schema.context_categories),),
    }
    columns = read_table(folder / FILES[0], shapes, {"context_categories": np.int32})
    sequences = read_table(folder / FILES[1], {"user": (), "start": (), "end": ()})
    user_S, start_S, end_S = (sequences[name].astype(np.int64) for name in ("user", "start", "end"))
    return InteractionLog(columns, user_S, start_S, end_S, users, items)


def _cut(start_S: Ints, end_S: Ints, length: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Sequence, start, end and first new place of every window, sequence after sequence, oldest window first."""
    step = max(1, length // 2)
    beyond_S = np.maximum(end_S - start_S - length, 0)
    count_S = 1 + -(-beyond_S // step)
    sequence_W = np.repeat(np.arange(len(count_S)), count_S)
    number_W = np.arange(len(sequence_W)) - np.repeat(count_S.cumsum() - count_S, count_S)
    start_W = start_S[sequence_W] + number_W * step
    end_W = np.minimum(start_W + length, end_S[sequence_W])
    return sequence_W, start_W, end_W, np.where(number_W > 0, length - step, 0)


def _behind_end(values: Array, mask_BT: NDArray[np.bool_]) -> Array:
    """The values with 0 where the mask is False."""
    mask = mask_BT.reshape(*mask_BT.shape, *[1] * (values.ndim - 2))
    return np.where(mask, values, np.zeros((), values.dtype))
