"""From ratings to lists: the k-core, each user's ratings in time order cut into lists, and the split by list.

Shapes, besides the legend in :mod:`slatewise.types`: n interactions, R lists (requests).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.candidates.retrieval import Interactions, Ints, Requests
from slatewise.config import Chance, Frozen, Positive
from slatewise.data import prepared
from slatewise.data.log import Log
from slatewise.errors import DataError

SPLITS = np.array([*prepared.SPLITS, prepared.JUDGES])


class Cut(Frozen):
    """How ratings become lists, the same in every protocol of ratings.

    ``core``: users and items with fewer ratings are dropped, until none is left. ``validation`` and ``test``
    are shares of each user's lists; the last ones test, those before them validate.
    """

    core: Positive = 20
    validation: Chance = 0.1
    test: Chance = 0.2


@dataclass(frozen=True)
class Chunks:
    """Lists cut from ratings, users and items coded by position in ``user_ids`` and ``item_ids``.

    Attributes:
        interactions: ``user_id, item_id, timestamp, feedback`` of the k-core, sorted by user and time; the
            timestamp is the rank within the user, 0 …, so that "before the list" is never a question of ties.
        user_n, item_n, list_n: codes of the same interactions and the list each belongs to, -1 = none.
        user_R: user of each list.   items_RE, rating_RE: its items and their feedback, in time order.
        start_R: timestamp of its first item.   split_R: index into ``SPLITS``.
    """

    user_ids: pl.Series
    item_ids: pl.Series
    interactions: pl.DataFrame
    user_n: Ints
    item_n: Ints
    list_n: Ints
    user_R: Ints
    items_RE: Ints
    rating_RE: NDArray[np.float32]
    start_R: Ints
    split_R: Ints
    counts: dict[str, int]

    def training(self) -> Interactions:
        """The interactions of the training lists, for retrievers."""
        train_n = (self.list_n >= 0) & (self.split_R[self.list_n] == 0)
        every = Interactions(self.user_n, self.item_n, self.list_n, len(self.user_ids), len(self.item_ids))
        return every.take(train_n)

    def requests(self) -> Requests:
        """The lists as requests to retrievers."""
        return Requests(self.user_R, self.items_RE, self.split_R == 0)

    def rated_UI(self) -> NDArray[np.bool_]:
        """Which user rated which item at any time."""
        rated_UI = np.zeros((len(self.user_ids), len(self.item_ids)), dtype=bool)
        rated_UI[self.user_n, self.item_n] = True
        return rated_UI


def cut(log: Log, config: Cut, width: int, positive: float) -> Chunks:
    """Cut a log's interactions into lists of ``width`` consecutive ones, and split them.

    The tail of each user (fewer than ``width``) and lists without a feedback of at least ``positive`` are
    dropped.

    Raises:
        DataError: the log has no interactions, or no list with a positive survives the k-core and the cut.
    """
    if log.interactions is None:
        raise DataError(
            "this protocol cuts lists from ratings, but the log has no interactions; name another protocol."
        )
    ratings = in_order(k_core(log.interactions, config.core))
    user_ids, item_ids = (ratings[name].unique().sort() for name in ("user_id", "item_id"))
    user_n, item_n = _codes(ratings["user_id"], user_ids), _codes(ratings["item_id"], item_ids)
    chunk_RE = _whole_chunks(user_n, width)
    rating_RE = ratings["feedback"].to_numpy()[chunk_RE].astype(np.float32)
    useful_R = np.asarray((rating_RE >= positive).any(axis=1))
    if not useful_R.any():
        raise DataError(
            f"no user has {width} interactions in a row, one of feedback {positive:g} or more, among users "
            f"and items with at least {config.core} each; give more data or a smaller core."
        )
    rows_RE = chunk_RE[useful_R]
    list_n = np.full(len(user_n), -1, dtype=np.int64)
    list_n[rows_RE] = np.arange(len(rows_RE))[:, None]
    user_R = user_n[rows_RE[:, 0]]
    counts = {
        "interactions": ratings.height,
        "users": len(user_ids),
        "items": len(item_ids),
        "chunks": len(chunk_RE),
        "lists": len(rows_RE),
        "interactions left out: sparse users and items": log.interactions.height - ratings.height,
        "interactions left out: tail of a user": len(user_n) - chunk_RE.size,
        "chunks left out: no positive": len(chunk_RE) - len(rows_RE),
    }
    return Chunks(
        user_ids=user_ids,
        item_ids=item_ids,
        interactions=ratings,
        user_n=user_n,
        item_n=item_n,
        list_n=list_n,
        user_R=user_R,
        items_RE=item_n[rows_RE],
        rating_RE=rating_RE[useful_R],
        start_R=ratings["timestamp"].to_numpy()[rows_RE[:, 0]],
        split_R=split(user_R, config),
        counts=counts,
    )


def _whole_chunks(user_n: Ints, width: int) -> Ints:
    """Rows of each whole chunk of ``width`` interactions of a user (R, E); the input is sorted by user."""
    _, first_U, total_U = np.unique(user_n, return_index=True, return_counts=True)
    place_n = np.arange(len(user_n)) - np.repeat(first_U, total_U)
    whole_n = place_n < np.repeat(total_U // width * width, total_U)
    return np.flatnonzero(whole_n).reshape(-1, width)


def k_core(interactions: pl.DataFrame, k: int) -> pl.DataFrame:
    """Drop users and items with fewer than ``k`` interactions, again and again until all have as many."""
    while True:
        before = interactions.height
        for name in ("user_id", "item_id"):
            interactions = interactions.filter(pl.len().over(name) >= k)
        if interactions.height == before:
            return interactions


def in_order(interactions: pl.DataFrame) -> pl.DataFrame:
    """Sort by user and time (ties keep their order); the timestamp becomes the rank within the user."""
    ordered = interactions.sort("user_id", "timestamp", maintain_order=True)
    return ordered.with_columns(timestamp=pl.int_range(pl.len(), dtype=pl.Int64).over("user_id"))


def split(user_R: Ints, config: Cut) -> Ints:
    """Split of each list, given the lists sorted by user and time: the first lists of each user train.

    A user's n lists are cut at the places ``(1 - validation - test) n`` and ``(1 - test) n``, rounded half
    up.
    """
    _, first_U, total_U = np.unique(user_R, return_index=True, return_counts=True)
    place_R = np.arange(len(user_R)) - np.repeat(first_U, total_U)
    split_R = np.zeros(len(user_R), dtype=np.int64)
    for share in (1 - config.validation - config.test, 1 - config.test):
        cut_U = np.floor(share * total_U + 0.5 + 1e-9)  # 0.7 * 5 is below 3.5 in binary
        split_R += place_R >= np.repeat(cut_U, total_U)
    return split_R


def _codes(ids: pl.Series, vocabulary: pl.Series) -> Ints:
    """Position of each id in the sorted ``vocabulary``."""
    return vocabulary.search_sorted(ids).to_numpy().astype(np.int64)
