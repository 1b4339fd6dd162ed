"""From a batch to what a graph takes: one function, which all backends share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.nn.functional import pad

from slatewise.config import Frozen
from slatewise.data.batch import ListBatch
from slatewise.data.fields import FIELDS, Drawn, plain
from slatewise.errors import DataError

Feed = dict[str, NDArray[Any]]


class Input(Frozen):
    """One input of a graph: a field of :class:`~slatewise.data.batch.ListBatch`, its dtype (NumPy's name), its shape.

    Axes of the shape are numbers, or ``B`` and ``N`` where they are open.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Limits(Frozen):
    """What requests may be.

    Attributes:
        candidates: N at most.   fewest: a batch that is narrower is padded up to this N.
        length: L, the list that is written.   history: H.
    """

    candidates: int
    fewest: int
    length: int
    history: int


def make_feed(batch: ListBatch, inputs: Sequence[Input], limits: Limits) -> Feed:
    """The fields that the graph reads, as NumPy arrays; narrow batches get candidates that are not real.

    Raises:
        DataError: the batch is wider than the limit.
    """
    _check_width(batch.num_candidates, limits)
    batch = widened(batch, limits.fewest)
    arrays = {field: getattr(batch, field.name).cpu().numpy() for field in inputs}
    return {field.name: np.ascontiguousarray(array, field.dtype) for field, array in arrays.items()}


def feed_of(drawn: Drawn, inputs: Sequence[Input], limits: Limits) -> Feed:
    """:func:`make_feed` of requests that are no tensors yet, and are wide enough: only what the graph reads is made.

    Raises:
        DataError: a request is wider than the limit.
    """
    _check_width(drawn.items.index.shape[1], limits)
    return {field.name: plain(FIELDS[field.name](drawn)) for field in inputs}


def _check_width(n: int, limits: Limits) -> None:
    if n > limits.candidates:
        raise DataError(f"a request has {n} candidates, but this artifact takes at most {limits.candidates}.")


def widened(batch: ListBatch, candidates: int) -> ListBatch:
    """The batch with candidates that are not real behind its own, where it has fewer than ``candidates``."""
    missing = candidates - batch.num_candidates
    if missing <= 0:
        return batch
    columns = {}
    for name in (field.name for field in fields(batch) if "_BN" in field.name):
        tensor = getattr(batch, name)
        columns[name] = pad(tensor, (0,) * (2 * tensor.dim() - 3) + (missing,))
    return replace(batch, **columns)


def inputs_of(batch: ListBatch) -> tuple[Input, ...]:
    """Every field of a batch with its dtype and shape; the axes are the letters of its name."""
    found = []
    for field in fields(batch):
        tensor, letters = getattr(batch, field.name), field.name.rsplit("_", 1)[1]
        sizes = zip(letters, tensor.shape, strict=True)
        shape = tuple(letter if letter in "BN" else size for letter, size in sizes)
        found.append(Input(name=field.name, dtype=str(tensor.dtype).removeprefix("torch."), shape=shape))
    return tuple(found)
