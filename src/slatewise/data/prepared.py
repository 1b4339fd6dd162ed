"""Prepared data on disk: fixed-width, memory-mapped Arrow, so that a batch is a slice.

Layout of the folder::

    manifest.json      Manifest (schema, target, counts, source)
    transform/         FeatureTransform (vocabularies, statistics), the same that serving uses
    items.arrow        one row an item of the vocabulary: numeric, categories, vector (row 0 = unknown)
    users.arrow        one row a user: numeric, categories (row 0 = unknown)
    examples.parquet   a few requests as a caller sends them, to try `slatewise rank` with
    train.arrow  validation.arrow  test.arrow      one row a request, fixed-width columns
    judges.arrow       some protocols: requests of users of their own, for judges to learn from and nobody else
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from slatewise.data.batch import ListBatch
from slatewise.data.schema import Manifest, Schema
from slatewise.errors import DataError

Array = NDArray[np.generic]

SPLITS = ("train", "validation", "test")
JUDGES = "judges"

# Columns of a split and the dtype each is stored in; widths follow from the schema.
REQUEST_COLUMNS = {
    "user": np.int32,  # (n,)
    "context_numeric": np.float32,  # (n, F)
    "context_categories": np.int32,  # (n, C)
    "num_candidates": np.int32,  # (n,)
    "candidates": np.int32,  # (n, N) item indices
    "candidate_numeric": np.float32,  # (n, N, F)
    "num_history": np.int32,  # (n,)
    "history": np.int32,  # (n, H) item indices, newest last among the first num_history
    "history_feedback": np.float32,  # (n, H)
    "num_exposed": np.int32,  # (n,)
    "exposed": np.int32,  # (n, E) indices into the candidate axis
    "feedback": np.float32,  # (n, E, K)
    "propensity": np.float32,  # (n,) probability of the logged list; NaN where unknown
}


def write_table(path: Path, columns: dict[str, Array]) -> None:
    """Write arrays of one common first dimension as one Arrow record batch of fixed-size-list columns."""
    rows = len(next(iter(columns.values())))
    arrays, names = (
        [pa.array(np.arange(rows, dtype=np.int32))],
        ["row"],
    )  # a table without features keeps its length
    for name, array in columns.items():
        flat = pa.array(np.ascontiguousarray(array).reshape(-1))
        width = int(np.prod(array.shape[1:], dtype=np.int64))
        if array.ndim > 1 and width == 0:
            continue  # Arrow has no zero-width list; the reader restores the empty axis from the schema
        arrays.append(flat if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, width))
        names.append(name)
    batch = pa.record_batch(arrays, names=names)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def read_table(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, Array]:
    """Memory-map a table written by :func:`write_table`; ``shapes`` gives the trailing axes of each column.

    Raises:
        DataError: the file is missing, cut short, or has other columns.
    """
    try:
        with pa.memory_map(str(path)) as source:
            batch = pa.ipc.open_file(source).get_batch(0)
    except (FileNotFoundError, pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path} cannot be read as a prepared table: {error}. Prepare the data again."
        ) from None
    columns: dict[str, Array] = {}
    for name, shape in shapes.items():
        if 0 in shape:
            columns[name] = np.zeros((batch.num_rows, *shape), REQUEST_COLUMNS.get(name, np.float32))
            continue
        if name not in batch.schema.names:
            raise DataError(
                f"{path} has no column '{name}'; it was written by another version. Prepare it again."
            )
        column = batch.column(name)
        flat = column.flatten() if shape else column
        columns[name] = flat.to_numpy(zero_copy_only=True).reshape(batch.num_rows, *shape)
    return columns


def request_shapes(schema: Schema) -> dict[str, tuple[int, ...]]:
    """Trailing axes of every column of a split."""
    n, e, h = schema.candidates, schema.exposed, schema.history
    return {
        "user": (),
        "context_numeric": (len(schema.context_numeric),),
        "context_categories": (len(schema.context_categories),),
        "num_candidates": (),
        "candidates": (n,),
        "candidate_numeric": (n, len(schema.candidate_numeric)),
        "num_history": (),
        "history": (h,),
        "history_feedback": (h,),
        "num_exposed": (),
        "exposed": (e,),
        "feedback": (e, len(schema.feedback)),
        "propensity": (),
    }


@dataclass(frozen=True)
class Entities:
    """Features of all users or all items of the vocabulary; row 0 is the unknown one.

    Attributes:
        numeric: (I, F) float32, standardised.   categories: (I, C) int32.   vector: (I, D) float32 or width 0.
    """

    numeric: Array
    categories: Array
    vector: Array


@dataclass(frozen=True)
class Split:
    """The requests of one split: memory-mapped columns and the entity tables that a batch draws features from."""

    name: str
    schema: Schema
    columns: dict[str, Array]
    users: Entities
    items: Entities

    def __len__(self) -> int:
        return len(self.columns["user"])

    def batch(self, rows: NDArray[np.int64] | slice) -> ListBatch:
        """The requests at ``rows`` as a batch (a slice costs no copy of the wide columns before torch)."""
        c = {name: column[rows] for name, column in self.columns.items()}
        user, items, history = c["user"], c["candidates"], c["history"]
        index = np.arange(len(self), dtype=np.int64)[rows]
        return ListBatch(
            user_B=_long(user),
            user_numeric_BF=_float(self.users.numeric[user]),
            user_categories_BC=_long(self.users.categories[user]),
            context_numeric_BF=_float(c["context_numeric"]),
            context_categories_BC=_long(c["context_categories"]),
            candidates_BN=_long(items),
            mask_BN=_front(c["num_candidates"], items.shape[1]),
            item_numeric_BNF=_float(self.items.numeric[items]),
            item_categories_BNC=_long(self.items.categories[items]),
            candidate_numeric_BNF=_float(c["candidate_numeric"]),
            history_BH=_long(history),
            history_mask_BH=_front(c["num_history"], history.shape[1]),
            history_numeric_BHF=_float(self.items.numeric[history]),
            history_categories_BHC=_long(self.items.categories[history]),
            history_feedback_BH=_float(c["history_feedback"]),
            exposed_BE=_long(c["exposed"]),
            exposed_mask_BE=_front(c["num_exposed"], c["exposed"].shape[1]),
            feedback_BEK=_float(c["feedback"]),
            request_B=torch.from_numpy(index),
        )

    def batches(self, size: int) -> Iterator[ListBatch]:
        """All requests in order, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size))

    def head(self, count: int) -> Split:
        """The first ``count`` requests of the split."""
        return Split(
            self.name, self.schema, {k: v[:count] for k, v in self.columns.items()}, self.users, self.items
        )


def _long(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))


def _float(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))


def _front(count: Array, width: int) -> torch.Tensor:
    return torch.from_numpy(np.arange(width, dtype=np.int32) < np.asarray(count, np.int32)[:, None])


@dataclass(frozen=True)
class PreparedData:
    """A prepared data set, opened. ``item_ids`` and ``user_ids`` live in ``transform/`` (FeatureTransform)."""

    path: Path
    manifest: Manifest
    users: Entities
    items: Entities

    @property
    def schema(self) -> Schema:
        """The data set's schema."""
        return self.manifest.schema

    def split(self, name: str) -> Split:
        """Open a split, memory-mapped.

        Raises:
            DataError: there is no split of that name, or its file is damaged.
        """
        allowed = (*SPLITS, JUDGES) if (self.path / f"{JUDGES}.arrow").exists() else SPLITS
        if name not in allowed:
            raise DataError(f"there is no split '{name}' in {self.path}; allowed: {', '.join(allowed)}.")
        columns = read_table(self.path / f"{name}.arrow", request_shapes(self.schema))
        return Split(name, self.schema, columns, self.users, self.items)

    def with_target(self, target: dict[str, float]) -> PreparedData:
        """The same data with its feedback kinds weighed otherwise (see :meth:`Manifest.with_target`)."""
        return PreparedData(self.path, self.manifest.with_target(target), self.users, self.items)


def load_data(path: Path | str) -> PreparedData:
    """Open a prepared data set.

    Raises:
        DataError: the folder is not a prepared data set or is damaged.
    """
    path = Path(path)
    try:
        manifest = msgspec.json.decode((path / "manifest.json").read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise DataError(
            f"{path} is not a prepared data set (no manifest.json); make one with `slatewise prepare`."
        ) from None
    except msgspec.DecodeError as error:
        raise DataError(
            f"{path / 'manifest.json'} cannot be read: {error}. Prepare the data again."
        ) from None
    schema = manifest.schema
    users = read_table(
        path / "users.arrow",
        {"numeric": (len(schema.user_numeric),), "categories": (len(schema.user_categories),)},
    )
    items = read_table(
        path / "items.arrow",
        {
            "numeric": (len(schema.item_numeric),),
            "categories": (len(schema.item_categories),),
            "vector": (schema.item_vector,),
        },
    )
    return PreparedData(
        path,
        manifest,
        Entities(
            users["numeric"], users["categories"].astype(np.int32), np.zeros((schema.users, 0), np.float32)
        ),
        Entities(items["numeric"], items["categories"].astype(np.int32), items["vector"]),
    )
