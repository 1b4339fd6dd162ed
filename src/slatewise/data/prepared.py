"""Prepared data on disk: fixed-width, memory-mapped Arrow, so that a batch is a slice.

Layout of the folder::

    manifest.json      Manifest (schema, target, counts, source)
    transform/         FeatureTransform (vocabularies, statistics), the same that serving uses
    items.arrow        one row an item of the vocabulary: numeric, categories, vector, organic (row 0 = unknown)
    users.arrow        one row a user: numeric, categories (row 0 = unknown)
    examples.parquet   a few requests as a caller sends them, to try `slatewise rank` with
    train.arrow  validation.arrow  test.arrow      one row a request, fixed-width columns
    interactions.arrow, sequences.arrow            what the users of the training part did, one after the other
                                                   (slatewise.data.interactions), where users and times are known
    judges.arrow       some protocols: requests of users of their own, for judges to learn from and nobody else
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from slatewise.data.batch import ListBatch
from slatewise.data.fields import Drawn, batch_of
from slatewise.data.interactions import InteractionLog, open_interactions
from slatewise.data.schema import Manifest, Schema
from slatewise.data.tables import Array, Entities, read_table
from slatewise.errors import DataError

SPLITS = ("train", "validation", "test")
JUDGES = "judges"

# Columns of a split and the dtype each is stored in; widths follow from the schema.
REQUEST_COLUMNS = {
    "user": np.int32,  # (n,)
    "time": np.int64,  # (n,) seconds since 1970, 0 = unknown
    "context_numeric": np.float32,  # (n, F)
    "context_categories": np.int32,  # (n, C)
    "num_candidates": np.int32,  # (n,)
    "candidates": np.int32,  # (n, N) item indices
    "candidate_numeric": np.float32,  # (n, N, F)
    "num_history": np.int32,  # (n,)
    "history": np.int32,  # (n, H) item indices, newest last among the first num_history
    "history_feedback": np.float32,  # (n, H)
    "history_time": np.int64,  # (n, H) seconds since 1970, 0 = unknown
    "history_context_numeric": np.float32,  # (n, H, F) the context in which the item was met
    "history_context_categories": np.int32,  # (n, H, C)
    "num_exposed": np.int32,  # (n,)
    "exposed": np.int32,  # (n, E) indices into the candidate axis
    "feedback": np.float32,  # (n, E, K)
    "propensity": np.float32,  # (n,) probability of the logged list; NaN where unknown
}


def request_shapes(schema: Schema) -> dict[str, tuple[int, ...]]:
    """Trailing axes of every column of a split."""
    n, e, h = schema.candidates, schema.exposed, schema.history
    return {
        "user": (),
        "time": (),
        "context_numeric": (len(schema.context_numeric),),
        "context_categories": (len(schema.context_categories),),
        "num_candidates": (),
        "candidates": (n,),
        "candidate_numeric": (n, len(schema.candidate_numeric)),
        "num_history": (),
        "history": (h,),
        "history_feedback": (h,),
        "history_time": (h,),
        "history_context_numeric": (h, len(schema.context_numeric)),
        "history_context_categories": (h, len(schema.context_categories)),
        "num_exposed": (),
        "exposed": (e,),
        "feedback": (e, len(schema.feedback)),
        "propensity": (),
    }


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
        columns = {name: column[rows] for name, column in self.columns.items()}
        row = np.arange(len(self), dtype=np.int64)[rows]
        return batch_of(Drawn.of(columns, self.users, self.items, row))

    def batches(self, size: int) -> Iterator[ListBatch]:
        """All requests in order, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size))

    def head(self, count: int) -> Split:
        """The first ``count`` requests of the split."""
        return Split(
            self.name, self.schema, {k: v[:count] for k, v in self.columns.items()}, self.users, self.items
        )


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
        columns = read_table(self.path / f"{name}.arrow", request_shapes(self.schema), REQUEST_COLUMNS)
        return Split(name, self.schema, columns, self.users, self.items)

    def interactions(self) -> InteractionLog:
        """What the users of the training part did, one after the other, memory-mapped.

        Raises:
            DataError: the data knows no users or no times, or a file is damaged.
        """
        return open_interactions(self.path, self.schema, self.users, self.items)

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
            "organic": (),
        },
    )
    nobody = np.zeros((schema.users, 0), np.float32), np.zeros(schema.users, bool)
    return PreparedData(
        path,
        manifest,
        Entities(users["numeric"], users["categories"].astype(np.int32), *nobody),
        Entities(
            items["numeric"],
            items["categories"].astype(np.int32),
            items["vector"],
            items["organic"].astype(bool),
        ),
    )
