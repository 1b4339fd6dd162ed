"""All users or all items: their vocabulary and features, learned on those that training requests name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.config import Frozen
from slatewise.data.columns import Column, FeatureSet, moments, standardise
from slatewise.data.ragged import numbers, ragged
from slatewise.data.tables import Entities, read_table, write_table
from slatewise.data.vocab import Vocab, as_ids
from slatewise.errors import DataError

T = TypeVar("T")
POPULARITY = "log_popularity"
ORGANIC = "organic"  # of items: content that is never recommended; no feature
AVAILABLE = "available_from"  # of items: when each may first be recommended; no feature


def lasting(names: Sequence[str]) -> NDArray[np.bool_]:
    """(F,) True for numbers that are the same before and after anybody met an item: all but its popularity."""
    return np.array([name != POPULARITY for name in names], dtype=bool)


class _Saved(Frozen):
    """What ``<name>.json`` holds; ``organic`` are indices."""

    key: str
    trained: int
    columns: tuple[Column, ...]
    extra: tuple[str, ...]
    organic: tuple[int, ...] = ()


@dataclass(frozen=True)
class Patch:
    """Features of some entities, to be laid over those of preparation.

    Attributes:
        ids: the entities.   table: one row for each of them, in the order of their indices (row 0 = unknown).
    """

    ids: Vocab
    table: Entities


@dataclass(frozen=True)
class EntityFeatures:
    """The users or the items of a prepared data set.

    The vocabulary holds the ids that training requests name, then those that only stand in the entity table.
    The latter have features but no trained embedding: a model reads an index from ``trained`` on as unknown.
    Ids in neither place are index 0.

    Attributes:
        key: the id's column, ``user_id`` or ``item_id``.
        vocab: the ids.   trained: number of indices that training knows, the unknown one included.
        features: the table's columns.   extra: names of the numbers that follow them (``log_popularity``).
        table: features of every index, row 0 those of an unknown one.
    """

    key: str
    vocab: Vocab
    trained: int
    features: FeatureSet
    extra: tuple[str, ...]
    table: Entities

    @classmethod
    def fit(
        cls, key: str, frame: pl.DataFrame | None, trained: pl.Series, shown: pl.Series | None = None
    ) -> EntityFeatures:
        """Learn from the entity table (None = ids only) and the ids of the training requests.

        Args:
            key: the id's column.   frame: the table.   trained: ids that training requests name.
            shown: all exposures of training requests, from which ``log_popularity`` is computed, unless it is
                None or the table has a column of that name.

        Raises:
            DataError: the table has no id column, an id twice, or a column that cannot be a feature or, for
                ``organic``, is not true or false.
        """
        frame, organic = _without_organic(key, _checked(key, frame))
        shown = None if POPULARITY in frame.columns else shown
        known = Vocab.of(trained)
        vocab = Vocab.of(trained, frame[key])
        seen = vocab.encode(frame[key]) < len(known)
        features = FeatureSet.fit(
            frame.filter(pl.Series(seen)), [name for name in frame.columns if name != key]
        )
        extra = (
            np.zeros((len(vocab), 0), np.float32) if shown is None else _popularity(vocab, shown, len(known))
        )
        names = (POPULARITY,) if shown is not None else ()
        table = _table(key, vocab, features, frame, extra)
        if organic is not None:
            table.organic[vocab.encode(frame[key])] = organic
            table.organic[0] = False
        return cls(key, vocab, len(known), features, names, table)

    @property
    def numeric_names(self) -> tuple[str, ...]:
        """Names of the numbers in the table."""
        return (*self.features.numeric_names, *self.extra)

    def patch(self, frame: pl.DataFrame) -> Patch:
        """Features of the entities in ``frame``, known or new: what it lacks is as in the table.

        Raises:
            DataError: as :meth:`fit`.
        """
        frame, organic = _without_organic(self.key, _checked(self.key, frame))
        ids = Vocab.of(frame[self.key])
        base = self.vocab.encode(pl.concat([pl.Series("", [None], ids.ids.dtype), ids.ids.alias("")]))
        numeric, categories = self.table.numeric[base].copy(), self.table.categories[base].copy()
        number, category = self.features.present(frame)
        rows, is_organic = ids.encode(frame[self.key]), self.table.organic[base]
        if organic is not None:
            is_organic[rows] = organic
        numeric[np.ix_(rows, np.flatnonzero(number))] = self.features.numeric(frame)[:, number]
        categories[np.ix_(rows, np.flatnonzero(category))] = self.features.categories(frame)[:, category]
        nothing = np.zeros((len(ids), 0), np.float32)
        return Patch(ids, Entities(numeric, categories, nothing, is_organic))

    def extended(self, frame: pl.DataFrame) -> EntityFeatures:
        """These entities and, behind them, those of ``frame`` that are not among them.

        An old one keeps its index and its features. A new one has features and, as nobody met it, no popularity.

        Raises:
            DataError: as :meth:`fit`.
        """
        frame = _checked(self.key, frame)
        new = frame.filter(pl.Series(self.vocab.encode(frame[self.key]) == 0))
        if POPULARITY in self.features.numeric_names and POPULARITY not in new.columns:
            # log(1 + 0); a missing one would be the mean
            new = new.with_columns(pl.lit(0.0).alias(POPULARITY))
        patch = self.patch(new)
        vocab = Vocab(pl.concat([self.vocab.ids, as_ids(patch.ids.ids, self.vocab.ids.dtype)]))
        both = [
            np.concatenate([getattr(self.table, name), getattr(patch.table, name)[1:]])
            for name in ("numeric", "categories", "vector", "organic")
        ]
        return replace(self, vocab=vocab, table=Entities(*both))

    def save(self, folder: Path, name: str) -> None:
        """Write ``<name>.json``, ``<name>_ids.arrow`` and ``<name>.arrow``."""
        saved = _Saved(
            key=self.key,
            trained=self.trained,
            columns=self.features.columns,
            extra=self.extra,
            organic=tuple(np.flatnonzero(self.table.organic).tolist()),
        )
        (folder / f"{name}.json").write_bytes(msgspec.json.encode(saved))
        self.vocab.save(folder / f"{name}_ids.arrow")
        write_table(
            folder / f"{name}.arrow", {"numeric": self.table.numeric, "categories": self.table.categories}
        )

    @classmethod
    def load(cls, folder: Path, name: str) -> EntityFeatures:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: a file is missing or damaged.
        """
        saved = read_json(folder / f"{name}.json", _Saved)
        features = FeatureSet(saved.columns)
        widths = len(features.numeric_names) + len(saved.extra), len(features.category_sizes)
        table = read_table(folder / f"{name}.arrow", {"numeric": widths[:1], "categories": widths[1:]})
        vocab = Vocab.load(folder / f"{name}_ids.arrow")
        if len(vocab) != len(table["numeric"]):
            raise DataError(
                f"{folder / name}.arrow has {len(table['numeric'])} rows for {len(vocab)} ids. "
                "Prepare the data again."
            )
        entities = Entities(
            table["numeric"],
            table["categories"].astype(np.int32),
            np.zeros((len(vocab), 0), np.float32),
            np.isin(np.arange(len(vocab)), saved.organic),
        )
        return cls(saved.key, vocab, saved.trained, features, saved.extra, entities)


def read_json(path: Path, kind: type[T]) -> T:
    """Decode a JSON file of the transform.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}. Prepare the data again.") from None


def entity_vectors(vocab: Vocab, frame: pl.DataFrame | None) -> NDArray[np.float32]:
    """(I, D) start vectors of all indices, scaled to a mean norm of 1; zero where an item has none.

    Args:
        vocab: the items.   frame: ``item_id, vector``, or None for width 0.

    Raises:
        DataError: the vectors differ in length.
    """
    if frame is None or frame.is_empty():
        return np.zeros((len(vocab), 0), np.float32)
    lists = ragged(frame["vector"])
    if (lists.count != lists.width).any():
        raise DataError(
            f"item vectors have {lists.count.min()} to {lists.width} numbers; all must be equally long."
        )
    values = np.nan_to_num(numbers(lists.flat).reshape(-1, lists.width), nan=0.0, posinf=0.0, neginf=0.0)
    vectors = np.zeros((len(vocab), lists.width))
    vectors[vocab.encode(frame["item_id"])] = values
    vectors[0] = 0.0
    norms = np.linalg.norm(vectors, axis=1)
    mean = norms[norms > 0].mean() if (norms > 0).any() else 1.0
    return (vectors / mean).astype(np.float32)


def _checked(key: str, frame: pl.DataFrame | None) -> pl.DataFrame:
    what = key.removesuffix("_id") + "s"
    if frame is None:
        return pl.DataFrame({key: pl.Series([], dtype=pl.Null)})
    if key not in frame.columns:
        raise DataError(f"the table of {what} has no column '{key}'; it has: {', '.join(frame.columns)}.")
    frame = frame.filter(pl.col(key).is_not_null())
    if twice := frame[key].filter(frame[key].is_duplicated()).head(1).to_list():
        raise DataError(f"the table of {what} has {key} '{twice[0]}' more than once; keep one row for each.")
    return frame


def _popularity(vocab: Vocab, shown: pl.Series, trained: int) -> NDArray[np.float32]:
    """(I, 1) standardised log(1 + exposures in training); an unknown item has had none."""
    counts = np.bincount(vocab.encode(shown), minlength=len(vocab)).astype(np.float64)
    counts[0] = 0
    mean, scale = moments(np.log1p(counts[1:trained]))
    return standardise(np.log1p(counts), mean, scale)[:, None]


def _table(
    key: str, vocab: Vocab, features: FeatureSet, frame: pl.DataFrame, extra: NDArray[np.float32]
) -> Entities:
    rows = vocab.encode(frame[key])
    numeric = np.zeros((len(vocab), len(features.numeric_names)), np.float32)
    categories = np.zeros((len(vocab), len(features.category_sizes)), np.int32)
    numeric[rows], categories[rows] = features.numeric(frame), features.categories(frame)
    numeric[0], categories[0] = (
        0.0,
        0,
    )  # an id of the table that cannot be an id must not describe the unknown one
    return Entities(
        np.concatenate([numeric, extra], axis=1),
        categories,
        np.zeros((len(vocab), 0), np.float32),
        np.zeros(len(vocab), bool),
    )


def _without_organic(key: str, frame: pl.DataFrame) -> tuple[pl.DataFrame, NDArray[np.bool_] | None]:
    """The table of items without the columns that are no features, and ``organic``; None where there is none (or users)."""
    if key != "item_id":
        return frame, None
    frame = frame.drop(AVAILABLE, strict=False)
    if ORGANIC not in frame.columns:
        return frame, None
    values = frame[ORGANIC]
    numeric = values.dtype in (pl.Boolean, pl.Null) or values.dtype.is_numeric()
    flags = values.cast(pl.Float64) if numeric else pl.Series([2.0])
    if not flags.drop_nulls().is_in([0.0, 1.0]).all():
        raise DataError(
            f"the table of items has a column '{ORGANIC}' of type {values.dtype}, which says whether an item is content "
            "that is never recommended; it must be true or false in every row."
        )
    return frame.drop(ORGANIC), (flags == 1.0).fill_null(False).to_numpy()
